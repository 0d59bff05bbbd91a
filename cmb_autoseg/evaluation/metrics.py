"""Every figure of `metrics.json`, from scored cases. Definitions: docs/reference/metrics.md.

A figure that is undefined for the cases at hand says why instead of being 0 or NaN.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import model_serializer
from scipy.stats import spearmanr

from cmb_autoseg.evaluation.scores import NO_VOXELS, CaseScore, VoxelCounts
from cmb_autoseg.records import Record

__all__ = ["Figure", "f1_of", "icc_agreement", "pooled_metrics", "ratio", "subject_f1"]

NO_LESION = "no reference lesion"
NO_PREDICTION = "no predicted lesion"
NOT_YET = "not computed by this version"
MIN_CASES_FOR_RANKS = 3


class Figure(Record):
    """One number of a report, or the reason why there is none."""

    value: float | None
    ci: tuple[float, float] | None = None
    """95 % confidence interval; None where not computed."""
    why: str | None = None

    @model_serializer
    def _as_json(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"value": self.value, "ci": self.ci}
        return shown if self.value is not None else {**shown, "why": self.why}


def undefined(why: str) -> Figure:
    return Figure(value=None, why=why)


def ratio(part: float, whole: float, why_none: str) -> Figure:
    """`part / whole`; undefined, with the reason, where `whole` is 0."""
    return Figure(value=part / whole) if whole else undefined(why_none)


def f1_of(sensitivity: Figure, precision: Figure) -> Figure:
    """Harmonic mean of both; 0 where lesions exist and none is predicted, undefined without a lesion."""
    if sensitivity.value is None:
        return undefined(sensitivity.why or NO_LESION)
    if precision.value is None or sensitivity.value + precision.value == 0:
        return Figure(value=0.0)
    return Figure(value=2 * sensitivity.value * precision.value / (sensitivity.value + precision.value))


def subject_f1(score: CaseScore) -> Figure:
    """Lesion F1 of one case: undefined where the reference is empty, 0 where only the prediction is."""
    return f1_of(*_sensitivity_precision([score]))


def pooled_metrics(scores: Sequence[CaseScore]) -> dict[str, Any]:
    """The groups `lesion`, `voxel`, `count` and `patient`: name to `Figure`, `froc` to plain lists."""
    return {
        "lesion": _lesion_metrics(scores),
        "voxel": _voxel_metrics(scores),
        "count": _count_metrics(scores),
        "patient": {name: undefined(NOT_YET) for name in ("sensitivity", "specificity", "balanced_accuracy", "auc")},
    }


def _sensitivity_precision(scores: Sequence[CaseScore]) -> tuple[Figure, Figure]:
    matches = [score.matches for score in scores]
    return (
        ratio(sum(m.hits for m in matches), sum(score.n_reference for score in scores), NO_LESION),
        ratio(sum(m.matched_predictions for m in matches), sum(score.n_predicted for score in scores), NO_PREDICTION),
    )


def _lesion_metrics(scores: Sequence[CaseScore]) -> dict[str, Any]:
    negative = [score for score in scores if score.n_reference == 0]
    sensitivity, precision = _sensitivity_precision(scores)
    per_subject = [subject_f1(score) for score in scores]
    return {
        "sensitivity": sensitivity,
        "precision": precision,
        "f1": f1_of(sensitivity, precision),
        "f1_per_subject_median": _over_cases(np.median, per_subject, NO_LESION),
        "f1_per_subject_mean": _over_cases(np.mean, per_subject, NO_LESION),
        "fp_per_scan": ratio(_false_positives(scores), len(scores), "no scored case"),
        "fp_per_negative_scan": ratio(_false_positives(negative), len(negative), "no lesion-free scan"),
        "auc": undefined(NOT_YET),
        "froc": {"fp_per_scan": None, "sensitivity": None, "why": NOT_YET},
    }


def _false_positives(scores: Sequence[CaseScore]) -> int:
    return sum(score.matches.false_positives for score in scores)


def _over_cases(summary: Callable[[list[float]], Any], figures: Sequence[Figure], why_none: str) -> Figure:
    values = [figure.value for figure in figures if figure.value is not None]
    return Figure(value=float(summary(values))) if values else undefined(why_none)


def dice(voxels: VoxelCounts) -> Figure:
    both = 2 * voxels.true_positive
    return ratio(both, both + voxels.false_positive + voxels.false_negative, "no voxel marked or predicted")


def _voxel_metrics(scores: Sequence[CaseScore]) -> dict[str, Any]:
    pooled = sum((score.voxels for score in scores), NO_VOXELS)
    tp, fp, fn, tn = (pooled.true_positive, pooled.false_positive, pooled.false_negative, pooled.true_negative)
    of_hits = [pair.dice for score in scores for pair in score.matches.pairs]
    return {
        "dice": dice(pooled),
        "dice_per_case_mean": _over_cases(
            np.mean, [dice(score.voxels) for score in scores], "no voxel marked or predicted"
        ),
        "dice_of_hits": ratio(sum(of_hits), len(of_hits), "no lesion was found"),
        "jaccard": ratio(tp, tp + fp + fn, "no voxel marked or predicted"),
        "precision": ratio(tp, tp + fp, "no voxel predicted"),
        "recall": ratio(tp, tp + fn, "no voxel marked"),
        "specificity": ratio(tn, tn + fp, "no voxel outside the marked ones"),
        "auc": undefined(NOT_YET),
    }


def _count_metrics(scores: Sequence[CaseScore]) -> dict[str, Any]:
    # (case, side): side 0 is the prediction, side 1 the reference.
    counts = np.array([(score.n_predicted, score.n_reference) for score in scores], dtype=np.float64).reshape(-1, 2)
    errors = counts[:, 0] - counts[:, 1]
    return {
        "mean_absolute_error": ratio(float(np.abs(errors).sum()), len(errors), "no scored case"),
        "bias": ratio(float(errors.sum()), len(errors), "no scored case"),
        "spearman": _spearman(counts),
        "icc": icc_agreement(counts),
    }


def _spearman(counts: NDArray[np.float64]) -> Figure:
    if len(counts) < MIN_CASES_FOR_RANKS:
        return undefined(f"fewer than {MIN_CASES_FOR_RANKS} cases")
    if np.any(np.ptp(counts, axis=0) == 0):
        return undefined("all cases have the same count on one side")
    return Figure(value=float(spearmanr(counts[:, 0], counts[:, 1]).statistic))


def icc_agreement(ratings: NDArray[np.float64]) -> Figure:
    """Intraclass correlation ICC(2,1): two-way random effects, absolute agreement, one rating.

    Shrout and Fleiss 1979, Psychological Bulletin 86:420.

    Args:
        ratings: (case, rater).
    """
    n, k = ratings.shape
    if n < MIN_CASES_FOR_RANKS:
        return undefined(f"fewer than {MIN_CASES_FOR_RANKS} cases")
    grand = ratings.mean()
    between_cases = k * np.sum((ratings.mean(axis=1) - grand) ** 2)
    between_raters = n * np.sum((ratings.mean(axis=0) - grand) ** 2)
    residual = np.sum((ratings - grand) ** 2) - between_cases - between_raters
    ms_cases = between_cases / (n - 1)
    ms_raters = between_raters / (k - 1)
    ms_residual = residual / ((n - 1) * (k - 1))
    spread = ms_cases + (k - 1) * ms_residual + k * (ms_raters - ms_residual) / n
    if spread <= 0:
        return undefined("all counts are equal")
    return Figure(value=float((ms_cases - ms_residual) / spread))
