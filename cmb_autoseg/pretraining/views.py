"""Two views of one place of one case, as far as possible from different sequences.

What is drawn is kept apart from what is done with it, and every draw takes a numpy generator.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cmb_autoseg.pretraining.patches import CasePatches
from cmb_autoseg.trainers.patches.augmentation import ChannelDropout, Flip, Intensity, IntensityDraw, SpatialWarp
from cmb_autoseg.trainers.patches.sampling import PatchDraw

__all__ = ["PairMaker", "SequenceSplit", "View", "ViewMaker", "draw_places"]

Booleans = NDArray[np.bool_]


@dataclass(frozen=True)
class SequenceSplit:
    """Which sequences each of two views shows (Janardanan et al. 2026).

    The sequences that a case has are dealt at random to two disjoint groups with a susceptibility sequence each, so
    that nothing but the anatomy and its lesions is common to the views; then each view loses sequences of its own by
    channel dropout. Where there is one susceptibility sequence only, both views start from all that there is.
    """

    susceptibility: tuple[int, ...]
    """Channels in which a microbleed is visible."""
    dropout: float = 0.3
    """Chance of each sequence of a view to be left out of it; one susceptibility sequence always stays."""

    def draw(self, rng: np.random.Generator, present: Booleans) -> tuple[Booleans, Booleans]:
        """What the first and the second view keep, each as booleans of shape (channel,).

        Args:
            rng: source of the draws.
            present: sequences that the case has.
        """
        visible = [channel for channel in self.susceptibility if present[channel]]
        first, second = present, present
        if len(visible) > 1:
            to_first = rng.random(present.size) < 0.5
            one, other = rng.permutation(visible)[:2]
            to_first[one], to_first[other] = True, False
            first, second = present & to_first, present & ~to_first
        return self.drop(rng, first), self.drop(rng, second)

    def drop(self, rng: np.random.Generator, shown: Booleans) -> Booleans:
        """What channel dropout leaves of a view's sequences, with at least one susceptibility sequence of them."""
        visible = tuple(channel for channel in self.susceptibility if shown[channel])
        return ChannelDropout(self.dropout, visible).draw(rng, shown)


@dataclass(frozen=True)
class View:
    """What makes one view of a patch."""

    keep: Booleans
    """Sequences it shows, (channel,)."""
    grid: Tensor | None
    """Of the warp; None for none."""
    flips: tuple[int, ...]
    """Array axes of (z, y, x) that are mirrored."""
    intensity: IntensityDraw


@dataclass(frozen=True)
class ViewMaker:
    """Draws the augmentation of a view, and applies it."""

    warp: SpatialWarp
    flip: Flip
    intensity: Intensity
    patch_shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]

    def draw(self, rng: np.random.Generator, keep: Booleans) -> View:
        grid = self.warp.draw(rng, self.patch_shape, self.spacing_mm)
        return View(keep, grid, self.flip.draw(rng), self.intensity.draw(rng, keep.size))

    def draw_in_geometry_of(self, rng: np.random.Generator, other: View, keep: Booleans) -> View:
        """Intensities of its own, and the warp and flips of another view, so that their voxels correspond."""
        return View(keep, other.grid, other.flips, self.intensity.draw(rng, keep.size))

    def margin(self, *views: View) -> NDArray[np.int64]:
        """Voxels (z, y, x) that a source patch needs around it to make all these views."""
        if all(view.grid is None for view in views):
            return np.zeros(3, dtype=np.int64)
        return self.warp.margin(self.patch_shape, self.spacing_mm)

    def geometry(self, source: Tensor, view: View) -> Tensor:
        """Warp and flips alone: (channel, z, y, x) of the patch's shape, from a larger source around its centre."""
        if view.grid is None:
            room = [(there - wanted) // 2 for there, wanted in zip(source.shape[1:], self.patch_shape, strict=True)]
            inside = (slice(low, low + n) for low, n in zip(room, self.patch_shape, strict=True))
            patch = source[(slice(None), *inside)]
        else:
            patch = self.warp.apply(source, view.grid)
        return self.flip.apply(patch, view.flips)

    def intensities(self, patch: Tensor, view: View) -> Tensor:
        """Contrast and noise, and last the blanks, so that they stay 0."""
        changed = self.intensity.apply(patch, view.intensity)
        return ChannelDropout().apply(changed, view.keep)


@dataclass(frozen=True)
class PairMaker:
    """Two views of one drawn patch.

    Args:
        views: the augmentation.
        split: of the sequences.
        common_geometry: both views share warp and flips, so that voxels correspond.
        place_stride: (z, y, x) voxels of a cell of the encoder's level in which places are compared.
        n_places: 0 where whole patches are compared.
    """

    views: ViewMaker
    split: SequenceSplit
    common_geometry: bool
    place_stride: tuple[int, ...] = (1, 1, 1)
    n_places: int = 0

    def __call__(
        self, rng: np.random.Generator, patches: CasePatches, draw: PatchDraw
    ) -> tuple[Tensor, Tensor, NDArray[np.int64]]:
        """The views, (channel, z, y, x) each, and the compared places, (place, 3) in cells of the level."""
        keep_first, keep_second = self.split.draw(rng, patches.present(draw.case))
        first = self.views.draw(rng, keep_first)
        if self.common_geometry:
            second = self.views.draw_in_geometry_of(rng, first, keep_second)
        else:
            second = self.views.draw(rng, keep_second)
        source = patches.crop(draw, self.views.margin(first, second))
        shown_first = self.views.geometry(source, first)
        shown_second = shown_first if self.common_geometry else self.views.geometry(source, second)
        brain = np.asarray((shown_first != 0).any(dim=0).numpy())
        places = draw_places(rng, brain, self.place_stride, self.n_places)
        return self.views.intensities(shown_first, first), self.views.intensities(shown_second, second), places


def draw_places(rng: np.random.Generator, brain: Booleans, stride: Sequence[int], n_places: int) -> NDArray[np.int64]:
    """Cells of an encoder's level, at random among those with brain in them, else among all.

    Args:
        rng: source of the draw.
        brain: (z, y, x) of the patch.
        stride: (z, y, x) voxels of a cell.
        n_places: how many; different ones as far as there are so many.

    Returns:
        (place, 3) indices (z, y, x) of cells.
    """
    if not n_places:
        return np.zeros((0, 3), dtype=np.int64)
    blocks = [size for n, step in zip(brain.shape, stride, strict=True) for size in (n // step, step)]
    cells = np.argwhere(brain.reshape(blocks).any(axis=(1, 3, 5)))
    if not len(cells):
        cells = np.argwhere(np.ones(blocks[::2], dtype=bool))
    return np.asarray(cells[rng.choice(len(cells), n_places, replace=len(cells) < n_places)], dtype=np.int64)
