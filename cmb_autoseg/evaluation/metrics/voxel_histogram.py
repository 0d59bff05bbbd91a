"""Area under the voxels' ROC curve, from histograms of probabilities that need no map.

The bit pattern of a float32 that is not negative grows with its value, so its upper 16 bits (8 of the exponent, 7
of the mantissa: a bfloat16, cut off) are the bins of a histogram. They are as fine at 1e-12, where confident networks
leave what they miss, as at 0.1: values in one bin, which count as ties, differ by less than 1 %. Of the 16,257 bins
from 0 to 1 only those are used in which a voxel lies, some 130 for each factor of 2.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cmb_autoseg.errors import InputError

__all__ = ["BINNING", "N_BINS", "VoxelHistogram", "areas_under_curve", "count_probabilities", "wins_of_pairs"]

BINNING = "upper 16 bits of float32"
"""What stored histograms say of their bins."""
SHIFT_BITS = 16
N_BINS = (0x3F800000 >> SHIFT_BITS) + 1
"""0x3F800000 is the bit pattern of 1.0."""


@dataclass(frozen=True)
class VoxelHistogram:
    """How many voxels have each probability; both arrays are (`N_BINS`,), in order of rising probability."""

    lesion: NDArray[np.int64]
    """Voxels of the reference."""
    other: NDArray[np.int64]
    """The rest."""


def count_probabilities(probability: ArrayLike, lesion: NDArray[np.bool_]) -> VoxelHistogram:
    """Histogram of probabilities.

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
    bins = (values.astype(np.float32) + np.float32(0)).view(np.uint32) >> SHIFT_BITS
    return VoxelHistogram(*(np.bincount(bins[side].ravel(), minlength=N_BINS) for side in (lesion, ~lesion)))


def wins_of_pairs(histograms: Sequence[VoxelHistogram]) -> NDArray[np.float64]:
    """How often lesion voxels of one case are more probable than other voxels of another one; ties count half.

    Args:
        histograms: of n cases.

    Returns:
        (n, n): lesion voxels of the case of the row, other voxels of that of the column.
    """
    other = np.stack([histogram.other for histogram in histograms]).astype(np.float64)
    below = np.cumsum(other, axis=1) - other / 2
    return np.stack([histogram.lesion for histogram in histograms]).astype(np.float64) @ below.T


def areas_under_curve(
    wins: NDArray[np.float64], n_lesion: NDArray[np.float64], n_other: NDArray[np.float64], weights: ArrayLike
) -> NDArray[np.float64]:
    """Chance that a voxel of a lesion is more probable than another one, over the voxels of all cases together.

    The statistic of Mann and Whitney 1947, Annals of Mathematical Statistics 18:50, over its number of pairs: wins
    of a pair of cases count as often as both are drawn.

    Args:
        wins: (n, n), of `wins_of_pairs`.
        n_lesion: (n,), lesion voxels of each case.
        n_other: (n,), its other voxels.
        weights: (n_draws, n), how often each case is in a draw.

    Returns:
        (n_draws,); NaN where a side has no voxel.
    """
    drawn = np.asarray(weights, np.float64)
    won, pairs = np.sum((drawn @ wins) * drawn, axis=1), (drawn @ n_lesion) * (drawn @ n_other)
    areas = np.full(len(drawn), np.nan)
    np.divide(won, pairs, out=areas, where=pairs > 0)
    return areas
