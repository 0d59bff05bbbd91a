"""Confidence intervals and paired tests by drawing subjects again and again.

Cases of one subject are not independent, so subjects are drawn, each with all its cases. A draw is a row of
weights, how often each case is in it, so that a figure of pooled counts is a matrix product, and so that several
models are judged on the same draws.

Efron and Tibshirani 1993, An Introduction to the Bootstrap: percentile interval chapter 13; grouped draws
chapter 8. Holm 1979, Scandinavian Journal of Statistics 6:65.
"""

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["MIN_SUBJECTS", "N_RESAMPLES", "holm", "percentile_interval", "subject_weights", "two_sided_p"]

N_RESAMPLES = 1000
MIN_SUBJECTS = 2
"""Of whom a figure must be defined; draws of a single one are all alike, and say nothing of how people differ."""
MIN_DEFINED = 0.5
"""Share of draws in which a figure must be defined for an interval to mean anything."""


def subject_weights(subjects: Sequence[Hashable], n_resamples: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """How often each case is in each draw of as many subjects as there are, with replacement.

    Args:
        subjects: of every case.
        n_resamples: number of draws.
        rng: where chance comes from.

    Returns:
        (n_resamples, n_cases); cases of one subject have one weight.
    """
    names = list(dict.fromkeys(subjects))
    number = {name: index for index, name in enumerate(names)}
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=n_resamples)
    weights: NDArray[np.int64] = drawn[:, [number[name] for name in subjects]]
    return weights


def percentile_interval(draws: ArrayLike, level: float = 0.95) -> tuple[float, float] | None:
    """The middle `level` of a figure's draws; None where it is undefined (NaN) in more than half of them."""
    values = np.asarray(draws, np.float64)
    defined = values[~np.isnan(values)]
    if len(defined) < max(1.0, MIN_DEFINED * len(values)):
        return None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def two_sided_p(differences: ArrayLike) -> float | None:
    """Achieved significance level that a paired difference is 0: twice the smaller share of draws on a side of 0.

    It is below 0.05 just when the percentile interval of 95 % leaves 0 out, and never 0, as one is
    added to both counts (Davison and Hinkley 1997, Bootstrap Methods and their Application, 4.2.3).

    Args:
        differences: of the figure in every draw; undefined ones are NaN.
    """
    values = np.asarray(differences, np.float64)
    defined = values[~np.isnan(values)]
    if len(defined) < max(1.0, MIN_DEFINED * len(values)):
        return None
    smaller = min(np.count_nonzero(defined <= 0), np.count_nonzero(defined >= 0))
    return min(1.0, 2 * (int(smaller) + 1) / (len(defined) + 1))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment of the tests of one family; None stays None and does not count."""
    order = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, index) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p))
        adjusted[index] = highest
    return adjusted
