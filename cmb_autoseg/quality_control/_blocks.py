"""Where most measures look: the box that holds the brain, and its core."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cmb_autoseg.blocks import block_factors, block_mean
from cmb_autoseg.geometry import mask_box
from cmb_autoseg.records import Triple

__all__ = ["brain_box", "brain_core"]

CORE_MM = 14.0
"""Scalp, skull and the fluid around the brain: what a generous mask holds of them lies in this depth."""
LEAST_CORE = 0.15
DEPTH_MM = 4.0


def brain_box(brain: NDArray[np.bool_], margin: int = 0) -> tuple[slice, slice, slice]:
    """The smallest box that holds the brain, with a margin in voxels; the whole volume for an empty brain."""
    box = mask_box(brain) or tuple(slice(0, side) for side in brain.shape)
    i, j, k = (
        slice(max(side.start - margin, 0), min(side.stop + margin, n)) for side, n in zip(box, brain.shape, strict=True)
    )
    return i, j, k


def brain_core(brain: NDArray[np.bool_], spacing_mm: Triple[float]) -> NDArray[np.bool_]:
    """The brain without its outer 14 mm, so that a mask that holds scalp and skull does no harm.

    Where little would be left, less is taken away; a mask of the whole volume is left as it is.
    """
    if brain.all():
        return brain
    factors = block_factors(spacing_mm, DEPTH_MM)
    coarse = block_mean(brain, factors) > 0.5
    coarse_mm = [mm * factor for mm, factor in zip(spacing_mm, factors, strict=True)]
    # A brain that is cut off at the border goes on beyond it.
    depth_mm = ndimage.distance_transform_edt(np.pad(coarse, 1, mode="edge"), sampling=coarse_mm)[1:-1, 1:-1, 1:-1]
    for reach_mm in (CORE_MM, CORE_MM / 2):
        core = depth_mm > reach_mm
        if core.sum() >= LEAST_CORE * max(coarse.sum(), 1):
            for axis, factor in enumerate(factors):
                core = np.repeat(core, factor, axis=axis)
            return np.asarray(core[tuple(slice(0, n) for n in brain.shape)] & brain)
    return brain
