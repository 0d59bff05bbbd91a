"""What a first stage proposes: the peaks of its probability map, and which voxels each of them speaks for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import watershed

from cmb_autoseg.evaluation.matching.candidates import find_candidates
from cmb_autoseg.evaluation.matching.protocols import LesionRule
from cmb_autoseg.geometry import Volume

__all__ = ["Candidates", "propose"]

TOP_SHARE = 0.99
"""Voxels of this share of a candidate's peak have a say in where it lies."""
EVERY_NEIGHBOR = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True)
class Candidates:
    """Peaks of one map, the highest first.

    Attributes:
        peaks: (n, 3), voxel indices (i, j, k): of the voxels that are as high as the peak but for a hundredth, the one
            nearest to their middle, since sure networks and boxes make plateaus.
        confidence: (n,), the map's highest value in each candidate.
        owners: (i, j, k): number of the candidate, from 1, that a voxel at or above the threshold belongs to; 0 for
            voxels below it and for those of candidates that were too many.
    """

    peaks: NDArray[np.int64]
    confidence: NDArray[np.float64]
    owners: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.peaks)


def propose(probability: Volume, threshold: float, most: int) -> Candidates:
    """The candidates of one map.

    A component at a low threshold often holds several lesions, so a candidate is a peak with what surrounds it down to
    half of its height (see `evaluation.matching.candidates`), as in curves over all thresholds. What lies lower in the
    same component goes to the candidate that it climbs to (a watershed), so that all of a vetoed one vanishes, its halo
    and its slopes included.

    Args:
        probability: of the first stage, 0 to 1.
        threshold: voxels below it belong to no candidate.
        most: candidates that stay, those of the highest peaks.
    """
    found = find_candidates(probability, LesionRule(), threshold)
    assert found.components is not None
    assert found.confidence is not None
    order = np.argsort(-found.confidence, kind="stable")[:most]
    blobs = found.components.labels
    number = np.zeros(len(found) + 1, dtype=np.int32)
    number[order + 1] = np.arange(1, len(order) + 1)
    owners = number[watershed(-probability.data, blobs, EVERY_NEIGHBOR, mask=probability.data >= threshold)]
    boxes: Sequence[Any] = ndimage.find_objects(blobs)
    peaks = [_middle_of_top(probability, blobs, index + 1, boxes[index], found.confidence[index]) for index in order]
    return Candidates(np.array(peaks, dtype=np.int64).reshape(-1, 3), found.confidence[order], owners)


def _middle_of_top(
    probability: Volume, labels: NDArray[np.int32], number: int, box: tuple[slice, ...], peak: float
) -> NDArray[np.intp]:
    """(3,), see `Candidates.peaks`.

    Args:
        probability: of the first stage.
        labels: (i, j, k), numbers of blobs.
        number: of the blob in question.
        box: about it.
        peak: its highest value.
    """
    top = np.argwhere((labels[box] == number) & (probability.data[box] >= TOP_SHARE * peak))
    away_mm = (top - top.mean(axis=0)) * probability.spacing_mm
    nearest: NDArray[np.intp] = top[int(np.argmin((away_mm**2).sum(axis=1)))] + [side.start for side in box]
    return nearest
