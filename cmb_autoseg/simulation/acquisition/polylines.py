"""Curved vessels as polylines: the nearest part of a vessel to many points."""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cmb_autoseg.simulation.contents.sources import Tube
from cmb_autoseg.simulation.grids import Grid

__all__ = ["Course", "Nearest", "ball_offsets", "nearest_on_course"]


CHUNK = 4096
"""Points at a time: their distances to all segments stay in the processor's cache."""


@dataclass(frozen=True)
class Course:
    """A polyline with a smoothly turning direction, in millimetres."""

    points_mm: Tensor
    """Shape (n, 3)."""
    tangents: Tensor
    """Unit vectors at the points, the mean of the segments that meet there, shape (n, 3)."""
    radius_mm: Tensor
    """At the points, shape (n,)."""

    @classmethod
    def of(cls, tube: Tube, device: torch.device) -> "Course":
        """The centre line of a tube, points that coincide left out."""
        moved = np.linalg.norm(np.diff(tube.points_mm, axis=0), axis=1) > 1e-4
        kept = np.concatenate([[True], moved])
        line = torch.as_tensor(tube.points_mm[kept], dtype=torch.float32, device=device)
        radius = torch.as_tensor(tube.radius_mm[kept], dtype=torch.float32, device=device)
        steps = torch.nn.functional.normalize(line[1:] - line[:-1], dim=1)
        sums = torch.cat([steps[:1], steps[1:] + steps[:-1], steps[-1:]])
        return cls(line, torch.nn.functional.normalize(sums, dim=1), radius)

    def dense_mm(self, step_mm: float) -> NDArray[np.float64]:
        """Points on the line no further than `step_mm` apart, shape (m, 3)."""
        points = self.points_mm.cpu().numpy().astype(np.float64)
        pieces = [
            np.linspace(a, b, max(1, math.ceil(float(np.linalg.norm(b - a)) / step_mm)), endpoint=False)
            for a, b in itertools.pairwise(points)
        ]
        return np.concatenate([*pieces, points[-1:]])


@dataclass(frozen=True)
class Nearest:
    """The part of a course that is nearest to each of n points."""

    distance_mm: Tensor
    """To the line itself, its ends included, shape (n,)."""
    foot_mm: Tensor
    """Nearest place on the line, or on its straight continuation past an end, shape (n, 3)."""
    axis: Tensor
    """Direction of the course there, unit vectors, shape (n, 3)."""
    radius_mm: Tensor
    """Shape (n,)."""
    beyond_mm: Tensor
    """How far past an end the point lies, 0 beside the course, shape (n,)."""

    def select(self, which: Tensor) -> "Nearest":
        """The same for some of the points."""
        return Nearest(
            self.distance_mm[which], self.foot_mm[which], self.axis[which], self.radius_mm[which], self.beyond_mm[which]
        )


def nearest_on_course(points_mm: Tensor, course: Course) -> Nearest:
    """Where each point (n, 3) lies beside a course."""
    # About the course's middle, because differences of squares in float32 are coarse far from the origin.
    middle = course.points_mm.mean(dim=0)
    start = course.points_mm[:-1] - middle
    step = course.points_mm[1:] - course.points_mm[:-1]
    length = step.norm(dim=1)
    unit = step / length[:, None]
    parts = [_nearest_segment(part - middle, start, unit, length) for part in torch.split(points_mm, CHUNK)]
    square, segment, chosen = (torch.cat(column) for column in zip(*parts, strict=True))
    span = length[segment]
    before = torch.where(segment == 0, (-chosen).clamp(min=0), 0)
    after = torch.where(segment == len(length) - 1, (chosen - span).clamp(min=0), 0)
    on_line = chosen.clamp(min=0).minimum(span)
    share = (on_line / span)[:, None]
    axis = torch.nn.functional.normalize(
        torch.lerp(course.tangents[segment], course.tangents[segment + 1], share), dim=1
    )
    foot = course.points_mm[segment] + (on_line - before + after)[:, None] * unit[segment]
    radius = torch.lerp(course.radius_mm[segment], course.radius_mm[segment + 1], share[:, 0])
    return Nearest(square.clamp(min=0).sqrt(), foot, axis, radius, before + after)


def _nearest_segment(p: Tensor, start: Tensor, unit: Tensor, length: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Squared distance of points (n, 3) to the nearest segment, its number, and how far along it they lie."""
    along = p @ unit.T - (start * unit).sum(1)
    clamped = torch.minimum(along.clamp(min=0), length)
    # |p - a|^2 - 2 t (p - a) . u + t^2, without an array of (n, segments, 3)
    square = (p @ start.T).mul_(-2).add_(start.square().sum(1)).add_(p.square().sum(1)[:, None])
    square += clamped * (clamped - 2 * along)
    nearest, segment = square.min(dim=1)
    return nearest, segment, along.gather(1, segment[:, None])[:, 0]


def ball_offsets(grid: Grid, radius_mm: float) -> NDArray[np.int64]:
    """Steps from a voxel to all whose centre is within a distance of its centre, shape (n, 3)."""
    reach = [math.ceil(radius_mm / step) for step in grid.spacing_mm]
    offsets = np.stack(np.meshgrid(*[np.arange(-n, n + 1) for n in reach], indexing="ij"), axis=-1).reshape(-1, 3)
    kept: NDArray[np.int64] = offsets[np.linalg.norm(offsets * np.array(grid.spacing_mm), axis=1) <= radius_mm]
    return kept
