"""Figures about lesions: how many were found, and how many predicted ones are wrong."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cmb_autoseg.evaluation.case_score import CaseScore
from cmb_autoseg.evaluation.metrics.confidences import (
    NO_CONFIDENCE,
    RankedCandidates,
    mean_probabilities,
    ranked_candidates,
)
from cmb_autoseg.evaluation.metrics.division import divided
from cmb_autoseg.evaluation.metrics.figure import Statistic, Values, Weights, mean_of_defined, proportion, share
from cmb_autoseg.evaluation.metrics.joint import in_blocks, never, together
from cmb_autoseg.evaluation.metrics.ranking import area_under_roc, at_most, average_precision, rank

__all__ = [
    "FROC_LIMIT",
    "FROC_POINTS",
    "NO_LESION",
    "NO_PREDICTION",
    "case_f1",
    "f1_of",
    "lesion_statistics",
    "median_of_defined",
]

NO_LESION = "no reference lesion"
NO_PREDICTION = "no predicted lesion"
FROC_POINTS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives per scan at which sensitivity is told; their mean is the score of LUNA16 (Setio et al. 2017)."""
FROC_LIMIT = 8.0
"""False positives per scan up to which the area is taken."""


def f1_of(found: ArrayLike, n_reference: ArrayLike, right: ArrayLike, false: ArrayLike) -> NDArray[np.float64]:
    """Harmonic mean of sensitivity and precision; 0 where lesions exist and none is predicted or found.

    Args:
        found: reference lesions that were found, of any shape.
        n_reference: reference lesions.
        right: predicted lesions that belong to a reference lesion.
        false: predicted lesions that are false positives.

    Returns:
        Of the same shape; NaN where there is no reference lesion.
    """
    found, n_reference, right, false = (np.asarray(a, np.float64) for a in (found, n_reference, right, false))
    # found/n and right/(right + false) have the harmonic mean 2 found right / (found (right + false) + n right).
    below = found * (right + false) + n_reference * right
    f1 = divided(2 * found * right, below, 0.0)
    f1[n_reference <= 0] = np.nan
    return f1


def case_f1(cases: Sequence[CaseScore], protocol: str) -> NDArray[np.float64]:
    """(n_cases,): lesion F1 of each case; NaN where its reference is empty."""
    found, right, false, n_reference = _counts(cases, protocol).T
    return f1_of(found, n_reference, right, false)


def median_of_defined(values: ArrayLike, why_none: str) -> Statistic:
    """Median over cases of their own value, (n_cases,); cases without one (NaN) are left out."""
    own = np.asarray(values, np.float64)
    order = np.argsort(own, kind="stable")[: np.count_nonzero(~np.isnan(own))]  # NaN comes last
    rising = own[order]

    def of(weights: Weights) -> Values:
        if len(order) == 0:
            return np.full(len(weights), np.nan)
        reached = np.cumsum(weights[:, order], axis=1)
        half = reached[:, -1:] / 2
        middle = (rising[np.argmax(reached >= half, axis=1)] + rising[np.argmax(reached > half, axis=1)]) / 2
        return np.where(reached[:, -1] > 0, middle, np.nan)

    return Statistic(of, why_none, len(own))


def lesion_statistics(cases: Sequence[CaseScore], protocol: str) -> dict[str, Statistic]:
    """Every figure of the group `lesion`, by its key; `froc` is a curve and not here."""
    found, right, false, n_reference = _counts(cases, protocol).T
    negative = n_reference == 0
    own_f1 = f1_of(found, n_reference, right, false)

    def f1(weights: Weights) -> Values:
        return f1_of(weights @ found, weights @ n_reference, weights @ right, weights @ false)

    return {
        "sensitivity": proportion(found, n_reference, NO_LESION),
        "precision": proportion(right, right + false, NO_PREDICTION),
        "f1": Statistic(f1, NO_LESION, len(cases)),
        "f1_per_subject_median": median_of_defined(own_f1, NO_LESION),
        "f1_per_subject_mean": mean_of_defined(own_f1, NO_LESION),
        "fp_per_scan": share(false, np.ones(len(cases)), "no scored case"),
        "fp_per_lesion": share(false, n_reference, NO_LESION),
        "fp_per_negative_scan": share(false * negative, negative, "no lesion-free scan"),
        **_areas(cases, protocol),
        **_curve_figures(ranked_candidates(cases, protocol), len(cases)),
    }


def _counts(cases: Sequence[CaseScore], protocol: str) -> NDArray[np.float64]:
    """(n_cases, 4): found, right, false, references."""
    rows = [(*case.counts(protocol), len(case.reference)) for case in cases]
    return np.array(rows, dtype=np.float64).reshape(-1, 4)


def _areas(cases: Sequence[CaseScore], protocol: str) -> dict[str, Statistic]:
    """ROC areas of the candidates' mean probability, without and with the missed lesions."""
    per_case = [mean_probabilities(case, protocol) for case in cases]
    if not any(case.candidates is not None and case.candidates.mean_probability is not None for case in cases):
        return {key: never(NO_CONFIDENCE, len(cases)) for key in ("auc", "auc_with_misses")}
    right, false = [scores[0] for scores in per_case], [scores[1] for scores in per_case]
    with_misses = [np.concatenate([own, np.zeros(n_missed)]) for own, _, n_missed in per_case]
    return {
        "auc": _area(right, false, "no right or no false candidate"),
        "auc_with_misses": _area(with_misses, false, "no reference lesion or no false candidate"),
    }


def _area(right: Sequence[ArrayLike], false: Sequence[ArrayLike], why_none: str) -> Statistic:
    ranking = rank(right, false).shortened

    def of(weights: Weights) -> Values:
        return area_under_roc(*ranking.counts(weights))

    return Statistic(lambda w: in_blocks(of, w, len(ranking.thresholds)), why_none, len(right))


def _curve_figures(candidates: RankedCandidates | None, n_cases: int) -> dict[str, Statistic]:
    why_none = {
        "average_precision": NO_LESION,
        "froc_area": NO_LESION,
        **{f"sensitivity_at_fp_{x:g}": NO_LESION for x in FROC_POINTS},
        "froc_score": NO_LESION,
    }
    if candidates is None:
        return {key: never(NO_CONFIDENCE, n_cases) for key in why_none}

    ranking = candidates.ranking.shortened

    def of(weights: Weights) -> NDArray[np.float64]:
        right, false = ranking.counts(weights)
        n_reference, n_scans = weights @ candidates.n_reference, weights @ candidates.has_confidence
        at_points = divided(at_most(right, false, np.outer(n_scans, FROC_POINTS)), n_reference[:, None])
        areas = [average_precision(right, false, n_reference), divided(_froc_area(right, false, n_scans), n_reference)]
        return np.column_stack([*areas, at_points, at_points.mean(axis=1)])

    return together(lambda w: in_blocks(of, w, len(ranking.thresholds)), why_none, n_cases)


def _froc_area(right: NDArray[np.float64], false: NDArray[np.float64], n_scans: Values) -> Values:
    """Mean number found over 0 to `FROC_LIMIT` false positives per scan, each as the best threshold allows."""
    end = FROC_LIMIT * n_scans
    reached = np.minimum(np.concatenate([false, end[:, None]], axis=1), end[:, None])
    return divided(np.sum(right * np.diff(reached, axis=1), axis=1), end)
