"""Balls, ellipses and ellipsoids as voxels, kept one voxel apart.

Where a lesion is known as a point or a box only, this is how its voxels are drawn: one 26-connected
component each.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cmb_autoseg.dataset_conversion.labels.result import TWENTY_SIX

__all__ = ["Ellipsoid", "Shape", "Voxel", "draw", "is_inside", "nearest_voxel", "rasterize", "touch", "unite"]

Voxel = tuple[int, int, int]
ROUNDING = 1e-6
"""Of radii and voxel indices, so that what lies on an edge falls the same way whatever the file's decimals."""


@dataclass(frozen=True)
class Ellipsoid:
    """All points p with |(p - centre) / half| <= 1, in coordinates of the file that marks it."""

    centre: NDArray[np.float64]
    """(3,)"""
    half: NDArray[np.float64]
    """(3,), half the lengths of its axes."""
    to_file: NDArray[np.float64]
    """(4, 4), voxel indices to the file's coordinates."""


@dataclass(frozen=True)
class Shape:
    """The voxels of one lesion before its neighbours are looked at."""

    anchor: Voxel
    """Middle voxel, which it must not lose: what is cut off from it goes."""
    voxels: NDArray[np.int64]
    """(n, 3), the anchor among them."""
    depth: NDArray[np.float64]
    """(n,), distance from the middle; of two shapes the one with the smaller depth gets a voxel."""
    kept: tuple[Voxel, ...]
    """Voxels that no neighbour may take: the anchor and, of a lesion on several slices, each slice's middle."""


def rasterize(ellipsoid: Ellipsoid, shape: Voxel, scale: float = 1.0) -> Shape:
    """The voxels whose centre is inside; at least the one nearest to the middle.

    Args:
        ellipsoid: its middle must lie inside the grid.
        shape: of the grid; voxels beyond it are left out.
        scale: of the depths; 1 gives 0 in the middle to 1 on the surface.
    """
    to_voxels = np.linalg.inv(ellipsoid.to_file)
    middle = to_voxels[:3, :3] @ ellipsoid.centre + to_voxels[:3, 3]
    anchor = nearest_voxel(middle)
    # The largest excursion of an ellipsoid along a direction is the norm of its half axes seen from there.
    reach = np.ceil(np.linalg.norm(to_voxels[:3, :3] * ellipsoid.half, axis=1)).astype(int) + 1
    low = np.maximum(np.array(anchor) - reach, 0)
    high = np.minimum(np.array(anchor) + reach + 1, shape)
    voxels = np.stack(np.meshgrid(*map(np.arange, low, high), indexing="ij"), axis=-1).reshape(-1, 3)
    in_file = voxels @ ellipsoid.to_file[:3, :3].T + ellipsoid.to_file[:3, 3]
    depth = np.linalg.norm((in_file - ellipsoid.centre) / ellipsoid.half, axis=1)
    is_anchor = np.all(voxels == anchor, axis=1)
    depth[is_anchor] = 0
    inside = depth <= 1 + ROUNDING
    return Shape(anchor, voxels[inside], depth[inside] * scale, (anchor,))


def unite(shapes: Sequence[Shape]) -> Shape:
    """One lesion of its parts on neighbouring slices; its anchor is the middle part's."""
    return Shape(
        shapes[len(shapes) // 2].anchor,
        np.concatenate([shape.voxels for shape in shapes]),
        np.concatenate([shape.depth for shape in shapes]),
        tuple(shape.anchor for shape in shapes),
    )


def touch(one: Shape, other: Shape) -> bool:
    """Whether two shapes share a voxel or have neighbouring ones (26)."""
    low = np.maximum(one.voxels.min(axis=0), other.voxels.min(axis=0)) - 1
    high = np.minimum(one.voxels.max(axis=0), other.voxels.max(axis=0)) + 2
    if np.any(high <= low):
        return False
    return bool(np.any(ndimage.binary_dilation(_within(one, low, high), TWENTY_SIX) & _within(other, low, high)))


def _within(shape: Shape, low: NDArray[np.int64], high: NDArray[np.int64]) -> NDArray[np.bool_]:
    """The voxels of a shape in a box, as an array of that box."""
    inside = np.all((shape.voxels >= low) & (shape.voxels < high), axis=1)
    array = np.zeros(high - low, dtype=bool)
    array[tuple((shape.voxels[inside] - low).T)] = True
    return array


def draw(shapes: Sequence[Shape], shape: Voxel) -> NDArray[np.uint8]:
    """Draw lesions so that each is one component, with a gap of one voxel to its neighbours.

    A voxel belongs to the shape in which it lies deepest. Where two touch, the later one gives way,
    but nobody loses the voxels that are to be kept; shapes whose middles touch stay merged.

    Returns:
        1 in lesions, of that shape.
    """
    owners = _deepest(shapes, shape)
    kept = np.zeros(shape, dtype=bool)
    for lesion in shapes:
        kept[tuple(np.array(lesion.kept).T)] = True
    for number, lesion in enumerate(shapes, 1):
        window = _window(lesion, shape)
        part = owners[window]
        own = part == number
        rivals = (part > 0) & ~own & ((part < number) | kept[window])
        gone = own & ndimage.binary_dilation(rivals, TWENTY_SIX) & ~kept[window]
        own &= ~gone
        connected, _ = ndimage.label(own, TWENTY_SIX)
        at = tuple(index - side.start for index, side in zip(lesion.anchor, window, strict=True))
        part[(part == number) & ~((connected == connected[at]) & (connected > 0))] = 0
    return (owners > 0).astype(np.uint8)


def _deepest(shapes: Sequence[Shape], shape: Voxel) -> NDArray[np.int32]:
    """The number, from 1, of the shape to which each voxel belongs; the earlier one's of two as deep."""
    owners = np.zeros(shape, dtype=np.int32)
    depths = np.full(shape, np.inf, dtype=np.float32)
    for number, lesion in enumerate(shapes, 1):
        at = tuple(lesion.voxels.T)
        closer = lesion.depth.astype(np.float32) < depths[at]
        at = tuple(lesion.voxels[closer].T)
        owners[at] = number
        depths[at] = lesion.depth[closer]
    return owners


def _window(lesion: Shape, shape: Voxel) -> tuple[slice, ...]:
    """The lesion's box with one voxel more on every side."""
    low = np.maximum(lesion.voxels.min(axis=0) - 1, 0)
    high = np.minimum(lesion.voxels.max(axis=0) + 2, shape)
    return tuple(map(slice, low.tolist(), high.tolist()))


def nearest_voxel(voxel: NDArray[np.float64]) -> Voxel:
    i, j, k = (math.floor(value + 0.5 + ROUNDING) for value in voxel)
    return i, j, k


def is_inside(voxel: Voxel, shape: Voxel) -> bool:
    return all(0 <= index < size for index, size in zip(voxel, shape, strict=True))
