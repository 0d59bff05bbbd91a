"""Area under the voxels' ROC curve, exact for probabilities in half precision, from counts that add up.

The bit pattern of a half that is not negative grows with its value, so the 15,361 patterns from 0 to 1 are
the bins of a histogram that loses nothing but the rounding to halves (a relative 2^-11). Histograms of cases
add up, so pooled figures and their bootstrap need no probability map.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cmb_autoseg.errors import InputError

__all__ = ["N_BINS", "VoxelHistogram", "area_under_curve", "count_probabilities"]

N_BINS = 0x3C00 + 1
"""0x3C00 is the bit pattern of 1.0."""


@dataclass(frozen=True)
class VoxelHistogram:
    """How many voxels have each probability; both arrays are (`N_BINS`,), in order of rising probability."""

    lesion: NDArray[np.int64]
    """Voxels of the reference."""
    other: NDArray[np.int64]
    """The rest."""

    def __add__(self, more: "VoxelHistogram") -> "VoxelHistogram":
        return VoxelHistogram(self.lesion + more.lesion, self.other + more.other)

    @property
    def auc(self) -> float:
        """NaN where there are voxels of one kind only."""
        return float(area_under_curve(self.lesion, self.other))


def count_probabilities(probability: ArrayLike, lesion: NDArray[np.bool_]) -> VoxelHistogram:
    """Histogram of probabilities, rounded to halves.

    Args:
        probability: of any shape, 0 to 1.
        lesion: of the same shape; True where the reference has a lesion.

    Raises:
        InputError: a value is not within 0 to 1.
    """
    values = np.asarray(probability)
    if values.size and not (values.min() >= 0 and values.max() <= 1):  # written so that NaN fails too
        raise InputError(
            f"voxel AUC: found values from {values.min():g} to {values.max():g}, expected probabilities from 0 to 1"
        )
    # Adding 0 turns a negative zero, whose bit pattern is high, into a plain one.
    bins = (values.astype(np.float16) + np.float16(0)).view(np.uint16)
    return VoxelHistogram(*(np.bincount(bins[side].ravel(), minlength=N_BINS) for side in (lesion, ~lesion)))


def area_under_curve(lesion: ArrayLike, other: ArrayLike) -> NDArray[np.float64]:
    """Chance that a lesion's voxel has a higher probability than another; ties count half (Mann-Whitney).

    Args:
        lesion: counts (..., bins), bins by rising probability.
        other: of the same shape.

    Returns:
        (...); NaN where a side has no voxel.
    """
    found, rest = np.asarray(lesion, np.float64), np.asarray(other, np.float64)
    below = np.cumsum(rest, axis=-1) - rest
    wins = np.sum(found * (below + rest / 2), axis=-1)
    pairs = found.sum(axis=-1) * rest.sum(axis=-1)
    with np.errstate(invalid="ignore"):
        area: NDArray[np.float64] = np.where(pairs > 0, wins / pairs, np.nan)
    return area
