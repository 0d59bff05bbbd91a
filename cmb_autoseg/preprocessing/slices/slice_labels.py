"""Microbleeds as pictures' masks and boxes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cmb_autoseg.lesions import find_components, move_lesions
from cmb_autoseg.preprocessing.slices.frame import SliceFrame

__all__ = ["IGNORED", "SliceLabels", "slice_labels"]

IGNORED = 2
"""In masks: of a microbleed that is no target, nor background."""
CONNECTED_8 = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True)
class SliceLabels:
    """What is to be found in every picture of one scan.

    Attributes:
        mask: (slice, h, w), 1 in a microbleed, `IGNORED` in one that is no target, else 0.
        boxes: (n, 5), slice, x_min, y_min, x_max, y_max in continuous pixels: one box for each connected part of a
            microbleed in a slice, targets only, by slice.
    """

    mask: NDArray[np.uint8]
    boxes: NDArray[np.float32]


def slice_labels(
    mask: NDArray[Any],
    frame: SliceFrame,
    voxel_volume_mm3: float = 1.0,
    diameter_mm: tuple[float, float] | None = None,
) -> SliceLabels:
    """The labels of one scan, in which every part of a microbleed that the pictures show is kept.

    Args:
        mask: (i, j, k), canonical; not 0 in microbleeds.
        frame: of the scan's pictures.
        voxel_volume_mm3: of `mask`.
        diameter_mm: microbleeds smaller or larger, by the sphere of equal volume, are no targets; None: all are.
    """
    components = find_components(np.asarray(mask) != 0)
    diameters = (6 * components.sizes * voxel_volume_mm3 / math.pi) ** (1 / 3)
    low, high = diameter_mm or (0.0, math.inf)
    wanted = np.concatenate([[False], (diameters >= low) & (diameters <= high)])
    slices = components.labels.transpose(2, 1, 0)
    masks = np.zeros((len(slices), *frame.size), dtype=np.uint8)
    boxes: list[tuple[float, ...]] = []
    for index in np.flatnonzero(slices.any(axis=(1, 2))):
        parts, owners = _parts(slices[index])
        masks[index] = _picture_mask(parts, wanted[owners], frame)
        for part, box in enumerate(ndimage.find_objects(parts), 1):
            seen = _seen_box(box, frame) if wanted[owners[part]] else None
            if seen is not None:
                boxes.append((float(index), *seen))
    return SliceLabels(masks, np.array(boxes, np.float32).reshape(-1, 5))


def _parts(labels: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Connected parts of a slice's (rows, columns) microbleeds by falling size, and whose each is; 0 for none."""
    parts = np.zeros(labels.shape, dtype=np.int32)
    owners = [0]
    for number in np.unique(labels[labels > 0]):
        found, count = ndimage.label(labels == number, CONNECTED_8)
        parts[found > 0] = found[found > 0] + len(owners) - 1
        owners += [int(number)] * count
    order = np.argsort(-np.bincount(parts.ravel(), minlength=len(owners))[1:], kind="stable") + 1
    renumbered = np.zeros(len(owners), dtype=np.int32)
    renumbered[order] = np.arange(1, len(owners))
    return renumbered[parts], np.array(owners, dtype=np.int32)[np.concatenate([[0], order])]


def _picture_mask(parts: NDArray[np.int32], wanted: NDArray[np.bool_], frame: SliceFrame) -> NDArray[np.uint8]:
    """(h, w); parts are moved one by one, so that none vanishes between two pixels."""
    to_labels = np.diag([1.0, 1 / frame.scale[0], 1 / frame.scale[1], 1.0])
    to_labels[1:3, 3] = [start - 0.5 + 0.5 / scale for start, scale in zip(frame.start, frame.scale, strict=True)]
    samples = (1, *(math.ceil(1 / scale) for scale in frame.scale))
    result = np.zeros(frame.size, dtype=np.uint8)
    for kind, value in ((~wanted, IGNORED), (wanted, 1)):
        chosen = np.where(kind[parts], parts, 0)[None]
        if chosen.any():
            moved = move_lesions(chosen, len(wanted) - 1, (1, *frame.size), to_labels, True, samples)
            result[moved.mask[0] > 0] = value
            for part in sorted(set(moved.lost) & set(np.flatnonzero(kind).tolist())):
                _keep_pixel(result, parts == part, frame, value)
    return result


def _keep_pixel(result: NDArray[np.uint8], part: NDArray[np.bool_], frame: SliceFrame, value: int) -> None:
    """Mark the pixel of a part that lies so near to another that no gap is left between them: better one than none."""
    middle = frame.pixels_of(np.argwhere(part).mean(axis=0)[None, ::-1])[0, ::-1]
    row, column = (int(at) for at in np.rint(middle))
    if 0 <= row < frame.size[0] and 0 <= column < frame.size[1]:
        result[row, column] = value


def _seen_box(box: Sequence[slice], frame: SliceFrame) -> tuple[float, ...] | None:
    """x_min, y_min, x_max, y_max of voxels in pixels, cut to the picture; None where it shows nothing of them."""
    rows, columns = box
    corners = frame.pixels_of(
        np.array([[columns.start - 0.5, rows.start - 0.5], [columns.stop - 0.5, rows.stop - 0.5]])
    )
    limits = np.array(frame.size[::-1]) - 0.5
    low, high = np.clip(corners, -0.5, limits)
    return (*low.tolist(), *high.tolist()) if (high > low).all() else None
