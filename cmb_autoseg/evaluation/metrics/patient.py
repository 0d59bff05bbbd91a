"""Figures about people: who has microbleeds, who several, who many."""

from collections.abc import Mapping, Sequence

import numpy as np

from cmb_autoseg.evaluation.case_score import CaseScore
from cmb_autoseg.evaluation.metrics.confidences import NO_CONFIDENCE
from cmb_autoseg.evaluation.metrics.figure import Statistic, Values, Weights, proportion
from cmb_autoseg.evaluation.metrics.joint import in_blocks, never
from cmb_autoseg.evaluation.metrics.ranking import Ranking, area_under_roc, rank

__all__ = ["RULES", "lesion_counts", "patient_counts", "patient_ranking", "patient_statistics"]

RULES: Mapping[str, int] = {"any": 1, "two_or_more": 2, "more_than_4": 5, "more_than_10": 11}
"""Least number of lesions that makes a case positive, by the rule's name."""


def lesion_counts(cases: Sequence[CaseScore]) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """(n_cases, 2): predicted and reference lesions of each case."""
    return np.array([(len(case.predicted), len(case.reference)) for case in cases], np.int64).reshape(-1, 2)


def patient_counts(cases: Sequence[CaseScore], rule: str = "any") -> dict[str, int]:
    """True and false positives and negatives: cases by predicted and reference number of lesions."""
    predicted, reference = (lesion_counts(cases) >= RULES[rule]).T
    return {
        "true_positives": int(np.count_nonzero(predicted & reference)),
        "false_positives": int(np.count_nonzero(predicted & ~reference)),
        "false_negatives": int(np.count_nonzero(~predicted & reference)),
        "true_negatives": int(np.count_nonzero(~predicted & ~reference)),
    }


def patient_statistics(cases: Sequence[CaseScore]) -> dict[str, Statistic]:
    """Figures of every rule; those of `any` by their plain names, others as in `more_than_4_sensitivity`."""
    return {
        name if rule == "any" else f"{rule}_{name}": statistic
        for rule, least in RULES.items()
        for name, statistic in _rule_statistics(cases, least).items()
    }


def patient_ranking(cases: Sequence[CaseScore], least: int) -> Ranking | None:
    """Cases by the confidence that they have at least so many lesions: that of the candidate in this place.

    A case with fewer candidates has 0. Cases without confidences are left out; None where there is no other.
    """
    scores = [_kth_highest(case, least) for case in cases]
    if all(score is None for score in scores):
        return None
    own = [[] if score is None else [score] for score in scores]
    positive = [len(case.reference) >= least for case in cases]
    return rank(
        [score if case_is else [] for score, case_is in zip(own, positive, strict=True)],
        [[] if case_is else score for score, case_is in zip(own, positive, strict=True)],
    )


def _kth_highest(case: CaseScore, k: int) -> float | None:
    if case.candidates is None or case.candidates.confidence is None:
        return None
    confidence = case.candidates.confidence
    return float(np.sort(confidence)[-k]) if len(confidence) >= k else 0.0


def _rule_statistics(cases: Sequence[CaseScore], least: int) -> dict[str, Statistic]:
    predicted, reference = (lesion_counts(cases) >= least).T
    lesions = "a lesion" if least == 1 else f"{least} or more lesions"
    no_positive, no_negative = f"no case with {lesions} in the reference", f"all cases have {lesions} in the reference"
    sensitivity = proportion(predicted & reference, reference, no_positive)
    specificity = proportion(~predicted & ~reference, ~reference, no_negative)

    def balanced_accuracy(weights: Weights) -> Values:
        return (sensitivity.of(weights) + specificity.of(weights)) / 2

    one_side = no_negative if reference.all() else no_positive
    return {
        "sensitivity": sensitivity,
        "specificity": specificity,
        "balanced_accuracy": Statistic(balanced_accuracy, one_side, len(cases)),
        "precision": proportion(predicted & reference, predicted, f"no case predicted to have {lesions}"),
        "false_positive_rate": proportion(predicted & ~reference, ~reference, no_negative),
        "false_negative_rate": proportion(~predicted & reference, reference, no_positive),
        "auc": _area(patient_ranking(cases, least), one_side, len(cases)),
    }


def _area(ranking: Ranking | None, why_none: str, n_cases: int) -> Statistic:
    if ranking is None:
        return never(NO_CONFIDENCE, n_cases)
    short = ranking.shortened

    def of(weights: Weights) -> Values:
        return area_under_roc(*short.counts(weights))

    return Statistic(lambda w: in_blocks(of, w, len(short.thresholds)), why_none, n_cases)
