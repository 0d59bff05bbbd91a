"""The neighborhood of a voxel, as the second stage sees it: square pixels, some slices, every planned sequence."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.geometry import Volume
from cmb_autoseg.preprocessing.normalization import zscore_in_brain
from cmb_autoseg.records import Role
from cmb_autoseg.trainers.recipe import TwoStageSettings

__all__ = ["Neighborhood", "Window", "scaled_stack"]


def scaled_stack(volumes: Mapping[Role, Volume], channels: Sequence[Role]) -> NDArray[np.float32]:
    """All sequences of a scan as (k, channel, j, i), each with mean 0 and variance 1 in its brain.

    Args:
        volumes: canonical, on one grid, zero outside the brain; at least one.
        channels: of the network; one that is missing is 0 throughout.
    """
    columns, rows, n_slices = next(iter(volumes.values())).shape
    stack = np.zeros((n_slices, len(channels), rows, columns), dtype=np.float32)
    for channel, role in enumerate(channels):
        if role in volumes:
            scaled = zscore_in_brain(volumes[role], np.asarray(volumes[role].data != 0))
            stack[:, channel] = scaled.data.transpose(2, 1, 0)
    return stack


@dataclass(frozen=True)
class Window:
    """Where the pixels of a neighborhood lie about its middle, on one scan's grid.

    Attributes:
        offsets: of the planes, rows and columns from the middle voxel along k, j and i, in voxels.
        pixel_mm: size of a pixel in-plane.
    """

    offsets: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
    pixel_mm: float

    @classmethod
    def of(cls, settings: TwoStageSettings, spacing_mm: Sequence[float]) -> "Window":
        """Neighboring slices of the scan for `yolo`, a cube of equal spacing for `classifier3d`.

        Args:
            settings: of the recipe.
            spacing_mm: of the scan, along i, j, k.
        """
        is_cube = settings.second == "classifier3d"
        side = settings.window_pixels // 2 if is_cube else settings.window_pixels
        pixel_mm = settings.window_mm / side
        away_mm: NDArray[np.float64] = (np.arange(side, dtype=np.float64) - (side - 1) / 2) * pixel_mm
        slices = np.arange(settings.slices) - settings.slices // 2
        planes = away_mm / spacing_mm[2] if is_cube else slices.astype(np.float64)
        return cls((planes, away_mm / spacing_mm[1], away_mm / spacing_mm[0]), pixel_mm)

    @property
    def middle(self) -> tuple[float, float]:
        """(x, y) of the middle voxel in pixels."""
        rows, columns = (len(offsets) for offsets in self.offsets[1:])
        return (columns - 1) / 2, (rows - 1) / 2

    def cut(self, stack: NDArray[np.float32], voxel: Sequence[int]) -> NDArray[np.float16]:
        """What it takes of a stack (k, channel, j, i) to fill the window about a voxel (i, j, k); 0 beyond the scan.

        Returns:
            (planes, channel, rows, columns) in voxels of the scan, the voxel in the middle; half precision.
        """
        wanted, target = [], []
        for axis, at, half in zip((0, 2, 3), reversed(voxel), self._halves, strict=True):
            low, high = max(0, at - half), min(stack.shape[axis], at + half + 1)
            wanted.append(slice(low, high))
            target.append(slice(low - at + half, high - at + half))
        planes, rows, columns = self._crop_shape
        crop = np.zeros((planes, stack.shape[1], rows, columns), dtype=np.float16)
        crop[target[0], :, target[1], target[2]] = stack[wanted[0], :, wanted[1], wanted[2]]
        return crop

    @property
    def _halves(self) -> tuple[int, int, int]:
        """Voxels on either side of the middle, with those to spare that interpolation needs."""
        planes, rows, columns = (int(np.ceil(np.abs(offsets).max() + _reach(offsets))) for offsets in self.offsets)
        return planes, rows, columns

    @property
    def _crop_shape(self) -> tuple[int, int, int]:
        planes, rows, columns = (2 * half + 1 for half in self._halves)
        return planes, rows, columns

    @property
    def _keeps_pictures(self) -> bool:
        """Whether pictures are smaller than crops, as those of fine voxels are."""
        return math.prod(len(offsets) for offsets in self.offsets) < math.prod(self._crop_shape)

    def kept(self, stack: NDArray[np.float32], voxel: Sequence[int]) -> NDArray[np.float16]:
        """What is kept in memory of the window about a voxel: crop or picture, whichever is smaller.

        Half precision, since there are thousands. Arguments as of `cut`.
        """
        crop = self.cut(stack, voxel)
        return self.picture(crop).astype(np.float16) if self._keeps_pictures else crop

    def picture_of_kept(self, kept: NDArray[np.float16]) -> NDArray[np.float32]:
        """What `kept` returns, as `picture` does."""
        return kept.astype(np.float32) if self._keeps_pictures else self.picture(kept)

    def picture(self, crop: NDArray[np.float16]) -> NDArray[np.float32]:
        """A crop as the network sees it: (plane, channel, row, column), linear, and averaged where voxels are finer."""
        values = crop.astype(np.float32)
        for axis, offsets, half in zip((0, 2, 3), self.offsets, self._halves, strict=True):
            values = _interpolated(values, offsets + half, axis)
        return values

    def pixels(self, boxes: NDArray[np.float64], voxel: Sequence[int]) -> NDArray[np.float32]:
        """Boxes (n, 4) of i_min, j_min, i_max, j_max in voxel indices as x_min, y_min, x_max, y_max in pixels.

        Boxes whose middle lies outside the window about `voxel` (i, j, k) are left out.
        """
        size = np.array([len(self.offsets[2]), len(self.offsets[1])])
        per_voxel = (size - 1) / [np.ptp(self.offsets[2]), np.ptp(self.offsets[1])]
        moved = (boxes - np.tile(voxel[:2], 2)) * np.tile(per_voxel, 2) + np.tile(self.middle, 2)
        middles = (moved[:, :2] + moved[:, 2:]) / 2
        inside = ((middles > -0.5) & (middles < size - 0.5)).all(axis=1)
        clipped: NDArray[np.float32] = np.clip(moved[inside], -0.5, np.tile(size - 0.5, 2)).astype(np.float32)
        return clipped


@dataclass(frozen=True)
class Neighborhood:
    """One place that is looked at.

    Attributes:
        window: of its scan.
        kept: see `Window.kept`.
        is_right: whether there is a microbleed in the middle.
        boxes: (n, 4) of true lesions, x_min, y_min, x_max, y_max in pixels.
        first: the first stage's probability; 0 where it does not propose.
    """

    window: Window
    kept: NDArray[np.float16]
    is_right: bool
    boxes: NDArray[np.float32]
    first: float

    def picture(self) -> NDArray[np.float32]:
        """(plane, channel, row, column)."""
        return self.window.picture_of_kept(self.kept)


def _interpolated(values: NDArray[np.float32], positions: NDArray[np.float64], axis: int) -> NDArray[np.float32]:
    """Values at fractional positions along an axis, all of them and their reach inside.

    Weights fall linearly to 0 at `_reach` from a position: linear interpolation, but where positions are further apart
    than voxels an average, in which every voxel has a say.
    """
    away = np.abs(positions[:, None] - np.arange(values.shape[axis])) / _reach(positions)
    weights = np.maximum(0, 1 - away)
    weights /= weights.sum(axis=1, keepdims=True)
    moved = np.tensordot(weights.astype(np.float32), values, axes=(1, axis))
    interpolated: NDArray[np.float32] = np.ascontiguousarray(np.moveaxis(moved, 0, axis))
    return interpolated


def _reach(positions: NDArray[np.float64]) -> float:
    """In voxels: 1, or how far evenly spaced positions lie apart where that is more."""
    return max(1.0, float(positions[1] - positions[0])) if len(positions) > 1 else 1.0
