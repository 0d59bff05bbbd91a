"""Coarse copies of a volume: means of blocks of voxels."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.records import Triple

__all__ = ["block_factors", "block_mean"]


def block_factors(spacing_mm: Triple[float], target_mm: float) -> Triple[int]:
    """How many voxels to join along each axis so that they are about `target_mm` long."""
    i, j, k = (max(1, round(target_mm / mm)) for mm in spacing_mm)
    return i, j, k


def block_mean(
    data: NDArray[np.generic], factors: Sequence[int], rest: Literal["completed", "left out"] = "completed"
) -> NDArray[np.float32]:
    """Mean of blocks of `factors` voxels.

    Args:
        data: (i, j, k); of a mask, the mean is the share of the block in it.
        factors: voxels of a block along each axis.
        rest: the last block of an axis that is no whole one is completed with the border's voxels or left
            out; then an axis shorter than a block stays as it is.
    """
    coarse = np.asarray(data)
    if rest == "completed":
        coarse = np.pad(coarse, [(0, -n % factor) for n, factor in zip(data.shape, factors, strict=True)], "edge")
    for axis, factor in enumerate(factors):
        blocks = coarse.shape[axis] // factor
        if factor > 1 and blocks:
            whole = coarse[(slice(None),) * axis + (slice(blocks * factor),)]
            shape = (*coarse.shape[:axis], blocks, factor, *coarse.shape[axis + 1 :])
            # Halves and wholes of a mask come out exactly.
            coarse = whole.reshape(shape).mean(axis=axis + 1, dtype=np.float64)
    return np.ascontiguousarray(coarse, dtype=np.float32)
