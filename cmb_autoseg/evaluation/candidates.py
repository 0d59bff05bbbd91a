"""From a probability map to candidates with a confidence each, for curves over all thresholds.

A candidate is a peak of the map and what surrounds it down to half of its own height: it is told apart from a higher
peak when the map falls below that half on every way to it. So a hesitant lesion has an extent of its own, two
neighbours stay two though they touch at a low threshold, and the noise in a lesion's halo is no candidate. Peaks whose
map falls by a factor of two on every way to a higher one are the h-maxima of its logarithm, with h = log 2 (Soille
2003, Morphological Image Analysis, chapter 6.3.5). Extents relative to the peak: Bosma et al. 2023, Radiology:
Artificial Intelligence 5:e230031.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import reconstruction

from cmb_autoseg.evaluation.lesion_set import LesionSet
from cmb_autoseg.evaluation.protocols import LesionRule
from cmb_autoseg.geometry import Volume
from cmb_autoseg.lesions.components import components_of_labels, find_components

__all__ = ["CANDIDATE_FLOOR", "PEAK_SHARE", "find_candidates"]

CANDIDATE_FLOOR = 0.1
"""Voxels below it belong to no candidate."""
PEAK_SHARE = 0.5
FIRST_REACH = 8
"""Voxels to each side of a peak in which its candidate is looked for first."""
NEIGHBOURHOOD = np.ones((3, 3, 3), dtype=bool)


def find_candidates(probability: Volume, rule: LesionRule, floor: float = CANDIDATE_FLOOR) -> LesionSet:
    """The candidates of one map, numbered by falling size; their confidence is the probability of their peak.

    Args:
        probability: 0..1.
        rule: which voxels belong together; sizes are not looked at.
        floor: voxels below it belong to no candidate.
    """
    low = find_components(probability.data >= floor, connectivity=rule.connectivity)
    labels = np.zeros_like(low.labels)
    n_candidates = 0
    for n, window in enumerate(ndimage.find_objects(low.labels), start=1):
        values = np.where(low.labels[window] == n, probability.data[window], 0)
        for box, blob in _blobs(values, floor, rule):
            n_candidates += 1
            labels[window][box][blob] = n_candidates
    return LesionSet.of_components(components_of_labels(labels, n_candidates), probability, probability.data)


def _blobs(
    values: NDArray[np.floating], floor: float, rule: LesionRule
) -> Iterator[tuple[tuple[slice, ...], NDArray[np.bool_]]]:
    """The candidates of one component, as boxes of its window and masks of the boxes; they share no voxel.

    Args:
        values: (i, j, k), 0 outside the component.
        floor: least value inside.
        rule: which voxels belong together.
    """
    highest = float(values.max())
    if values[values > 0].min() >= PEAK_SHARE * highest:
        yield (slice(None),) * 3, values > 0
        return
    for place in _peaks(values, floor):
        yield _blob_around(values, place, max(floor, PEAK_SHARE * float(values[place])), rule)


def _blob_around(
    values: NDArray[np.floating], place: tuple[int, ...], level: float, rule: LesionRule
) -> tuple[tuple[slice, ...], NDArray[np.bool_]]:
    """The voxels of at least `level` that are connected to a place, looked for in growing boxes around it."""
    reach = FIRST_REACH
    while True:
        box = tuple(slice(max(0, at - reach), at + reach + 1) for at in place)
        start = [part.start for part in box]
        labels = find_components(values[box] >= level, connectivity=rule.connectivity).labels
        blob = labels == labels[tuple(at - first for at, first in zip(place, start, strict=True))]
        if not _touches_inner_face(blob, start, values.shape):
            return box, blob
        reach *= 2


def _touches_inner_face(blob: NDArray[np.bool_], start: list[int], shape: tuple[int, ...]) -> bool:
    """Whether a blob reaches a face of its box beyond which the window goes on."""
    for axis, (first, n) in enumerate(zip(start, shape, strict=True)):
        before = first > 0 and blob.take(0, axis).any()
        after = first + blob.shape[axis] < n and blob.take(-1, axis).any()
        if before or after:
            return True
    return False


def _peaks(values: NDArray[np.floating], floor: float) -> list[tuple[int, int, int]]:
    """A voxel of each peak from which every way to a higher one leads below half of its height."""
    # A voxel's breadth of background, so that a plateau at the window's edge ends there, too.
    height = np.log2(np.pad(np.maximum(values, floor / 4), 1, constant_values=floor / 4).astype(np.float64))
    lowered = reconstruction(height + np.log2(PEAK_SHARE), height, footprint=NEIGHBOURHOOD)
    tops, count = ndimage.label(_regional_maxima(lowered), structure=NEIGHBOURHOOD)
    places = np.array(ndimage.maximum_position(height, tops, range(1, count + 1)), dtype=np.int64).reshape(-1, 3)
    return [(int(i) - 1, int(j) - 1, int(k) - 1) for i, j, k in places]


def _regional_maxima(height: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Plateaus from which no neighbour rises, the background left out."""
    step = 1e-9
    filled = reconstruction(height - step, height, footprint=NEIGHBOURHOOD)
    maxima: NDArray[np.bool_] = (height - filled > step / 2) & (height > height.min() + step)
    return maxima
