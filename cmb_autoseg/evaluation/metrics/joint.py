"""Several figures worked out in one go, where all need the same long way."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.evaluation.metrics.figure import Statistic, Values, Weights

__all__ = ["in_blocks", "never", "together"]

MAX_CELLS = 500_000
"""Of one array of a block of draws: 4 MB, as a processor keeps at hand."""
N_REMEMBERED = 4
"""Sets of weights: the cases as they are, the draws of a bootstrap, the cases without each subject, and one more."""


def in_blocks(
    of: Callable[[Weights], NDArray[np.float64]], weights: Weights, cells_per_draw: int
) -> NDArray[np.float64]:
    """`of(weights)`, for so many draws at a time that arrays of `cells_per_draw` numbers a draw stay small."""
    step = max(1, MAX_CELLS // max(1, cells_per_draw))
    return np.concatenate([of(weights[start : start + step]) for start in range(0, max(1, len(weights)), step)])


def together(
    of: Callable[[Weights], NDArray[np.float64]], why_none: Mapping[str, str], n_cases: int
) -> dict[str, Statistic]:
    """One statistic for each column of what `of` returns, worked out once for the same weights.

    Args:
        of: (n_draws, n_cases) to (n_draws, n_columns).
        why_none: name of each column, in order, and why it may be undefined.
        n_cases: the number of cases.
    """
    remembered: list[tuple[Weights, NDArray[np.float64]]] = []

    def columns(weights: Weights) -> NDArray[np.float64]:
        for known, found in remembered:
            if known is weights or (known.shape == weights.shape and np.array_equal(known, weights)):
                return found
        found = of(weights)
        remembered.append((weights.copy(), found))
        del remembered[:-N_REMEMBERED]
        return found

    def column(index: int) -> Callable[[Weights], Values]:
        return lambda weights: columns(weights)[:, index]

    return {name: Statistic(column(index), why, n_cases) for index, (name, why) in enumerate(why_none.items())}


def never(why_none: str, n_cases: int) -> Statistic:
    """A statistic that these cases cannot have."""
    return Statistic(lambda weights: np.full(len(weights), np.nan), why_none, n_cases)
