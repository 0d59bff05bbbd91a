"""Lesions on another grid, one by one, so that none vanishes unseen.

A plain trilinear or nearest-neighbour mask loses microbleeds of a few voxels: at 0.4 mm from the
old voxel centres even twofold refinement leaves a one-voxel lesion below one half everywhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["ResampledLesions", "resample_lesions"]

CONNECTED_26 = np.ones((3, 3, 3), dtype=bool)
THRESHOLDS = (0.5, 0.4, 0.3, 0.2, 0.1)


@dataclass(frozen=True)
class ResampledLesions:
    """A mask on its new grid, and the numbers of the lesions that vanished or merged."""

    mask: NDArray[np.uint8]
    lost: tuple[int, ...]


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
    boxes = ndimage.find_objects(labels, max_label=n_lesions)
    if tuple(shape) == labels.shape:
        absent = tuple(number for number, box in enumerate(boxes, 1) if box is None)
        return ResampledLesions((labels > 0).astype(np.uint8), absent)
    result = np.zeros(tuple(shape), dtype=np.int32)
    # Lesions come by falling volume; the smallest are placed first, since they can spare least.
    for number in range(n_lesions, 0, -1):
        box = boxes[number - 1]
        if box is None:
            continue
        weights, start = _weights(labels[box] == number, box, labels.shape, result.shape)
        if preserve:
            taken = _neighbourhood(result, start, weights.shape)
            placed = _one_component(np.where(taken, 0.0, weights))
        else:
            placed = weights >= THRESHOLDS[0]
        window = result[tuple(slice(s, s + n) for s, n in zip(start, placed.shape, strict=True))]
        window[placed & (window == 0)] = number
    return ResampledLesions((result > 0).astype(np.uint8), _lost(result, n_lesions))


def _weights(
    lesion: NDArray[np.bool_], box: tuple[slice, ...], old_shape: Sequence[int], shape: Sequence[int]
) -> tuple[NDArray[np.float64], tuple[int, ...]]:
    """Trilinear weights of one lesion on the part of the new grid that it can reach, and that part's start."""
    weights = lesion.astype(np.float64)
    start = []
    for axis, side in enumerate(box):
        n_old, n_new = old_shape[axis], shape[axis]
        scale = n_old / n_new
        first = max(0, int(np.floor((side.start - 0.5) / scale - 0.5)))
        last = min(n_new - 1, int(np.ceil((side.stop + 0.5) / scale - 0.5)))
        centres = np.clip((np.arange(first, last + 1) + 0.5) * scale - 0.5, 0, n_old - 1)
        distance = np.abs(centres[:, None] - np.arange(side.start, side.stop)[None, :])
        weights = np.moveaxis(np.tensordot(np.maximum(0, 1 - distance), weights, axes=(1, axis)), 0, axis)
        start.append(first)
    return weights, tuple(start)


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
