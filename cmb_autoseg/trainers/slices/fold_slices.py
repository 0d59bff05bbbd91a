"""The slices that a fold learns from and those that it is judged by, as a network sees them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.preprocessing.slices import with_neighbors
from cmb_autoseg.records import Role
from cmb_autoseg.trainers.recipe import BoxSettings, Recipe, SliceSettings
from cmb_autoseg.trainers.slices.augmentation import SliceAugmentation, SliceChange
from cmb_autoseg.trainers.slices.sampling import SliceAt, SlicePool, validation_slices
from cmb_autoseg.trainers.slices.store import SliceCase

__all__ = ["FoldSlices", "ShownSlice"]


@dataclass(frozen=True)
class ShownSlice:
    """A slice between its neighbors, and what is to be found in it.

    Attributes:
        picture: (n * channel, h, w), as `with_neighbors` makes it.
        case: that it is of.
        index: of the slice within the case's pictures.
    """

    picture: NDArray[np.float32]
    case: SliceCase
    index: int

    @property
    def mask(self) -> NDArray[np.uint8]:
        """(h, w), as of `SliceCase`."""
        return np.asarray(self.case.mask[self.index])

    @property
    def boxes(self) -> NDArray[np.float32]:
        """(n, 4), as of `SliceCase.boxes_of`."""
        return self.case.boxes_of(self.index)


class FoldSlices:
    """Draws the slices of batches with their random changes, and goes through those that are watched.

    Args:
        recipe: of the family of slices or boxes.
        settings: its part of that family.
        roles: of the channels of one slice.
        training: cases to learn from.
        validation: cases to watch.
    """

    def __init__(
        self,
        recipe: Recipe,
        settings: SliceSettings | BoxSettings,
        roles: Sequence[Role],
        training: Sequence[SliceCase],
        validation: Sequence[SliceCase],
    ) -> None:
        assert recipe.batch_size is not None
        self.batch_size, self.settings = recipe.batch_size, settings
        self.training, self.validation = training, validation
        self._pool = SlicePool.of(training)
        self._watched = validation_slices(SlicePool.of(validation), recipe.validation_steps * recipe.batch_size)
        self._augmentation = SliceAugmentation(settings.augmentation, roles)

    def draw(self, rng: np.random.Generator) -> Iterator[tuple[ShownSlice, SliceChange]]:
        """The slices of one batch, each with the change that it is to get."""
        for at in self._pool.draw(rng, self.batch_size, self.settings.positive_share):
            shown = self._shown(self.training, at)
            yield shown, self._augmentation.draw(rng, (shown.picture.shape[1], shown.picture.shape[2]))

    def watched(self) -> Iterator[list[ShownSlice]]:
        """The slices that the validation figure is taken of, a batch at a time."""
        for first in range(0, len(self._watched), self.batch_size):
            yield [self._shown(self.validation, at) for at in self._watched[first : first + self.batch_size]]

    def _shown(self, cases: Sequence[SliceCase], at: SliceAt) -> ShownSlice:
        case, index = cases[at[0]], at[1]
        return ShownSlice(with_neighbors(case.data, index, self.settings.pictures.neighbors), case, index)
