"""Boxes in slices drawn as a map of probability, so that thresholds, masks and lesion tables know detectors as well."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.inference.ensemble import SliceBox

__all__ = ["draw_boxes"]


def draw_boxes(boxes: Sequence[SliceBox], shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """(i, j, k): in the ellipses that the boxes hold the highest score of their lesion, 0 elsewhere.

    Where lesions overlap, the higher score counts. On slices that a lesion skips it has the mean of the boxes on
    either side. An ellipse that holds no voxel's middle takes the voxel that is nearest to its own.
    """
    result = np.zeros(shape, dtype=np.float32)
    lesions: dict[int, list[SliceBox]] = {}
    for box in boxes:
        lesions.setdefault(box.lesion, []).append(box)
    for lesion in lesions.values():
        score = max(box.score for box in lesion)
        chain = sorted(lesion, key=lambda box: box.slice)
        for box in [*chain, *(between for pair in pairwise(chain) for between in _between(*pair))]:
            _draw(result[:, :, box.slice], box, score)
    return result


def _between(lower: SliceBox, upper: SliceBox) -> list[SliceBox]:
    """Boxes on the slices that lie between two of a lesion, from one to the other."""
    n = upper.slice - lower.slice
    boxes = []
    for step in range(1, n):
        share = step / n
        x_min, y_min, x_max, y_max = (
            (1 - share) * getattr(lower, side) + share * getattr(upper, side)
            for side in ("x_min", "y_min", "x_max", "y_max")
        )
        score = min(lower.score, upper.score)
        boxes.append(SliceBox(lower.slice + step, x_min, y_min, x_max, y_max, score, lower.lesion))
    return boxes


def _draw(plane: NDArray[np.float32], box: SliceBox, score: float) -> None:
    """Into a slice (i, j), in place."""
    middle = np.array([box.x_min + box.x_max, box.y_min + box.y_max]) / 2
    half = np.maximum(np.array([box.x_max - box.x_min, box.y_max - box.y_min]) / 2, 1e-6)
    limits = np.array(plane.shape)
    low = np.clip(np.ceil(middle - half).astype(int), 0, limits)
    high = np.clip(np.floor(middle + half).astype(int) + 1, low, limits)
    axes = [np.arange(start, stop) for start, stop in zip(low, high, strict=True)]
    distances = [((axis - at) / extent) ** 2 for axis, at, extent in zip(axes, middle, half, strict=True)]
    inside = distances[0][:, None] + distances[1][None] <= 1
    if inside.any():
        part = plane[low[0] : high[0], low[1] : high[1]]
        part[inside] = np.maximum(part[inside], score)
        return
    nearest = tuple(np.clip(np.rint(middle).astype(int), 0, limits - 1))
    plane[nearest] = max(plane[nearest], score)
