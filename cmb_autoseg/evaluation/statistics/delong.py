"""Areas under ROC curves compared without a bootstrap: variances by DeLong's structural components.

DeLong, DeLong and Clarke-Pearson 1988, Biometrics 44:837; in O(n log n) by mid-ranks: Sun and Xu 2014, IEEE Signal
Processing Letters 21:1389. Where subjects have several cases, components are summed by subject: Obuchowski 1997,
Biometrics 53:567; with one case a subject, this is DeLong's variance.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit
from scipy.stats import norm, rankdata

from cmb_autoseg.errors import InputError

__all__ = ["AreaDifference", "AreaUnderCurve", "delong_area", "delong_covariance", "delong_test", "stacked"]


@dataclass(frozen=True)
class AreaUnderCurve:
    """One area under the ROC curve, ties counting half."""

    auc: float
    variance: float
    ci: tuple[float, float] | None
    """On the logit scale, so that it stays within 0 and 1; None where the area is 0 or 1, which has no variance."""


@dataclass(frozen=True)
class AreaDifference:
    """Two areas of the same cases."""

    first: float
    second: float
    difference: float
    """First less second."""
    ci: tuple[float, float]
    p: float
    """Two-sided; 1 where the areas and their components are the same."""
    correlation: float | None
    """Of the two areas; None where one of them has no variance."""


def delong_covariance(
    scores: ArrayLike, truth: ArrayLike, subjects: Sequence[Hashable] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Areas of several systems on the same cases and their covariance matrix.

    Args:
        scores: (n_systems, n_cases), the higher the more suspicious.
        truth: (n_cases,), whether a case is positive.
        subjects: (n_cases,), of every case, where a subject has several; None where all differ.

    Returns:
        (n_systems,) and (n_systems, n_systems).

    Raises:
        InputError: shapes that do not fit, scores that are not numbers, or fewer than two subjects with positive or
            with negative cases.
    """
    scored, positive = _checked(scores, truth)
    cases = (
        np.arange(len(positive)) if subjects is None else np.unique(list(map(str, subjects)), return_inverse=True)[1]
    )
    if len(cases) != len(positive):
        raise InputError(f"DeLong: {len(cases)} subjects of {len(positive)} cases; give one a case")
    for name, chosen in (("positive", positive), ("negative", ~positive)):
        if len(np.unique(cases[chosen])) < 2:
            raise InputError(f"DeLong: fewer than two subjects with {name} cases; the variance needs two of each kind")
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    areas, of_positive, of_negative = _components(scored, positive)
    sums_positive = _summed(of_positive - areas[:, None], cases[positive], cases.max() + 1)
    sums_negative = _summed(of_negative - areas[:, None], cases[~positive], cases.max() + 1)
    covariance = (
        _product(sums_positive, sums_positive, cases[positive]) / n_positive**2
        + _product(sums_negative, sums_negative, cases[~positive]) / n_negative**2
    )
    crossed = _product(sums_positive, sums_negative, cases) / (n_positive * n_negative)
    has_both = np.intersect1d(cases[positive], cases[~positive]).size > 0
    return areas, covariance + (crossed + crossed.T if has_both else 0.0)


def delong_area(
    scores: ArrayLike, truth: ArrayLike, subjects: Sequence[Hashable] | None = None, level: float = 0.95
) -> AreaUnderCurve:
    """One area with its variance and interval.

    Args:
        scores: (n_cases,), the higher the more suspicious.
        truth: (n_cases,), whether a case is positive.
        subjects: (n_cases,), of every case, where a subject has several.
        level: of the interval.

    Raises:
        InputError: as `delong_covariance`.
    """
    areas, covariance = delong_covariance(np.asarray(scores, np.float64)[None], truth, subjects)
    auc, variance = float(areas[0]), float(covariance[0, 0])
    if not 0 < auc < 1:
        return AreaUnderCurve(auc, variance, None)
    reach = norm.ppf((1 + level) / 2) * np.sqrt(variance) / (auc * (1 - auc))
    low, high = expit(logit(auc) + np.array([-reach, reach]))
    return AreaUnderCurve(auc, variance, (float(low), float(high)))


def delong_test(
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    truth: ArrayLike,
    subjects: Sequence[Hashable] | None = None,
    level: float = 0.95,
) -> AreaDifference:
    """Whether two systems' areas on the same cases differ.

    Args:
        scores_a: (n_cases,), of the first system.
        scores_b: (n_cases,), of the second one.
        truth: (n_cases,), whether a case is positive.
        subjects: (n_cases,), of every case, where a subject has several.
        level: of the interval.

    Raises:
        InputError: as `delong_covariance`.
    """
    areas, covariance = delong_covariance(stacked(scores_a, scores_b), truth, subjects)
    difference, contrast = float(areas[0] - areas[1]), np.array([1.0, -1.0])
    error = float(np.sqrt(max(0.0, contrast @ covariance @ contrast)))
    reach = float(norm.ppf((1 + level) / 2)) * error
    z = abs(difference) / error if error > 0 else (0.0 if difference == 0 else np.inf)
    spread = np.sqrt(covariance[0, 0] * covariance[1, 1])
    correlation = float(covariance[0, 1] / spread) if spread > 0 else None
    ci = (difference - reach, difference + reach)
    return AreaDifference(float(areas[0]), float(areas[1]), difference, ci, float(2 * norm.sf(z)), correlation)


def stacked(scores_a: ArrayLike, scores_b: ArrayLike) -> NDArray[np.float64]:
    """(2, n_cases), of two systems.

    Raises:
        InputError: they have scores of different numbers of cases.
    """
    pair = [np.asarray(scores, np.float64) for scores in (scores_a, scores_b)]
    if pair[0].shape != pair[1].shape:
        raise InputError(f"DeLong: scores of {pair[0].size} and {pair[1].size} cases; compare the same cases")
    return np.stack(pair)


def _checked(scores: ArrayLike, truth: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    scored, positive = np.asarray(scores, np.float64), np.asarray(truth, bool)
    if scored.ndim != 2 or positive.shape != scored.shape[1:]:
        raise InputError(f"DeLong: scores of shape {scored.shape} and truth of {positive.shape}; give one truth a case")
    if np.isnan(scored).any():
        raise InputError("DeLong: a case has no score; leave it out, or give it the lowest one")
    return scored, positive


def _components(
    scores: NDArray[np.float64], positive: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Areas; of each positive case the share of negative ones that it beats, and the other way about."""
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    ranks = rankdata(scores, axis=1)
    of_positive = (ranks[:, positive] - rankdata(scores[:, positive], axis=1)) / n_negative
    of_negative = 1 - (ranks[:, ~positive] - rankdata(scores[:, ~positive], axis=1)) / n_positive
    return of_positive.mean(axis=1), of_positive, of_negative


def _summed(components: NDArray[np.float64], subjects: NDArray[np.intp], n_subjects: int) -> NDArray[np.float64]:
    """(n_systems, n_subjects)."""
    return np.stack([np.bincount(subjects, row, minlength=n_subjects) for row in components])


def _product(
    first: NDArray[np.float64], second: NDArray[np.float64], subjects: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Sums of products over subjects, corrected for how many of them there are."""
    n_subjects = len(np.unique(subjects))
    product: NDArray[np.float64] = first @ second.T * (n_subjects / (n_subjects - 1))
    return product
