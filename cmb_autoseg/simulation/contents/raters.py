"""How people annotate what the reference mask shows: tightly, loosely, by points, by boxes.

All variants hold visible lesions only, in the order of their marks, and are drawn from a seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.simulation.contents.sources import Contents, Inclusion, Kind
from cmb_autoseg.simulation.contents.visibility import Mark, dilated
from cmb_autoseg.simulation.grids import Grid

__all__ = ["Box", "Point", "boxes", "loose", "nearest_mimic", "points", "tight"]

TIGHT_DROP = 0.40
LOOSE_DROP = 0.12

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Point:
    """A click near the middle of a lesion."""

    mark: Mark
    voxel: tuple[int, int, int]
    point_mm: Triple
    """Centre of that voxel, in the frame of the scan's grid."""


@dataclass(frozen=True)
class Box:
    """A box around a lesion, corners included, voxel indices."""

    mark: Mark
    low: tuple[int, int, int]
    high: tuple[int, int, int]


def tight(
    with_lesions: NDArray[np.float32], without_lesions: NDArray[np.float32], marks: Sequence[Mark]
) -> NDArray[np.uint8]:
    """Mask of a rater who marks the dark core only: voxels that lose more than 40 % of their signal.

    A lesion without any keeps its darkest voxel.

    Args:
        with_lesions: noise-free magnitude, shape (i, j, k).
        without_lesions: the same without microbleeds.
        marks: of the same scan.
    """
    mask = np.zeros(without_lesions.shape, dtype=np.uint8)
    for mark in marks:
        if not mark.visible:
            continue
        at = tuple(mark.voxels.T)
        drop = 1 - with_lesions[at] / np.maximum(without_lesions[at], 1e-12)
        kept = mark.voxels[(drop > TIGHT_DROP) | (drop == drop.max())]
        mask[tuple(kept.T)] = 1
    return mask


def loose(
    with_lesions: NDArray[np.float32],
    without_lesions: NDArray[np.float32],
    brain: NDArray[np.bool_],
    marks: Sequence[Mark],
) -> NDArray[np.uint8]:
    """Mask of a generous rater: the reference and its 26-neighbours that lose more than 12 %.

    Where that adds nothing to a lesion, its neighbours in the slice are added instead.
    """
    mask = np.zeros(without_lesions.shape, dtype=np.uint8)
    for mark in marks:
        if not mark.visible:
            continue
        low = np.maximum(mark.voxels.min(axis=0) - 2, 0)
        high = mark.voxels.max(axis=0) + 3
        box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        region = np.zeros(mask[box].shape, dtype=bool)
        region[tuple((mark.voxels - low).T)] = True
        before = without_lesions[box]
        faint = before - with_lesions[box] > LOOSE_DROP * before
        grown = region | (dilated(dilated(region) & faint) & faint)
        if grown.sum() == region.sum():
            grown = dilated(region, axes=(0, 1))
        mask[box] |= grown & brain[box]
    return mask


def points(rng: np.random.Generator, marks: Sequence[Mark], grid: Grid, jitter_mm: float = 0.7) -> list[Point]:
    """Clicks on the middle of each lesion, with a normal error of `jitter_mm` along each axis."""
    clicks = []
    for mark in marks:
        error = rng.normal(0, jitter_mm, 3)
        if not mark.visible:
            continue
        middle = grid.to_voxels(grid.to_mm(mark.voxels).mean(axis=0) + error)
        i, j, k = (int(index) for index in np.clip(np.rint(middle), 0, np.array(grid.shape) - 1))
        x, y, z = (float(value) for value in grid.to_mm(np.array([i, j, k])))
        clicks.append(Point(mark, (i, j, k), (x, y, z)))
    return clicks


def boxes(rng: np.random.Generator, marks: Sequence[Mark], grid: Grid, margin_mm: float = 1.0) -> list[Box]:
    """Boxes about each lesion, each face 0 to 2 `margin_mm` outside of it and within the scan.

    For 2D boxes take, in each slice of `low[2]..high[2]`, the first two indices.
    """
    drawn = []
    for mark in marks:
        margins = rng.uniform(0, 2 * margin_mm, (2, 3)) / grid.spacing_mm
        if not mark.visible:
            continue
        low = np.maximum(np.rint(mark.voxels.min(axis=0) - margins[0]), 0).astype(int)
        high = np.minimum(np.rint(mark.voxels.max(axis=0) + margins[1]), np.array(grid.shape) - 1).astype(int)
        drawn.append(Box(mark, tuple(low.tolist()), tuple(high.tolist())))
    return drawn


def nearest_mimic(lesion: Inclusion, contents: Contents) -> tuple[Kind, float] | None:
    """Kind of the mimic nearest to a microbleed, and millimetres from the microbleed's centre to its surface.

    0 where the centre lies inside; None in a head without mimics.
    """
    centre = np.array(lesion.centre_mm)
    best: tuple[Kind, float] | None = None
    for mimic in contents.mimics:
        for sphere in mimic.spheres:
            gap = float(np.linalg.norm(centre - sphere.centre_mm)) - sphere.radius_mm
            if best is None or gap < best[1]:
                best = mimic.kind, gap
    for tube in contents.tubes:
        gap = _gap_to_tube(centre, tube.points_mm, tube.radius_mm)
        if best is None or gap < best[1]:
            best = tube.kind, gap
    return (best[0], max(best[1], 0.0)) if best else None


def _gap_to_tube(point: NDArray[np.float64], line: NDArray[np.float64], radius: NDArray[np.float64]) -> float:
    start, step = line[:-1], np.diff(line, axis=0)
    square = np.maximum((step**2).sum(axis=1), 1e-12)
    share = np.clip(((point - start) * step).sum(axis=1) / square, 0, 1)
    gaps = np.linalg.norm(start + share[:, None] * step - point, axis=1)
    return float((gaps - (radius[:-1] * (1 - share) + radius[1:] * share)).min())
