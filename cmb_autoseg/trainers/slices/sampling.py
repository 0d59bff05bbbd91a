"""Which slices make up a batch, and which the validation figure is taken of."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cmb_autoseg.preprocessing.slices import IGNORED
from cmb_autoseg.trainers.slices.store import SliceCase

__all__ = ["SliceAt", "SlicePool", "validation_slices"]

SliceAt = tuple[int, int]
"""Number of the case, and of the slice within its pictures."""


@dataclass(frozen=True)
class SlicePool:
    """Slices of some cases, with a microbleed and without; those that show only ignored microbleeds are neither."""

    positive: tuple[SliceAt, ...]
    negative: tuple[SliceAt, ...]

    @classmethod
    def of(cls, cases: Sequence[SliceCase]) -> "SlicePool":
        positive: list[SliceAt] = []
        negative: list[SliceAt] = []
        for number, case in enumerate(cases):
            with_target = {int(index) for index in case.positive}
            positive += [(number, index) for index in sorted(with_target)]
            negative += [
                (number, index)
                for index in range(len(case))
                if index not in with_target and not (case.mask[index] == IGNORED).any()
            ]
        return cls(tuple(positive), tuple(negative))

    def draw(self, rng: np.random.Generator, n: int, positive_share: float | None) -> list[SliceAt]:
        """Draw `n` slices with replacement.

        Args:
            rng: source of the draws.
            n: of slices.
            positive_share: of those with a microbleed, as exactly as `n` allows, over many batches exactly; None for
                all slices alike.
        """
        everything = (*self.positive, *self.negative)
        if positive_share is None or not (self.positive and self.negative):
            return [everything[index] for index in rng.integers(len(everything), size=n)]
        n_positive = int(positive_share * n + rng.random())
        chosen = [self.positive[index] for index in rng.integers(len(self.positive), size=n_positive)]
        return chosen + [self.negative[index] for index in rng.integers(len(self.negative), size=n - n_positive)]


def validation_slices(pool: SlicePool, most: int) -> list[SliceAt]:
    """All slices of a pool, or `most` of them, always the same: those with a microbleed have up to one half of the
    places, and more where the others leave them free; of each kind they lie evenly apart.
    """
    n_positive = min(len(pool.positive), max(most // 2, most - len(pool.negative)))
    return [*_evenly(pool.positive, n_positive), *_evenly(pool.negative, most - n_positive)]


def _evenly(slices: Sequence[SliceAt], most: int) -> list[SliceAt]:
    if len(slices) <= most:
        return list(slices)
    return [slices[index] for index in np.linspace(0, len(slices) - 1, most).round().astype(int)] if most else []
