"""Soft shapes in MNI152 millimetres: ellipsoids and chains of balls with an edge about a millimetre wide."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cmb_autoseg.simulation.grids import Grid

__all__ = ["Box", "Ellipsoid", "chain", "grid_box", "mni_points", "paint", "part_of"]

Box = tuple[slice, slice, slice]
Triple = tuple[float, float, float]
EDGE_MM = 0.45
"""Scale of the logistic edge."""


@dataclass(frozen=True)
class Ellipsoid:
    """Semi-axes are those before turning: `yaw_deg` > 0 moves its rear end to the right, then `pitch_deg` > 0 lifts its
    front.
    """

    centre_mm: Triple
    semi_axes_mm: Triple
    yaw_deg: float = 0.0
    pitch_deg: float = 0.0

    def inside_mm(self, points: Tensor) -> Tensor:
        """Roughly the depth below the surface, negative outside; points (3, ...) to (...)."""
        x, y, z = (p - c for p, c in zip(points, self.centre_mm, strict=True))
        yaw, pitch = math.radians(self.yaw_deg), math.radians(self.pitch_deg)
        y, z = y * math.cos(pitch) + z * math.sin(pitch), z * math.cos(pitch) - y * math.sin(pitch)
        along, across = y * math.cos(yaw) - x * math.sin(yaw), x * math.cos(yaw) + y * math.sin(yaw)
        a, b, c = self.semi_axes_mm
        first = ((across / a) ** 2 + (along / b) ** 2 + (z / c) ** 2).sqrt()
        second = ((across / a**2) ** 2 + (along / b**2) ** 2 + (z / c**2) ** 2).sqrt()
        # First-order distance to the surface: f / |grad f| with f = first - 1.
        depth: Tensor = (1 - first) * first / second.clamp(min=1e-6)
        return depth.clamp(max=min(a, b, c))

    def mirrored(self) -> "Ellipsoid":
        """The same on the other side of the head."""
        x, y, z = self.centre_mm
        return Ellipsoid((-x, y, z), self.semi_axes_mm, -self.yaw_deg, self.pitch_deg)


def chain(points: Iterable[tuple[float, float, float, float]], flatten: Triple = (1, 1, 1)) -> tuple[Ellipsoid, ...]:
    """Balls a millimetre or two apart along a polyline of (x, y, z, radius): a bent tube."""
    course = np.array(list(points))
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(course[:, :3], axis=0), axis=1))])
    at = np.linspace(0, length[-1], max(2, int(length[-1] / (0.6 * course[:, 3].min())) + 1))
    x, y, z, radius = (np.interp(at, length, column) for column in course.T)
    return tuple(
        Ellipsoid((float(a), float(b), float(c)), (r * flatten[0], r * flatten[1], r * flatten[2]))
        for a, b, c, r in zip(x, y, z, radius.tolist(), strict=True)
    )


def paint(
    parts: Iterable[Ellipsoid], grid: Grid, to_mni: NDArray[np.float64], edge_mm: float = EDGE_MM, paired: bool = False
) -> Tensor:
    """Share 0..1 of each voxel in the union of the parts, shape `grid.shape`.

    Args:
        parts: in MNI152 millimetres.
        grid: of a template.
        to_mni: the grid's millimetres to MNI152 millimetres, shape (4, 4).
        edge_mm: scale of the logistic edge.
        paired: the parts are those of the right side, and the left side has the same.
    """
    parts = tuple(parts)
    if paired:
        parts += tuple(part.mirrored() for part in parts)
    deepest = torch.full(grid.shape, -12 * edge_mm)
    for part in parts:
        box = grid_box(grid, to_mni, np.array(part.centre_mm), max(part.semi_axes_mm) + 6 * edge_mm)
        inside = part.inside_mm(mni_points(part_of(grid, box), to_mni))
        deepest[box] = torch.maximum(deepest[box], inside)
    return torch.sigmoid(deepest / edge_mm)


def mni_points(grid: Grid, to_mni: NDArray[np.float64]) -> Tensor:
    """Where the voxels of a template's grid lie in the average head, shape (3, i, j, k)."""
    x, y, z = (axis.float() for axis in grid.axes_mm(torch.device("cpu")))
    rows = [
        float(a) * x[:, None, None] + float(b) * y[None, :, None] + (float(c) * z + float(shift))[None, None, :]
        for a, b, c, shift in to_mni[:3]
    ]
    return torch.stack(rows)


def grid_box(grid: Grid, to_mni: NDArray[np.float64], centre_mm: NDArray[np.float64], reach_mm: float) -> Box:
    """Voxels within a cube about a point of MNI152 space; may be empty."""
    corners = centre_mm + reach_mm * np.array(np.meshgrid(*[(-1, 1)] * 3)).reshape(3, -1).T
    inverse = np.linalg.inv(to_mni)
    voxels = grid.to_voxels(corners @ inverse[:3, :3].T + inverse[:3, 3])
    first = np.clip(np.floor(voxels.min(axis=0)), 0, grid.shape).astype(int)
    last = np.clip(np.ceil(voxels.max(axis=0)) + 1, 0, grid.shape).astype(int)
    i, j, k = (slice(int(a), int(max(a, b))) for a, b in zip(first, last, strict=True))
    return i, j, k


def part_of(grid: Grid, box: Box) -> Grid:
    """The grid of a box of voxels."""
    i, j, k = (part.stop - part.start for part in box)
    x, y, z = (float(v) for v in grid.to_mm(np.array([part.start for part in box])))
    return Grid((i, j, k), grid.spacing_mm, (x, y, z))
