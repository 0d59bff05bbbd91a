"""Receiver and transmit fields taken out of a scan: N4 (Tustison et al. 2010, IEEE TMI 29:1310).

The field is smooth, so it is found on a copy with larger voxels and applied to all of them.
"""

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.blocks import block_factors, block_mean
from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import Volume
from cmb_autoseg.records import Triple

__all__ = ["correct_bias"]

WORKING_MM = 4.0
"""Voxels are averaged up to about this size before the field is sought."""
KNOTS_MM = 80.0
"""About so far apart are the spline's knots at its coarsest level."""
ITERATIONS = (10, 10, 5)
"""At each level; every level halves the distance of the knots."""
MIN_VOXELS = 500
"""Fewer voxels of the copy say nothing about a field."""
LARGEST_FACTOR = 10.0
"""The field is kept within this, up and down: beyond is no coil, but a spline that ran away."""


def correct_bias(volume: Volume, mask: NDArray[np.bool_]) -> tuple[Volume, dict[str, float]]:
    """Divide a magnitude image by its slowly varying field.

    Args:
        volume: (i, j, k), not negative, finite.
        mask: the brain; the field is found there, and goes on smoothly outside.

    Returns:
        The corrected image, float32, its mean inside the mask unchanged; and figures:
        `spread_before` and `spread_after`, the coefficient of variation inside the mask from
        quartiles, (q3 - q1) / (1.349 median), of the copy with larger voxels; `largest_factor`, by
        which some voxel of the mask was brightened or darkened.

    Raises:
        InputError: the mask is too small to find a field in.
    """
    import SimpleITK

    factors = block_factors(volume.spacing_mm, WORKING_MM)
    inside = block_mean(mask, factors) > 0.5
    grey = block_mean(np.maximum(volume.data, 0), factors)
    # A voxel without signal has no logarithm; it says nothing of the field.
    inside &= grey > 0.05 * (np.median(grey[inside]) if inside.any() else 1)
    if np.count_nonzero(inside) < MIN_VOXELS:
        raise InputError(
            f"{volume.name}: prep.bias: the brain mask has too few bright voxels for N4; check the mask, or set "
            "prep.bias: none"
        )
    spacing_mm = [mm * factor for mm, factor in zip(volume.spacing_mm, factors, strict=True)]
    image = SimpleITK.GetImageFromArray(grey)
    image.SetSpacing(spacing_mm[::-1])
    region = SimpleITK.GetImageFromArray(inside.astype(np.uint8))
    region.CopyInformation(image)
    n4 = SimpleITK.N4BiasFieldCorrectionImageFilter()
    n4.SetNumberOfThreads(1)
    n4.SetMaximumNumberOfIterations(ITERATIONS)
    n4.SetNumberOfControlPoints(_control_points(inside, spacing_mm)[::-1])
    n4.Execute(image, region)
    coarse = SimpleITK.GetArrayFromImage(n4.GetLogBiasFieldAsImage(image))
    limit = np.log(LARGEST_FACTOR)
    coarse = np.clip(coarse - coarse[inside].mean(), -limit, limit)
    corrected = volume.data / _enlarged(np.exp(coarse), factors, volume.shape)
    level = float(volume.data[mask].mean() / corrected[mask].mean())
    return volume.with_data((corrected * level).astype(np.float32)), {
        "spread_before": _spread(grey[inside]),
        "spread_after": _spread((grey / np.exp(coarse))[inside]),
        "largest_factor": float(np.exp(np.abs(coarse[inside]).max())),
    }


def _control_points(inside: NDArray[np.bool_], spacing_mm: list[float]) -> list[int]:
    """Of a cubic spline over the mask's extent: three more than spans between knots."""
    extent_mm = [np.ptp(where) * mm for where, mm in zip(np.nonzero(inside), spacing_mm, strict=True)]
    return [3 + max(1, round(mm / KNOTS_MM)) for mm in extent_mm]


def _spread(values: NDArray[np.floating]) -> float:
    low, middle, high = np.percentile(values, (25, 50, 75))
    return round(float((high - low) / (1.349 * middle)), 6)


def _enlarged(field: NDArray[np.floating], factors: Triple[int], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A smooth field on the voxels that `block_mean` averaged: linear between the blocks' centres."""
    enlarged: NDArray[np.float32] = field.astype(np.float32)
    for axis, (length, factor) in enumerate(zip(shape, factors, strict=True)):
        last = enlarged.shape[axis] - 1
        at = np.clip((np.arange(length) + 0.5) / factor - 0.5, 0, last)
        low = np.minimum(at.astype(int), max(last - 1, 0))
        share = (at - low).astype(np.float32).reshape([-1 if d == axis else 1 for d in range(3)])
        above = np.take(enlarged, np.minimum(low + 1, last), axis)
        enlarged = np.take(enlarged, low, axis) * (1 - share) + above * share
    return enlarged
