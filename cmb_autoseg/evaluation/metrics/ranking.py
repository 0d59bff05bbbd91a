"""Scored items of all cases in order of falling score: what every curve and every area is read from.

Items of one score come together, as no threshold tells them apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from cmb_autoseg.evaluation.metrics.division import divided
from cmb_autoseg.evaluation.metrics.figure import Values, Weights

__all__ = ["Ranking", "area_under_roc", "at_most", "average_precision", "pooled_precision", "rank"]


@dataclass(frozen=True)
class Ranking:
    """How many items of each case have each score."""

    thresholds: NDArray[np.float64]
    """(n_thresholds,): every score there is, falling."""
    positive: csr_array
    """(n_cases, n_thresholds): items that are right."""
    negative: csr_array
    """(n_cases, n_thresholds): items that are false."""

    def counts(self, weights: Weights) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Right and false items at or above each threshold, (n_draws, n_thresholds) each."""
        right, false = (np.ascontiguousarray(weights @ side) for side in (self.positive, self.negative))
        return np.cumsum(right, axis=1, out=right), np.cumsum(false, axis=1, out=false)

    @cached_property
    def shortened(self) -> "Ranking":
        """The same with one threshold, the last, for each run of thresholds that only false items have.

        No area, no step of a curve changes, in any draw, and most items are false.
        """
        has_right = np.diff(self.positive.tocsc().indptr) > 0
        kept = np.flatnonzero(has_right | np.append(has_right[1:], True))
        return Ranking(self.thresholds[kept], _merged(self.positive, kept), _merged(self.negative, kept))


def _merged(table: csr_array, kept: NDArray[np.intp]) -> csr_array:
    """Columns moved to the first kept one that is not before them."""
    entries = table.tocoo()
    columns = np.searchsorted(kept, entries.coords[1])
    return csr_array((entries.data, (entries.coords[0], columns)), shape=(table.shape[0], len(kept)))


def rank(positive: Sequence[ArrayLike], negative: Sequence[ArrayLike]) -> Ranking:
    """Rank the scores of right and of false items, one sequence of scores a case on each side; none may be NaN."""
    sides = [[np.asarray(scores, np.float64).ravel() for scores in side] for side in (positive, negative)]
    pooled = [np.concatenate([*side, np.empty(0)]) for side in sides]
    falling = np.unique(np.concatenate(pooled))[::-1]
    shape = (len(sides[0]), len(falling))

    def table(side: list[NDArray[np.float64]], scores: NDArray[np.float64]) -> csr_array:
        case = np.repeat(np.arange(len(side)), [len(own) for own in side])
        column = len(falling) - 1 - np.searchsorted(falling[::-1], scores)
        return csr_array((np.ones(len(scores)), (case, column)), shape=shape)

    return Ranking(falling, table(sides[0], pooled[0]), table(sides[1], pooled[1]))


def area_under_roc(right: NDArray[np.float64], false: NDArray[np.float64]) -> Values:
    """Chance that a right item has a higher score than a false one; ties count half.

    Mann and Whitney 1947, Annals of Mathematical Statistics 18:50.

    Args:
        right: (n_draws, n_thresholds), of `Ranking.counts`.
        false: likewise.

    Returns:
        (n_draws,); NaN where a side has no item.
    """
    if right.shape[1] == 0:
        return np.full(len(right), np.nan)
    steps = np.diff(false, axis=1, prepend=0.0)
    # A false item loses against every right one above it, and against half of those that share its score.
    won = np.sum(steps * (right - np.diff(right, axis=1, prepend=0.0) / 2), axis=1)
    pairs = right[:, -1] * false[:, -1]
    return divided(won, pairs)


def average_precision(right: NDArray[np.float64], false: NDArray[np.float64], n_positive: Values) -> Values:
    """Sum over thresholds of the precision there times the step in recall, as scikit-learn and PI-CAI have it.

    Args:
        right: (n_draws, n_thresholds), of `Ranking.counts`.
        false: likewise.
        n_positive: (n_draws,), those included that have no score and are never recalled.

    Returns:
        (n_draws,); NaN where nothing is positive.
    """
    steps, called = np.diff(right, axis=1, prepend=0.0), right + false
    return divided(np.sum(steps * divided(right, called, 0.0), axis=1), n_positive)


def pooled_precision(scores: NDArray[np.float64], is_right: NDArray[np.bool_], n_positive: int) -> float:
    """Average precision of the items of all cases together; NaN where nothing is positive.

    Args:
        scores: (n,), none NaN.
        is_right: (n,).
        n_positive: those included that have no score and are never recalled.
    """
    counts = rank([scores[is_right]], [scores[~is_right]]).counts(np.ones((1, 1)))
    return float(average_precision(*counts, np.array([float(n_positive)]))[0])


def at_most(right: NDArray[np.float64], false: NDArray[np.float64], limits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Most right items at any threshold with no more than so many false ones; 0 where none has so few.

    Args:
        right: (n_draws, n_thresholds), of `Ranking.counts`.
        false: likewise.
        limits: (n_draws, n_limits), rising or not.

    Returns:
        (n_draws, n_limits).
    """
    most = np.zeros(limits.shape)
    for own, found, wrong, allowed in zip(most, right, false, limits, strict=True):
        n_allowed = np.searchsorted(wrong, allowed, side="right")
        own[n_allowed > 0] = found[n_allowed[n_allowed > 0] - 1]
    return most
