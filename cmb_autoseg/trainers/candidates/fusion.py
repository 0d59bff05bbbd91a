"""Two opinions become one, and a probability map again."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.trainers.candidates.candidates import Candidates

__all__ = ["FAINT", "Fusion", "fuse", "fused_map"]

FAINT = 0.01
"""Voxels that the first stage does not propose end up below it, and so below every threshold that is looked at."""
Fusion = Literal["product", "geometric_mean", "second"]


def fuse(first: NDArray[np.float64], second: NDArray[np.float64], fusion: Fusion) -> NDArray[np.float64]:
    """Join the probabilities of both stages, (n,) each, as the recipe's `fusion` says."""
    if fusion == "product":
        return first * second
    return np.sqrt(first * second) if fusion == "geometric_mean" else second


def fused_map(
    probability: NDArray[np.float32], candidates: Candidates, fused: NDArray[np.float64], threshold: float
) -> NDArray[np.float32]:
    """The first stage's map, in which each candidate is as high as both stages hold it for.

    A candidate's voxels are all multiplied by the same number, so that its extent at a share of its peak stays. What
    was proposed but not looked at becomes 0. What lies below the threshold keeps its order, below `FAINT`.

    Args:
        probability: (i, j, k), of the first stage.
        candidates: of this map.
        fused: (n,), what their peaks are to be.
        threshold: that the candidates were proposed at.
    """
    factors = np.concatenate([[0.0], fused / candidates.confidence]).astype(np.float32)
    looked_at = probability * factors[candidates.owners]
    faint = probability * np.float32(min(1.0, FAINT / threshold))
    result: NDArray[np.float32] = np.where(probability >= threshold, looked_at, faint).astype(np.float32)
    return result
