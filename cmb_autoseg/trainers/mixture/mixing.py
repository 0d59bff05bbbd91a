"""How the members' probabilities of one case become one map.

Members are calibrated differently: one counts best at a probability of 0.9, another at 0.1. So each is shifted in
log-odds until the threshold at which it counts best is the same for all, in the middle of theirs; that keeps its order,
its zeros and its ones, and leaves members alone that count best at the same probability.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.trainers.mixture.votes import vote_map
from cmb_autoseg.trainers.recipe.mixture import Combine

__all__ = ["Mixing", "aligned", "member_copy", "middle_of"]


@dataclass(frozen=True)
class Mixing:
    """What a fold has learned about its members; one entry a member in `members`, `weights` and `thresholds`."""

    combine: Combine
    members: tuple[str, ...]
    """Names of their recipes."""
    weights: tuple[float, ...]
    """Not negative; sum to 1."""
    thresholds: tuple[float, ...]
    """Probability at which the member counts best; becomes `common`."""
    common: float
    """Where the lesions of every member begin once it is in line with the others."""

    @classmethod
    def averaged(cls, folds: "Sequence[Mixing]") -> "Mixing":
        """What several folds do together: their mean weights, and the mean log-odds of their thresholds."""
        weights = np.mean([fold.weights for fold in folds], axis=0)
        by_member = zip(*(fold.thresholds for fold in folds), strict=True)
        thresholds = tuple(middle_of(*of_folds) for of_folds in by_member)
        common = middle_of(*(fold.common for fold in folds))
        return cls(folds[0].combine, folds[0].members, _plain(weights / weights.sum()), thresholds, common)

    def of(self, indices: Sequence[int]) -> "Mixing":
        """That of some members, whose weights are scaled to sum to 1; equal ones where all of theirs are 0."""
        weights = np.array([self.weights[index] for index in indices])
        total = weights.sum()
        shares = weights / total if total > 0 else np.full(len(indices), 1 / len(indices))
        names = tuple(self.members[index] for index in indices)
        thresholds = tuple(self.thresholds[index] for index in indices)
        return Mixing(self.combine, names, _plain(shares), thresholds, self.common)

    def map_of(self, maps: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """One probability map (i, j, k) of the members' own, as they give them."""
        in_line = [aligned(own, at, self.common) for own, at in zip(maps, self.thresholds, strict=True)]
        return self.map_of_aligned(in_line)

    def map_of_aligned(self, maps: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """One probability map (i, j, k) of the members' own, each brought to the common threshold already."""
        if self.combine == "vote":
            return vote_map(maps, self.weights, self.common)
        mean = np.zeros(maps[0].shape, dtype=np.float32)
        for own, weight in zip(maps, self.weights, strict=True):
            mean += np.float32(weight) * own
        return np.minimum(mean, np.float32(1))


def member_copy(model: Path, recipe: str) -> Path:
    """Where a mixture keeps its copy of a member's model."""
    return model / "members" / recipe


def middle_of(*probabilities: float) -> float:
    """The probability of the mean log-odds of some, each over 0 and below 1."""
    odds = math.exp(sum(math.log(one / (1 - one)) for one in probabilities) / len(probabilities))
    return odds / (1 + odds)


def aligned(probability: NDArray[np.float32], threshold: float, common: float) -> NDArray[np.float32]:
    """Probabilities shifted in log-odds so that `threshold` becomes `common`; 0 and 1 stay.

    Those from `threshold` on, and no others, are `common` or more, whatever is rounded.

    Args:
        probability: of any shape, 0..1.
        threshold: over 0 and below 1.
        common: over 0 and below 1.
    """
    values = np.asarray(probability, dtype=np.float32)
    if threshold == common:
        return values
    up = values * np.float32((1 - threshold) * common)
    moved = up / (up + (1 - values) * np.float32(threshold * (1 - common)))
    least = np.float32(common)
    below = np.minimum(moved, np.nextafter(least, np.float32(0)))
    return np.asarray(np.where(values >= threshold, np.maximum(moved, least), below), dtype=np.float32)


def _plain(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
