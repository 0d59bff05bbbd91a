"""Random changes of pictures, masks and boxes, each drawn apart from its effect.

Every draw takes a numpy generator; global seeds are not touched.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional

from cmb_autoseg.records import SUSCEPTIBILITY_ROLES, Role
from cmb_autoseg.trainers.recipe import SliceAugmentationSettings

__all__ = ["SliceAugmentation", "SliceChange"]

AXES = {"coronal": 0, "sagittal": 1}
"""Axes of (h, w) by the plane that is mirrored across: sagittal swaps left and right."""


@dataclass(frozen=True)
class SliceChange:
    """What one picture, its mask and its boxes get; coordinates are (x, y) in continuous pixels.

    Attributes:
        size: (h, w).
        matrix: (2, 2), of the warp about the picture's middle; None for no warp.
        shift: (2,), of the warp, in pixels.
        flips: axes of (h, w) that are reversed after the warp.
        factors: (channel,), of grey values.
        blur_pixels: standard deviation; 0 for none.
        survival: (channel,), uniform from 0 to 1; those below `dropout` are blanked.
        dropout: chance of a channel to be blanked.
        required: channels of which at least one that is not blank already stays.
    """

    size: tuple[int, int]
    matrix: NDArray[np.float64] | None
    shift: NDArray[np.float64]
    flips: tuple[int, ...]
    factors: NDArray[np.float64]
    blur_pixels: float
    survival: NDArray[np.float64]
    dropout: float
    required: tuple[int, ...]

    def image(self, picture: NDArray[np.float32]) -> NDArray[np.float32]:
        """A changed picture.

        Args:
            picture: (n * channel, h, w), slice by slice, as `with_neighbors` makes it; background 0.
        """
        n_channels = len(self.factors)
        present = np.asarray(picture.reshape(-1, n_channels, *self.size).any(axis=(0, 2, 3)))
        moved = self._move(picture, "bilinear").reshape(-1, n_channels, *self.size)
        factors = self.factors * self._kept(present)
        changed = moved * factors.astype(np.float32)[:, None, None]
        if self.blur_pixels > 0:
            changed = ndimage.gaussian_filter(changed, (0, 0, self.blur_pixels, self.blur_pixels), mode="nearest")
        return np.ascontiguousarray(changed.reshape(picture.shape), dtype=np.float32)

    def mask(self, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A mask (h, w) of whole numbers, moved as the picture."""
        moved = self._move(mask[None].astype(np.float32), "nearest")[0]
        return np.ascontiguousarray(moved.astype(np.uint8))

    def boxes(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Boxes (n, 4) of x_min, y_min, x_max, y_max; those whose middle leaves the picture are left out.

        What moves is the ellipse that a box holds, since a microbleed has no corners: its bounding box is the new box.
        """
        middles = (boxes[:, :2] + boxes[:, 2:]).astype(np.float64) / 2
        halves = (boxes[:, 2:] - boxes[:, :2]).astype(np.float64) / 2
        center = (np.array(self.size[::-1]) - 1) / 2
        if self.matrix is not None:
            middles = (middles - center) @ self.matrix.T + center + self.shift
            halves = np.sqrt(halves**2 @ (self.matrix**2).T)
        for axis in self.flips:
            middles[:, 1 - axis] = self.size[axis] - 1 - middles[:, 1 - axis]
        limits = np.array(self.size[::-1]) - 0.5
        inside = ((middles > -0.5) & (middles < limits)).all(axis=1)
        moved = np.concatenate([middles - halves, middles + halves], axis=1)[inside]
        return np.asarray(np.clip(moved, -0.5, np.tile(limits, 2)), dtype=np.float32)

    def _move(self, values: NDArray[np.float32], mode: str) -> NDArray[np.float32]:
        """(channel, h, w), warped about its middle and flipped; 0 comes in from beyond."""
        moved: NDArray[np.float32] = values
        if self.matrix is not None:
            height, width = self.size
            back = np.linalg.inv(self.matrix)
            offset = -back @ self.shift
            # Coordinates of grid_sample reach from -1 to 1 between the outer edges of the outermost pixels.
            half = np.array([width, height]) / 2
            theta = np.concatenate([back * half[None, :] / half[:, None], (offset / half)[:, None]], axis=1)
            grid = functional.affine_grid(
                torch.from_numpy(theta.astype(np.float32))[None], [1, 1, height, width], align_corners=False
            )
            source = torch.from_numpy(np.ascontiguousarray(values))[None]
            moved = np.asarray(functional.grid_sample(source, grid, mode=mode, align_corners=False)[0])
        return np.flip(moved, tuple(axis + 1 for axis in self.flips)) if self.flips else moved

    def _kept(self, present: NDArray[np.bool_]) -> NDArray[np.bool_]:
        kept = present & (self.survival >= self.dropout)
        needed = [channel for channel in self.required if present[channel]]
        if needed and not kept[needed].any():
            kept[max(needed, key=lambda channel: self.survival[channel])] = True
        return kept


@dataclass(frozen=True)
class SliceAugmentation:
    """A recipe's changes of training pictures.

    Attributes:
        settings: of the recipe.
        roles: of the channels of one slice.
    """

    settings: SliceAugmentationSettings
    roles: Sequence[Role]

    def draw(self, rng: np.random.Generator, size: tuple[int, int]) -> SliceChange:
        """The change of one picture of `size` (h, w)."""
        settings, n_channels = self.settings, len(self.roles)
        warped = rng.random() < settings.warp_probability
        matrix, shift = self._warp(rng)
        flips = tuple(AXES[plane] for plane in settings.flip if rng.random() < 0.5)
        with_intensity = rng.random(n_channels) < settings.intensity_probability
        factors = np.where(with_intensity, rng.uniform(*settings.intensity, n_channels), 1.0)
        blurred = rng.random() < settings.intensity_probability
        blur_pixels = float(rng.uniform(0, settings.blur_pixels))
        identity = settings.rotation_degrees == settings.translation_pixels == 0 and settings.zoom == (1.0, 1.0)
        return SliceChange(
            size,
            matrix if warped and not identity else None,
            shift,
            flips,
            factors,
            blur_pixels if blurred else 0.0,
            rng.random(n_channels),
            settings.channel_dropout,
            tuple(index for index, role in enumerate(self.roles) if role in SUSCEPTIBILITY_ROLES)
            or tuple(range(n_channels)),
        )

    def _warp(self, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        angle = np.deg2rad(rng.uniform(-1, 1) * self.settings.rotation_degrees)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        return turn * rng.uniform(*self.settings.zoom), rng.uniform(-1, 1, 2) * self.settings.translation_pixels
