"""Augmentations of Janardanan et al. 2026, each with its draw apart from its effect.

Patches are (channel, z, y, x). Rotation and scaling act in millimetres, so that an anisotropic grid
is not sheared. Every draw takes a numpy generator; global seeds are not touched.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

__all__ = ["Augmentation", "ChannelDropout", "Flip", "Intensity", "SpatialWarp", "max_pooled_targets"]


@dataclass(frozen=True)
class SpatialWarp:
    """Rotation, scaling and smooth elastic deformation around the patch's centre."""

    probability: float = 0.3
    rotation_degrees: float = 15.0
    scaling: tuple[float, float] = (0.9, 1.1)
    elastic_mm: float = 1.0
    """Largest displacement of the elastic part; 0 switches it off."""
    elastic_knots: int = 4

    def draw(self, rng: np.random.Generator, patch_shape: Sequence[int], spacing_mm: Sequence[float]) -> Tensor | None:
        """The sampling grid (z, y, x, 3) in voxel offsets from the centre (z, y, x), or None for no warp."""
        if rng.random() >= self.probability:
            return None
        spacing = np.asarray(spacing_mm, dtype=np.float64)
        angles = np.deg2rad(rng.uniform(-self.rotation_degrees, self.rotation_degrees, 3))
        # Tilting a stack of thick slices mixes slices that were never measured: turn in-plane only there.
        if spacing.max() > 3 * spacing.min():
            angles[np.arange(3) != int(spacing.argmax())] = 0
        matrix_mm = _rotation(angles) / rng.uniform(*self.scaling)
        matrix = torch.as_tensor(matrix_mm * spacing[None, :] / spacing[:, None], dtype=torch.float32)
        axes = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in patch_shape]
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1) @ matrix.T
        if self.elastic_mm > 0:
            knots = torch.as_tensor(rng.uniform(-1, 1, (1, 3, *(self.elastic_knots,) * 3)), dtype=torch.float32)
            field = functional.interpolate(knots, size=tuple(patch_shape), mode="trilinear", align_corners=True)[0]
            grid = grid + field.movedim(0, -1) * torch.as_tensor(self.elastic_mm / spacing, dtype=torch.float32)
        return grid

    def margin(self, patch_shape: Sequence[int], spacing_mm: Sequence[float]) -> NDArray[np.int64]:
        """Voxels (z, y, x) by which a source patch must be larger on each side to cover every warp."""
        spacing, half = np.asarray(spacing_mm), (np.asarray(patch_shape) - 1) / 2
        tilt = np.sin(np.deg2rad(self.rotation_degrees))
        half_mm = half * spacing
        others_mm = half_mm.sum() - half_mm
        reach_mm = (half_mm + tilt * others_mm) / self.scaling[0] + self.elastic_mm
        return np.asarray(np.ceil(reach_mm / spacing - half).clip(min=0), dtype=np.int64)

    def apply(self, source: Tensor, grid: Tensor, nearest: bool = False) -> Tensor:
        """Sample `source` (channel, z, y, x) at `grid` around its own centre; outside is 0."""
        half_extent = torch.tensor([n / 2 for n in source.shape[1:]])
        normalised = (grid / half_extent).flip(-1)[None]
        mode = "nearest" if nearest else "bilinear"
        return functional.grid_sample(source[None].float(), normalised, mode=mode, align_corners=False)[0]


def _rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation about the array axes z, y, x in turn."""
    result = np.eye(3)
    for axis, angle in enumerate(angles):
        first, second = (a for a in range(3) if a != axis)
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        result = result @ turn
    return result


@dataclass(frozen=True)
class Flip:
    """Mirror along each of `axes` (array axes of z, y, x) with probability one half."""

    axes: tuple[int, ...] = (1, 2)

    def draw(self, rng: np.random.Generator) -> tuple[int, ...]:
        return tuple(axis for axis in self.axes if rng.random() < 0.5)

    def apply(self, patch: Tensor, axes: tuple[int, ...]) -> Tensor:
        return patch.flip([axis + 1 for axis in axes]) if axes else patch


@dataclass(frozen=True)
class IntensityDraw:
    """What one patch gets: a contrast factor and a noise level a channel, and the noise's seed."""

    contrast: NDArray[np.float64]
    noise_sigma: NDArray[np.float64]
    seed: int


@dataclass(frozen=True)
class Intensity:
    """Gaussian noise and contrast on z-scored channels; the background (exactly 0) stays 0."""

    probability: float = 0.5
    noise_sigma: tuple[float, float] = (0.01, 0.05)
    contrast: float = 0.2

    def draw(self, rng: np.random.Generator, n_channels: int) -> IntensityDraw:
        with_contrast = rng.random(n_channels) < self.probability
        with_noise = rng.random(n_channels) < self.probability
        contrast = np.where(with_contrast, rng.uniform(1 - self.contrast, 1 + self.contrast, n_channels), 1.0)
        sigma = np.where(with_noise, rng.uniform(*self.noise_sigma, n_channels), 0.0)
        return IntensityDraw(contrast, sigma, int(rng.integers(2**31)))

    def apply(self, patch: Tensor, draw: IntensityDraw) -> Tensor:
        contrast = torch.as_tensor(draw.contrast, dtype=patch.dtype)[:, None, None, None]
        sigma = torch.as_tensor(draw.noise_sigma, dtype=patch.dtype)[:, None, None, None]
        noise = torch.randn(patch.shape, generator=torch.Generator().manual_seed(draw.seed), dtype=patch.dtype)
        return torch.where(patch == 0, patch, patch * contrast + noise * sigma)


@dataclass(frozen=True)
class ChannelDropout:
    """Blank sequences, as a scanner that never acquired them would (Janardanan et al. 2026).

    A channel that is 0 throughout is missing already. `required` are the channels of which at least
    one present one survives: a scan without any susceptibility sequence is never predicted.
    """

    probability: float = 0.3
    required: tuple[int, ...] = ()

    def draw(self, rng: np.random.Generator, present: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which channels survive, as booleans of shape (channel,)."""
        keep = present & (rng.random(present.size) >= self.probability)
        needed = [channel for channel in self.required or range(present.size) if present[channel]]
        if needed and not keep[needed].any():
            keep[rng.choice(needed)] = True
        return np.asarray(keep)

    def apply(self, patch: Tensor, keep: NDArray[np.bool_]) -> Tensor:
        return patch * torch.as_tensor(keep, dtype=patch.dtype)[:, None, None, None]


@dataclass(frozen=True)
class Augmentation:
    """The whole chain for one training patch; channel dropout is last, so that a blank stays blank."""

    warp: SpatialWarp
    flip: Flip
    intensity: Intensity
    dropout: ChannelDropout

    def __call__(
        self,
        rng: np.random.Generator,
        image: Tensor,
        label: Tensor,
        patch_shape: Sequence[int],
        grid: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Augment one patch.

        Args:
            rng: source of every draw.
            image: (channel, z, y, x); larger than the patch by the warp's margin where `grid` is given.
            label: (1, z, y, x) of 0 and 1, same extent as `image`.
            patch_shape: (z, y, x) wanted.
            grid: what `warp.draw` gave for this patch.
        """
        present = image.flatten(1).any(dim=1).numpy()
        if grid is not None:
            image, label = self.warp.apply(image, grid), self.warp.apply(label, grid, nearest=True)
        assert tuple(image.shape[1:]) == tuple(patch_shape)
        axes = self.flip.draw(rng)
        image, label = self.flip.apply(image, axes), self.flip.apply(label, axes)
        image = self.intensity.apply(image, self.intensity.draw(rng, image.shape[0]))
        return self.dropout.apply(image, self.dropout.draw(rng, present)), label


def max_pooled_targets(label: Tensor, strides: Sequence[Sequence[int]]) -> list[Tensor]:
    """Targets of every decoder level, finest first.

    Max-pooling keeps a one-voxel lesion at every level, where nearest-neighbour sampling would drop it.

    Args:
        label: (batch, 1, z, y, x).
        strides: of every encoder stage, the first (1, 1, 1); the deepest stage has no head.
    """
    targets = [label]
    for stride in strides[1:-1]:
        pooled = functional.max_pool3d(targets[-1].float(), tuple(stride), tuple(stride), ceil_mode=True)
        targets.append(pooled.to(label.dtype))
    return targets
