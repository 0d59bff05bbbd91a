"""Grey values of a prepared sequence on a scale from 0 to 1, the same from scan to scan.

Voxels outside the brain are 0 and take no part; inside, every value is finite.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cmb_autoseg.records import Role

__all__ = ["PEAK", "grey_values", "histogram_window"]

PEAK = 0.6
"""Where the white-matter peak comes to lie. Microbleeds are darker than white matter in SWI and magnitude images, so
that more of the scale is left below it."""
BINS = 512
SMOOTHING_BINS = 3.0
"""Standard deviation of the smoothing before the peak is looked for; the noise of single bins has peaks of its own."""
TAIL_SHARE = 1e-4
"""Bins of fewer of the brain's voxels than this make the histogram's tail (Gaussian noise has none, vessels have)."""
BOTH_TAILS = (Role.QSM,)
"""Sequences of positive and negative values: outliers lie on both sides, microbleeds at the bright end."""
WITH_PEAK = (Role.SWI, Role.GRE_MAG, Role.T1, Role.T2, Role.FLAIR, Role.QSM)
"""Sequences whose commonest grey value is that of white matter; the others are scaled by their extremes."""
DARKEST = 1e-3
"""Least grey value of the brain, so that 0 is the background alone."""
LEAST_KEPT = 1 / 8
"""Share of the bins; where the tail's cut leaves fewer, what is left is binned again. A handful of voxels a thousand
times too bright would else have the whole brain in a few bins, its peak at their width."""
MOST_BINNINGS = 4
"""Enough for voxels a million times too bright; a scan of one value alone would be cut for ever."""
SPIKES, SPIKES_SHARE = 10, 1e-5
"""Most voxels, and most of the brain's, that are set to the lower end because they may be faults. Of microbleeds that
are among them nothing is lost but the order of their darkest voxels."""
MOST_EXTREME = 1e-5
"""Share of voxels on either side beyond which values do not stretch the histogram: single spikes would empty it."""


def grey_values(
    data: NDArray[np.float32], role: Role, normalization: Literal["white_matter_peak", "min_max"]
) -> NDArray[np.float32]:
    """Grey values from 0 to 1.

    `min_max` maps the smallest value to 0 and the largest to 1. `white_matter_peak` cuts the thin tail of the
    histogram off (values beyond it become the last that is left) and maps the lower end to 0, the white-matter peak to
    `PEAK`, the upper end to 1, linearly between them: a single linear map to 0-1 would undo any alignment of the peak.

    Args:
        data: (i, j, k), 0 outside the brain.
        role: of the sequence; see `WITH_PEAK` and `BOTH_TAILS`.
        normalization: see above.

    Returns:
        As `data`; 0 outside the brain alone, all 0 for a blank sequence, one half throughout for a constant one.
    """
    inside = data != 0
    values = data[inside].astype(np.float64)
    result = np.zeros(data.shape, dtype=np.float32)
    if not values.size:
        return result
    if values.min() == values.max():
        result[inside] = 0.5
    elif normalization == "white_matter_peak" and role in WITH_PEAK:
        low, peak, high = histogram_window(values, both_tails=role in BOTH_TAILS)
        result[inside] = np.interp(values, (low, peak, high), (0.0, PEAK, 1.0))
    else:
        result[inside] = (values - values.min()) / (values.max() - values.min())
    result[inside] = np.maximum(result[inside], DARKEST)
    return result


def histogram_window(values: NDArray[np.float64], both_tails: bool) -> tuple[float, float, float]:
    """Lower end, white-matter peak and upper end of the histogram, rising strictly.

    Args:
        values: (n,), of the brain; not all the same.
        both_tails: cut the tail at the dark end as well. Else the lower end is the smallest value but for a few voxels
            that may be spikes: in magnitude images microbleeds lie there.
    """
    spread = np.quantile(values, (MOST_EXTREME, 1 - MOST_EXTREME), method="nearest")
    if not both_tails:
        n_spikes = min(SPIKES, int(SPIKES_SHARE * len(values)))
        spread[0] = np.partition(values, n_spikes)[n_spikes]
    if spread[0] == spread[1]:
        spread = np.array([values.min(), values.max()])
    low, high = float(spread[0]), float(spread[1])
    for _ in range(MOST_BINNINGS):
        counts, edges = np.histogram(values, BINS, (low, high))
        smooth = ndimage.gaussian_filter1d(counts.astype(np.float64), SMOOTHING_BINS, mode="constant")
        top = int(smooth[1:-1].argmax()) + 1  # a peak has two sides
        thick = np.flatnonzero(smooth >= TAIL_SHARE * len(values))
        first = min(int(thick[0]), top - 1) if both_tails and thick.size else 0
        last = max(int(thick[-1]), top + 1) if thick.size else BINS - 1
        low, peak, high = float(edges[first]), float((edges[top] + edges[top + 1]) / 2), float(edges[last + 1])
        if last + 1 - first >= LEAST_KEPT * BINS:
            break
    return low, peak, high
