"""Weights of a mixture: the simplex is searched, coarsely first, then around the best place.

Few lesions tell weights apart badly, and equal weights are hard to beat. So the best are taken only where they beat
equal ones by more than one standard error of the difference (after Breiman et al. 1984, Classification and Regression
Trees, chapter 3.4.3).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["Figures", "Searched", "Weights", "equal_weights", "search_weights"]

Weights = tuple[float, ...]
"""One a member; not negative, sum 1."""
Figures = NDArray[np.float64]
"""(1 + n_draws,): of all cases, then of bootstrap draws of them; the higher, the better."""
COARSE_STEPS = 4
"""Parts that the coarse search cuts the whole weight into."""
FINE_STEPS = (0.125, 0.0625)
"""Weight that is moved from one member to another around the best place, first and last."""
TIE = 1e-9


def equal_weights(n_members: int) -> Weights:
    return (1 / n_members,) * n_members


@dataclass(frozen=True)
class Searched:
    """Weights with the figures that each of them has; all of the same draws."""

    figures: dict[Weights, Figures] = field(default_factory=dict)

    @property
    def best(self) -> Weights:
        """Those of the highest figure of all cases; of several the nearest to equal weights."""
        highest = max(figures[0] for figures in self.figures.values())
        tied = [weights for weights, figures in self.figures.items() if figures[0] >= highest - TIE]
        return min(tied, key=lambda weights: round(sum((weight - 1 / len(weights)) ** 2 for weight in weights), 9))

    @property
    def chosen(self) -> Weights:
        """The best, if they beat equal weights by more than a standard error of the difference; else equal weights."""
        equal = equal_weights(len(self.best))
        gain = self.figures[self.best] - self.figures[equal]
        error = float(np.std(gain[1:])) if len(gain) > 1 else 0.0
        return self.best if gain[0] > error + TIE else equal


def search_weights(judge: Callable[[Weights], Figures], n_members: int) -> Searched:
    """Try weights on a grid of quarters, then move eighths and sixteenths between members while that helps.

    Args:
        judge: the figures of weights.
        n_members: at least 1.
    """
    found = Searched()

    def try_out(weights: Weights) -> None:
        if weights not in found.figures:
            found.figures[weights] = judge(weights)

    try_out(equal_weights(n_members))
    for parts in _compositions(COARSE_STEPS, n_members):
        try_out(tuple(part / COARSE_STEPS for part in parts))
    for step in FINE_STEPS:
        while True:
            before = found.best
            for weights in _moved(before, step):
                try_out(weights)
            if found.best == before:
                break
    return found


def _compositions(total: int, n_parts: int) -> Iterator[tuple[int, ...]]:
    """All ways to write `total` as an ordered sum of so many whole numbers from 0."""
    if n_parts == 1:
        yield (total,)
        return
    for first in range(total + 1):
        for rest in _compositions(total - first, n_parts - 1):
            yield (first, *rest)


def _moved(weights: Weights, step: float) -> Iterator[Weights]:
    """Weights with up to `step` moved from one member to another."""
    for giver, taker in np.ndindex(len(weights), len(weights)):
        moved = min(step, weights[giver])
        if giver != taker and moved > TIE:
            changed = list(weights)
            changed[giver] = round(changed[giver] - moved, 9)
            changed[taker] = round(changed[taker] + moved, 9)
            yield tuple(changed)
