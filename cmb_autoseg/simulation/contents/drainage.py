"""Vessels that grow into trees: courses that follow the quickest way to a larger vessel and join on it.

Blood takes from each place the quickest way through the tissue to its sink: sulci are quick for
cortical vessels, white matter and the ventricles' walls for medullary ones. The travel time obeys
the eikonal equation |grad T| = 1 / speed; courses follow its descent with momentum and a smooth
random drift. A course that meets an earlier one ends on it, and what flows in widens what lies
downstream (Murray 1926: cubes of radii add up).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cmb_autoseg.simulation.contents.surroundings import BoolMap, FloatMap, Surroundings
from cmb_autoseg.simulation.grids import Grid, smooth_field

__all__ = ["Descent", "Tree", "descent_in", "halved", "random_speed", "resampled", "smoothed", "travel_time"]

NEVER = np.float32(1e4)
"""Travel time of places that no way leads to."""
STEP_MM = 1.0
POINT_MM = 1.5
"""Distance of a course's points."""
CELL_MM = 2.0
"""Courses that share a cell of this size join."""
ROOT_GAP_MM = 5.0
SHORTEST_MM = 6.0
"""A branch that would be shorter is not drawn."""


def halved(array: NDArray[np.generic]) -> FloatMap:
    """Means over blocks of 2 x 2 x 2 voxels; an odd last voxel is dropped."""
    i, j, k = (n // 2 * 2 for n in array.shape)
    blocks = array[:i, :j, :k].astype(np.float32).reshape(i // 2, 2, j // 2, 2, k // 2, 2)
    return np.asarray(blocks.mean(axis=(1, 3, 5)), dtype=np.float32)


def random_speed(rng: np.random.Generator, shape: tuple[int, ...], spread: float, every: int = 4) -> FloatMap:
    """A smooth random factor about 1 (log-normal) that makes everyone's vessels take another way."""
    coefficients = rng.normal(0, spread * 1.9, [max(4, n // every + 3) for n in shape])
    field = smooth_field(torch.from_numpy(coefficients), tuple(shape))  # type: ignore[arg-type]
    return np.asarray(np.exp(field.numpy()), dtype=np.float32)


def travel_time(speed: FloatMap, sinks: BoolMap, spacing_mm: float, rounds: int = 4) -> FloatMap:
    """Shortest travel time to a sink: |grad T| = 1 / speed with Godunov's upwind differences.

    Solved by sweeping plane by plane along each axis, there and back (after Zhao 2005). Times only ever
    fall towards the solution, and at any stage a chain of falling neighbors leads to a sink.

    Args:
        speed: mm per unit of time, shape (i, j, k), positive.
        sinks: where the time is 0.
        spacing_mm: of the isotropic grid.
        rounds: of six sweeps. Four leave ways of many turns up to a third too slow, which hardly
            changes where vessels run.
    """
    time = np.full([n + 2 for n in speed.shape], NEVER, dtype=np.float32)
    time[1:-1, 1:-1, 1:-1][sinks] = 0
    pace = (spacing_mm / speed).astype(np.float32)
    for _ in range(rounds):
        for axis in range(3):
            planes, paces = np.moveaxis(time, axis, 0), np.moveaxis(pace, axis, 0)
            order = range(1, len(planes) - 1)
            for n in (*order, *reversed(order)):
                _sweep_plane(planes, paces[n - 1], n)
    return time[1:-1, 1:-1, 1:-1]


def _sweep_plane(time: FloatMap, pace: FloatMap, n: int) -> None:
    plane = time[n]
    first = np.minimum(time[n - 1], time[n + 1])[1:-1, 1:-1]
    second = np.minimum(plane[:-2, 1:-1], plane[2:, 1:-1])
    third = np.minimum(plane[1:-1, :-2], plane[1:-1, 2:])
    low, high = np.minimum(first, second), np.maximum(first, second)
    a, middle = np.minimum(low, third), np.maximum(low, third)
    b, c = np.minimum(high, middle) - a, np.maximum(high, middle) - a
    square = pace**2
    one = pace
    two = (b + np.sqrt(np.maximum(2 * square - b**2, 0))) / 2
    three = (b + c + np.sqrt(np.maximum((b + c) ** 2 - 3 * (b**2 + c**2 - square), 0))) / 3
    best = a + np.where(one <= b, one, np.where(two <= c, two, three))
    np.minimum(plane[1:-1, 1:-1], best, out=plane[1:-1, 1:-1])


@dataclass(frozen=True)
class Descent:
    """The quickest way to a sink from everywhere."""

    time: FloatMap
    grid: Grid

    def times(self, points_mm: NDArray[np.float64]) -> NDArray[np.float32]:
        """Travel time at the voxel nearest to each point."""
        i, j, k = np.clip(np.rint(self.grid.to_voxels(points_mm)).astype(int), 0, np.array(self.time.shape) - 1).T
        return np.asarray(self.time[i, j, k])

    def follow(
        self, rng: np.random.Generator, starts_mm: NDArray[np.float64], drift: float, most_mm: float
    ) -> list[NDArray[np.float64]]:
        """Courses from each start down to a sink, shape (n, 3) each, smooth, points `POINT_MM` apart.

        Args:
            rng: of the drift.
            starts_mm: shape (n, 3).
            drift: how much the course wanders, 0 straight .. 1 as much as it descends.
            most_mm: longest course.
        """
        slope = self._slope()
        point = starts_mm.copy()
        direction = self._at(slope, point)
        wander = _unit(rng.normal(size=point.shape))
        running = np.ones(len(point), dtype=bool)
        tracks = [point.copy()]
        lengths = np.ones(len(point), dtype=int)
        for _ in range(int(most_mm / STEP_MM)):
            wander = 0.8 * wander + 0.6 * rng.normal(size=point.shape) / np.sqrt(3)
            direction = _unit(0.55 * direction + 0.45 * self._at(slope, point) + 0.45 * drift * wander)
            point = point + STEP_MM * direction * running[:, None]
            tracks.append(point.copy())
            lengths += running
            running &= self.times(point) > 0
            if not running.any():
                break
        stacked = np.stack(tracks, axis=1)
        return [resampled(smoothed(track[:n])) for track, n in zip(stacked, lengths, strict=True)]

    def _slope(self) -> FloatMap:
        """Unit vectors of the descent, shape (3, i, j, k); zero where no way leads."""
        padded = np.pad(self.time, 1, constant_values=NEVER)
        centre = padded[1:-1, 1:-1, 1:-1]
        slope = np.zeros((3, *self.time.shape), dtype=np.float32)
        for axis in range(3):
            sides = []
            for shift in (0, 2):
                part = [slice(1, -1)] * 3
                part[axis] = slice(shift, shift + self.time.shape[axis])
                sides.append(padded[tuple(part)])
            fall = np.maximum(centre - np.minimum(*sides), 0)
            slope[axis] = np.where(sides[0] < sides[1], -fall, fall)
        slope[:, self.time >= NEVER] = 0
        return np.asarray(slope / np.maximum(np.sqrt((slope**2).sum(axis=0)), 1e-6))

    def _at(self, slope: FloatMap, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        position = np.clip(self.grid.to_voxels(points_mm), 0, np.array(self.time.shape) - 1.001)
        below = position.astype(np.int64)
        share = position - below
        total = np.zeros(points_mm.shape)
        for corner in np.ndindex(2, 2, 2):
            i, j, k = (below + corner).T
            total += (np.prod(np.where(corner, share, 1 - share), axis=1) * slope[:, i, j, k]).T
        return _unit(total)


class Tree:
    """Courses that join each other; every one but the roots ends on an earlier one or in a sink."""

    def __init__(self, grid: Grid) -> None:
        self._origin = np.array(grid.origin_mm)
        extent = np.ceil(np.array(grid.shape) * grid.spacing_mm / CELL_MM).astype(int) + 1
        self._owner = np.full(extent, -1, dtype=np.int32)
        self._place = np.zeros(extent, dtype=np.int32)
        self.courses: list[NDArray[np.float64]] = []
        self._roots = 0
        self._joins: list[tuple[int, int] | None] = []
        """Course and point of it on which each course ends."""

    def add(self, course: NDArray[np.float64], root: bool = False) -> bool:
        """Add a course that runs downstream, cut off where it meets another; false when it is not kept.

        Roots come first and are added whole, whatever they meet. What meets nothing ends on a root within
        `ROOT_GAP_MM` of its end; in a tree that has roots, courses that meet none are not kept, and
        nowhere those that would be shorter than `SHORTEST_MM`.
        """
        cells = self._cells(course)
        owners = self._owner[tuple(cells.T)]
        met = np.flatnonzero(owners >= 0)
        if root or not len(met):
            kept = len(course) - root
            join = self._nearest_root(course[-1])
        else:
            kept = int(met[0])
            owner = int(owners[kept])
            join = owner, min(int(self._place[tuple(cells[kept])]) + 1, len(self.courses[owner]) - 1)
        if not join and self._roots and not root:
            return False
        if join:
            course = np.concatenate([course[:kept], self.courses[join[0]][join[1]][None]])
        if not root and _length(course) < SHORTEST_MM:
            return False
        cells = self._cells(course)
        free = np.flatnonzero(self._owner[tuple(cells.T)] < 0)
        self._owner[tuple(cells[free].T)] = len(self.courses)
        self._place[tuple(cells[free].T)] = free
        self._roots += root
        self.courses.append(course)
        self._joins.append(join)
        return True

    def radii(self, tip_mm: NDArray[np.float64], limits_mm: tuple[float, float]) -> list[NDArray[np.float64]]:
        """Radius at each point of each course, shape (n,): a tip's, widened by all that flows in above.

        Args:
            tip_mm: radius of each course at its start.
            limits_mm: smallest and largest radius.
        """
        inflow = [np.zeros(len(course)) for course in self.courses]
        radii: list[NDArray[np.float64]] = [np.zeros(0)] * len(self.courses)
        # Courses join earlier ones only, so that all tributaries of one come after it.
        for number in reversed(range(len(self.courses))):
            course = self.courses[number]
            along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(course, axis=0), axis=1))])
            own = tip_mm[number] ** 3 * (1 + along / 15.0)
            flow = own + np.cumsum(inflow[number])
            join = self._joins[number]
            if join:
                inflow[join[0]][join[1]] += flow[-1]
            radius = np.cbrt(flow)
            for _ in range(3):
                radius = np.convolve(np.pad(radius, 1, mode="edge"), (0.25, 0.5, 0.25), mode="valid")
            radii[number] = np.clip(radius, *limits_mm)
        return radii

    def _cells(self, points_mm: NDArray[np.float64]) -> NDArray[np.int64]:
        cells = np.floor((points_mm - self._origin) / CELL_MM).astype(np.int64)
        return np.asarray(np.clip(cells, 0, np.array(self._owner.shape) - 1))

    def _nearest_root(self, point: NDArray[np.float64]) -> tuple[int, int] | None:
        """Course and point of it nearest to a point among the roots, within `ROOT_GAP_MM`."""
        best, gap = None, ROOT_GAP_MM
        for number in range(self._roots):
            gaps = np.linalg.norm(self.courses[number] - point, axis=1)
            if gaps.min() < gap:
                best, gap = (number, int(gaps.argmin())), float(gaps.min())
        return best


def smoothed(points: NDArray[np.float64], times: int = 3) -> NDArray[np.float64]:
    """Take the corners off a polyline; the ends stay."""
    for _ in range(times):
        inner = 0.25 * points[:-2] + 0.5 * points[1:-1] + 0.25 * points[2:]
        points = np.concatenate([points[:1], inner, points[-1:]])
    return points


def resampled(points: NDArray[np.float64], step_mm: float = POINT_MM) -> NDArray[np.float64]:
    """Points about `step_mm` apart along a polyline, both ends among them."""
    lengths = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    at = np.linspace(0, lengths[-1], max(2, round(lengths[-1] / step_mm) + 1))
    return np.stack([np.interp(at, lengths, points[:, axis]) for axis in range(3)], axis=1)


def _length(course: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(np.diff(course, axis=0), axis=1).sum())


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9))


def descent_in(around: Surroundings, speed: FloatMap, sinks: BoolMap) -> Descent:
    """The quickest ways on a grid half as fine as the surroundings'."""
    spacing = around.grid.spacing_mm[0] * 2
    origin = tuple(start + step / 2 for start, step in zip(around.grid.origin_mm, around.grid.spacing_mm, strict=True))
    grid = Grid(speed.shape, (spacing,) * 3, origin)  # type: ignore[arg-type]
    return Descent(travel_time(speed, sinks, spacing), grid)
