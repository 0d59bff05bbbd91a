"""Regular grids in scanner space and the operations between them: splines, resampling."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Grid", "box_blur", "resample_linear", "smooth_field"]

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Grid:
    """An axis-aligned grid: voxel (i, j, k) lies at `origin_mm + (i, j, k) * spacing_mm` (RAS)."""

    shape: Triple
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]

    @property
    def affine(self) -> NDArray[np.float64]:
        """Voxel index to RAS millimetres, shape (4, 4)."""
        affine = np.diag([*self.spacing_mm, 1.0])
        affine[:3, 3] = self.origin_mm
        return affine

    def axes_mm(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Coordinates along each axis in millimetres, float64."""
        x, y, z = (
            origin + step * torch.arange(n, dtype=torch.float64, device=device)
            for n, step, origin in zip(self.shape, self.spacing_mm, self.origin_mm, strict=True)
        )
        return x, y, z

    def to_voxels(self, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """RAS millimetres of shape (n, 3) to fractional voxel indices."""
        voxels: NDArray[np.float64] = (points_mm - np.asarray(self.origin_mm)) / np.asarray(self.spacing_mm)
        return voxels

    def to_mm(self, voxels: NDArray[np.float64] | NDArray[np.int64]) -> NDArray[np.float64]:
        """Voxel indices of shape (n, 3) to RAS millimetres."""
        points: NDArray[np.float64] = np.asarray(voxels, dtype=np.float64) * self.spacing_mm + np.asarray(
            self.origin_mm
        )
        return points


def smooth_field(coefficients: Tensor, shape: Triple) -> Tensor:
    """Evaluate a cubic B-spline of few coefficients on a whole grid.

    Args:
        coefficients: shape (..., a, b, c), each of a, b, c at least 4.
        shape: of the grid that the spline spans from edge to edge.

    Returns:
        Shape (..., *shape).
    """
    for axis, n in zip((-3, -2, -1), shape, strict=True):
        weights = _spline_weights(coefficients.shape[axis], n).to(coefficients)
        coefficients = (coefficients.movedim(axis, -1) @ weights.T).movedim(-1, axis)
    return coefficients


def _spline_weights(n_coefficients: int, n_points: int) -> Tensor:
    """Cubic B-spline basis, shape (n_points, n_coefficients)."""
    position = torch.linspace(0, n_coefficients - 3, n_points, dtype=torch.float64)
    distance = (position[:, None] - (torch.arange(n_coefficients, dtype=torch.float64) - 1)).abs()
    near = (4 - 6 * distance**2 + 3 * distance**3) / 6
    far = (2 - distance).clamp(min=0) ** 3 / 6
    return torch.where(distance < 1, near, far)


def resample_linear(volume: Tensor, source: Grid, target: Grid) -> Tensor:
    """Interpolate linearly from one axis-aligned grid to another; the edge is repeated outside.

    Args:
        volume: shape (..., *source.shape).
        source: grid of `volume`.
        target: grid of the result.

    Returns:
        Shape (..., *target.shape).
    """
    goal = target.axes_mm(volume.device)
    for axis in (2, 1, 0):  # the axis that grows least comes first in our protocols
        last = source.shape[axis] - 1
        position = ((goal[axis] - source.origin_mm[axis]) / source.spacing_mm[axis]).clamp(0, last)
        below = position.floor().clamp(max=max(last - 1, 0)).long()
        weight = (position - below).to(volume.dtype)
        weight = weight.reshape([-1 if d == axis else 1 for d in range(3)])
        low = volume.index_select(axis - 3, below)
        high = volume.index_select(axis - 3, (below + 1).clamp(max=last))
        volume = torch.lerp(low, high, weight)
    return volume


def box_blur(volume: Tensor, size: int) -> Tensor:
    """Mean over a cube of `size` (odd) voxels, as three passes; shape (i, j, k) is kept."""
    batch = volume[None, None]
    for axis in range(3):
        kernel = [size if d == axis else 1 for d in range(3)]
        padding = [size // 2 if d == axis else 0 for d in range(3)]
        batch = torch.nn.functional.avg_pool3d(batch, kernel, stride=1, padding=padding, count_include_pad=False)
    return batch[0, 0]
