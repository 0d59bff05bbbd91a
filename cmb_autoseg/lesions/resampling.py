"""Lesions on another grid, one by one, so that none vanishes unseen.

A plain trilinear or nearest-neighbour mask loses microbleeds of a few voxels: at 0.4 mm from the
old voxel centres even twofold refinement leaves a one-voxel lesion below one half everywhere.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["ResampledLesions", "move_lesions", "resample_lesions", "sample_offsets"]

CONNECTED_26 = np.ones((3, 3, 3), dtype=bool)
THRESHOLDS = (0.5, 0.4, 0.3, 0.2, 0.1)
ROUNDING = 1e-6
"""Voxels by which a point may lie beyond the edge of a grid, since affines are rounded."""


@dataclass(frozen=True)
class ResampledLesions:
    """A mask on its new grid, and the numbers of the lesions that vanished or merged."""

    mask: NDArray[np.uint8]
    lost: tuple[int, ...]
    outside: tuple[int, ...] = ()
    """Those of the lost ones of which no part lies on the new grid."""
    helped: tuple[int, ...] = ()
    """Lesions that weights of one half would have lost or torn apart; they are no longer lost."""


def resample_lesions(
    labels: NDArray[np.integer], n_lesions: int, shape: Sequence[int], preserve: bool
) -> ResampledLesions:
    """Bring numbered lesions to another number of voxels over the same extent.

    Voxel centres map as in `torch.nn.functional.interpolate(align_corners=False)`, which resamples
    the images.

    Args:
        labels: (a, b, c), 0 outside, else the lesion's number as `label_components` gave it, by
            falling volume. Axes may have been turned and the array cropped since: numbers stay.
        n_lesions: the highest number; one that is not in `labels` is lost.
        shape: of the result.
        preserve: give every lesion its own component: lower the threshold until it is one, and keep
            a gap of one voxel to its neighbours. False: plain trilinear weights at one half.
    """
    if tuple(shape) == labels.shape:
        boxes = ndimage.find_objects(labels, max_label=n_lesions)
        absent = tuple(number for number, box in enumerate(boxes, 1) if box is None)
        return ResampledLesions((labels > 0).astype(np.uint8), absent)
    scale = np.divide(labels.shape, tuple(shape))
    to_labels = np.diag([*scale, 1.0])
    to_labels[:3, 3] = 0.5 * scale - 0.5
    return move_lesions(labels, n_lesions, shape, to_labels, preserve)


def move_lesions(
    labels: NDArray[np.integer],
    n_lesions: int,
    shape: Sequence[int],
    to_labels: NDArray[np.float64],
    preserve: bool,
    samples: Sequence[int] = (1, 1, 1),
) -> ResampledLesions:
    """Bring numbered lesions to any other grid, turned, sheared or shifted.

    Args:
        labels: as for `resample_lesions`.
        n_lesions: the highest number.
        shape: of the result.
        to_labels: (4, 4), voxel indices of the result to voxel indices of `labels`.
        preserve: as for `resample_lesions`.
        samples: points along each axis of a new voxel over which weights are averaged. One is its
            centre alone; with about as many as old voxels fit into it, no lesion falls between two
            centres.
    """
    result = np.zeros(tuple(shape), dtype=np.int32)
    outside, helped = [], []
    # Lesions come by falling volume; the smallest are placed first, since they can spare least.
    for number, box in reversed(list(enumerate(ndimage.find_objects(labels, max_label=n_lesions), 1))):
        if box is None:
            continue
        weights, start = _weights(labels, number, box, to_labels, result.shape, samples)
        if not weights.any():
            outside.append(number)
            continue
        plain = weights >= THRESHOLDS[0]
        placed = plain
        if preserve:
            taken = _neighbourhood(result, start, weights.shape)
            placed = _one_component(np.where(taken, 0.0, weights))
            if placed.any() and not np.array_equal(placed, plain):
                helped.append(number)
        window = result[tuple(slice(s, s + n) for s, n in zip(start, placed.shape, strict=True))]
        window[placed & (window == 0)] = number
    lost = _lost(result, n_lesions)
    return ResampledLesions(
        (result > 0).astype(np.uint8),
        lost,
        tuple(sorted(set(lost) & set(outside))),
        tuple(sorted(set(helped) - set(lost))),
    )


def _weights(
    labels: NDArray[np.integer],
    number: int,
    box: tuple[slice, ...],
    to_labels: NDArray[np.float64],
    shape: Sequence[int],
    samples: Sequence[int],
) -> tuple[NDArray[np.float64], tuple[int, ...]]:
    """Trilinear weights of one lesion on the part of the new grid that it can reach, and that part's start.

    Within half a voxel beyond the old grid's outermost centres its edge goes on; further out is nothing.
    """
    low = np.array([max(side.start - 1, 0) for side in box])
    high = np.array([min(side.stop + 1, n) for side, n in zip(box, labels.shape, strict=True)])
    crop = (labels[tuple(map(slice, low, high))] == number).astype(np.float64)
    start, size = _reach(low - 1, high, np.linalg.inv(to_labels), shape)
    weights = np.zeros(size)
    if not weights.size:
        return weights, start
    voxels = np.indices(size, dtype=np.float64).reshape(3, -1) + np.array(start)[:, None]
    last = np.array(labels.shape)[:, None] - 1.0
    for offset in sample_offsets(samples):
        points = to_labels[:3, :3] @ (voxels + offset[:, None]) + to_labels[:3, 3:]
        known = np.all((points >= -0.5 - ROUNDING) & (points <= last + 0.5 + ROUNDING), axis=0)
        inner = np.clip(points, 0, last) - low[:, None]
        sampled = ndimage.map_coordinates(crop, inner, order=1, mode="constant")
        weights += (sampled * known).reshape(size)
    # Ties must not hang on the last bit: planner and preprocessing come here with axes in other orders.
    return np.round(weights / np.prod(samples), 9), start


def sample_offsets(samples: Sequence[int]) -> list[NDArray[np.float64]]:
    """Points within a voxel as offsets from its centre: midpoints of as many equal parts along each axis."""
    sides = [(np.arange(n) + 0.5) / n - 0.5 for n in samples]
    return [np.array(offset) for offset in itertools.product(*sides)]


def _reach(
    low: NDArray[np.int64], high: NDArray[np.int64], to_new: NDArray[Any], shape: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Start and size of the part of the new grid in which a box of the old one lies."""
    corners = np.array(list(itertools.product(*zip(low, high, strict=True)))) @ to_new[:3, :3].T + to_new[:3, 3]
    first = np.maximum(np.floor(corners.min(axis=0) - 0.5), 0).astype(int)
    stop = np.minimum(np.ceil(corners.max(axis=0) + 0.5) + 1, shape).astype(int)
    return tuple(first.tolist()), tuple(np.maximum(stop - first, 0).tolist())


def _neighbourhood(result: NDArray[np.int32], start: Sequence[int], size: Sequence[int]) -> NDArray[np.bool_]:
    """Where, in a window of `result`, a voxel would touch a component that is already there."""
    low = [max(0, s - 1) for s in start]
    window = result[tuple(slice(lo, s + n + 1) for lo, s, n in zip(low, start, size, strict=True))] > 0
    grown = ndimage.binary_dilation(window, CONNECTED_26)
    inner = tuple(slice(s - lo, s - lo + n) for lo, s, n in zip(low, start, size, strict=True))
    return np.asarray(grown[inner])


def _one_component(weights: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The highest threshold at which the weights form exactly one component; else their largest voxel."""
    peak = float(weights.max())
    if peak <= 0:
        return np.zeros(weights.shape, dtype=bool)
    for threshold in THRESHOLDS:
        if threshold <= peak:
            placed = weights >= threshold
            if ndimage.label(placed, CONNECTED_26)[1] == 1:
                return placed
    placed = np.zeros(weights.shape, dtype=bool)
    placed[np.unravel_index(int(weights.argmax()), weights.shape)] = True
    return placed


def _lost(result: NDArray[np.integer], n_lesions: int) -> tuple[int, ...]:
    """Components with no voxel left, and all but the first of those that share a component."""
    merged, n_after = ndimage.label(result > 0, CONNECTED_26)
    kept: dict[int, int] = {}
    if n_after:
        for component, number in np.unique(np.stack((merged[result > 0], result[result > 0])), axis=1).T:
            kept.setdefault(int(component), int(number))
    return tuple(number for number in range(1, n_lesions + 1) if number not in set(kept.values()))
