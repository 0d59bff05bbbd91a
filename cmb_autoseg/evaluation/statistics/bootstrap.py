"""Confidence intervals and paired tests by drawing subjects again and again.

Cases of one subject are not independent, so subjects are drawn, each with all its cases. A draw is a row of
weights, how often each case is in it, so that a figure of pooled counts is a matrix product, and so that several
models are judged on the same draws.

Efron and Tibshirani 1993, An Introduction to the Bootstrap: grouped draws chapter 8; percentile interval chapter
13; bias-corrected and accelerated interval (BCa) chapter 14.
"""

from collections.abc import Hashable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import binomtest

__all__ = [
    "MIN_SUBJECTS",
    "N_RESAMPLES",
    "ROUNDING",
    "acceleration",
    "all_alike",
    "bca_interval",
    "leave_out_weights",
    "percentile_interval",
    "share_interval",
    "single_subject_weights",
    "subject_weights",
    "two_sided_p",
]

N_RESAMPLES = 1000
MIN_SUBJECTS = 2
"""Of whom a figure must be defined; draws of a single one are all alike, and say nothing of how people differ."""
MIN_DEFINED = 0.5
"""Share of draws in which a figure must be defined for an interval to mean anything."""
ROUNDING = 1e-12
"""Values within this of each other, relative, differ by the order of additions alone."""


def subject_weights(subjects: Sequence[Hashable], n_resamples: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """How often each case is in each draw of as many subjects as there are, with replacement.

    Args:
        subjects: of every case.
        n_resamples: number of draws.
        rng: where chance comes from.

    Returns:
        (n_resamples, n_cases); cases of one subject have one weight.
    """
    n_subjects = len(set(subjects))
    if not n_subjects:
        return np.zeros((n_resamples, 0), dtype=np.int64)
    drawn = rng.multinomial(n_subjects, np.full(n_subjects, 1 / n_subjects), size=n_resamples)
    weights: NDArray[np.int64] = drawn[:, _numbers(subjects)]
    return weights


def single_subject_weights(subjects: Sequence[Hashable]) -> NDArray[np.bool_]:
    """(n_subjects, n_cases): each subject taken alone, in the order of their first cases."""
    alone: NDArray[np.bool_] = np.arange(len(set(subjects)))[:, None] == _numbers(subjects)
    return alone


def leave_out_weights(subjects: Sequence[Hashable]) -> NDArray[np.bool_]:
    """(n_subjects, n_cases): all but one subject, for the jackknife; in the order of their first cases."""
    return ~single_subject_weights(subjects)


def _numbers(subjects: Sequence[Hashable]) -> NDArray[np.intp]:
    """(n_cases,): of each case the number of its subject, from 0 in the order of first cases."""
    numbers = {name: index for index, name in enumerate(dict.fromkeys(subjects))}
    return np.array([numbers[name] for name in subjects], dtype=np.intp)


def all_alike(draws: ArrayLike) -> bool:
    """Whether draws differ by rounding alone, if at all; undefined ones (NaN) are left out."""
    values = np.asarray(draws, np.float64)
    defined = values[~np.isnan(values)]
    return bool(len(defined)) and bool(np.ptp(defined) <= ROUNDING * max(1.0, np.abs(defined).max()))


def percentile_interval(draws: ArrayLike, level: float = 0.95) -> tuple[float, float] | None:
    """The middle `level` of a figure's draws; None where it is undefined (NaN) in more than half of them."""
    defined = _defined(draws)
    return None if defined is None else _between(defined, (1 - level) / 2, (1 + level) / 2)


def acceleration(left_out: ArrayLike) -> float:
    """How fast a figure's standard error changes with its true value: Efron and Tibshirani 1993, eq. 14.15.

    Args:
        left_out: (n_subjects,), the figure without each subject in turn.

    Returns:
        NaN where no subject changes the figure, or where it is undefined without one of them.
    """
    values = np.asarray(left_out, np.float64)
    away = values.mean() - values if len(values) else np.full(1, np.nan)
    spread = np.sqrt((away**2).sum())
    if not spread > ROUNDING * np.linalg.norm(values):
        return float("nan")
    return float((away**3).sum() / (6 * spread**3))


def bca_interval(
    value: float, draws: ArrayLike, left_out: ArrayLike, level: float = 0.95
) -> tuple[float, float] | None:
    """Interval corrected for the bias and the skewness of the draws: Efron and Tibshirani 1993, eq. 14.9 to 14.15.

    Draws that equal the value count half to either side, as figures of counts often do.

    Args:
        value: the figure of the cases as they are.
        draws: (n_resamples,); undefined ones are NaN and are left out.
        left_out: (n_subjects,), the figure without each subject in turn.
        level: share of studies like this one whose interval holds the true value.

    Returns:
        None where the figure is undefined in more than half of the draws, where all draws lie on one side of it, and
        where `acceleration` is undefined.
    """
    defined, skewness = _defined(draws), acceleration(left_out)
    if defined is None or np.isnan(value) or np.isnan(skewness):
        return None
    equal = np.isclose(defined, value, rtol=ROUNDING, atol=ROUNDING)
    below = (np.count_nonzero((defined < value) & ~equal) + np.count_nonzero(equal) / 2) / len(defined)
    if not 0 < below < 1:
        return None
    bias = ndtri(below)
    shifted = bias + ndtri([(1 - level) / 2, (1 + level) / 2])
    if (shifted * skewness >= 1).any():
        return None
    low, high = ndtr(bias + shifted / (1 - skewness * shifted))
    return _between(defined, float(low), float(high))


def share_interval(
    n_right: int, n_subjects: int, level: float = 0.95, method: Literal["wilson", "exact"] = "wilson"
) -> tuple[float, float]:
    """Interval of a share to which every subject contributes one trial.

    Args:
        n_right: subjects that count.
        n_subjects: all of them.
        level: of the interval.
        method: the score interval of Wilson 1927, Journal of the American Statistical Association 22:209, or the exact
            and cautious one of Clopper and Pearson 1934, Biometrika 26:404.
    """
    found = binomtest(n_right, n_subjects).proportion_ci(level, method=method)
    return float(found.low), float(found.high)


def _between(values: NDArray[np.float64], low: float, high: float) -> tuple[float, float]:
    lower, upper = np.quantile(values, [low, high])
    return float(lower), float(upper)


def _defined(draws: ArrayLike) -> NDArray[np.float64] | None:
    """Draws that are not NaN; None where these are fewer than `MIN_DEFINED` of all."""
    values = np.asarray(draws, np.float64)
    defined = values[~np.isnan(values)]
    return None if len(defined) < max(1.0, MIN_DEFINED * len(values)) else defined


def two_sided_p(differences: ArrayLike) -> float | None:
    """Achieved significance level that a paired difference is 0: twice the smaller share of draws on a side of 0.

    It is below 0.05 where the percentile interval of 95 % leaves 0 out, but for cases in which 0 lies between the two
    draws that an end of the interval is interpolated from; and never 0, as one is added to both counts (Davison and
    Hinkley 1997, Bootstrap Methods and their Application, 4.2.3).

    Args:
        differences: of the figure in every draw; undefined ones are NaN.
    """
    defined = _defined(differences)
    if defined is None:
        return None
    smaller = min(np.count_nonzero(defined <= 0), np.count_nonzero(defined >= 0))
    return min(1.0, 2 * (int(smaller) + 1) / (len(defined) + 1))
