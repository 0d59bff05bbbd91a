"""Where the brain is: taken from an already stripped scan, else found by classical means.

A mask that is too large costs some background patches; one that is too small costs lesions. So
every doubt is settled for the larger mask, and where nothing can be told it is the whole volume.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cmb_autoseg.blocks import block_mean
from cmb_autoseg.geometry import Volume
from cmb_autoseg.records import Role

__all__ = ["MAGNITUDE_ROLES", "classical_mask", "classical_mask_of_part", "dilate_mm", "looks_stripped", "support_mask"]

BoolArray = NDArray[np.bool_]
Spacing = tuple[float, float, float]

MAGNITUDE_ROLES = (Role.SWI, Role.GRE_MAG, Role.T2, Role.FLAIR, Role.T1)
"""Roles in which tissue is bright and air is dark, so that a threshold tells them apart."""

MIN_BACKGROUND = 0.2
"""A stripped scan has at least this share of constant background."""
SHELL_MM = 15.0
"""Scalp and skull together are thinner than this."""
DARK = 0.25
"""Skull and air are darker than this share of the median of the foreground's core."""
MAX_DARK_SHELL = 0.3
"""A stripped brain has fewer dark voxels than this in its outer shell; a head has its skull there."""
MAX_BRAIN_CM3 = 2500.0
"""No brain with its fluid is larger than this; heads are 3000-5000 cm3."""

WORKING_MM = 2.0
"""Voxels are averaged up to about this size before the classical mask is sought."""
SMOOTHING_MM = 1.5
OPENING_MM = 3.5
CLOSING_MM = 8.0
DILATION_MM = 3.0
AIR_RATIO = 0.3
"""Air is darker than this share of tissue; a darker half without air is veins and fluid."""
MIN_AIR = 0.05
MIN_BRAIN = 0.02
"""A mask of less than this share of the volume has missed the brain."""


def looks_stripped(volume: Volume, signed: bool = False) -> bool:
    """Tell a skull-stripped scan from a head whose air happens to be constant.

    Stripped: at least 20 % of the volume is one constant value connected to the border, and the
    rest is no larger than a brain and has no dark layer in its outer 15 mm, where a head has its
    skull and a zero-padded scan or one with noise rounded to 0 its air. The last two are not asked
    of signed maps (QSM, phase): they have a constant background only where somebody masked them.
    """
    background = _constant_background(volume.data)
    if background.mean() < MIN_BACKGROUND:
        return False
    foreground = ~background
    if signed:
        return True
    if foreground.sum() * volume.voxel_volume_mm3 / 1000 > MAX_BRAIN_CM3:
        return False
    return _dark_shell(volume, foreground) < MAX_DARK_SHELL


def _border_value(data: NDArray[np.float32]) -> float:
    """The value that most corners of the volume share; 0 where no two agree."""
    values, counts = np.unique(data[np.ix_(*[(0, length - 1) for length in data.shape])], return_counts=True)
    return float(values[np.argmax(counts)]) if counts.max() > 1 else 0.0


def _constant_background(data: NDArray[np.float32]) -> BoolArray:
    """Voxels of the border's constant value that are connected to the border."""
    constant = data == _border_value(data)
    labels, _ = ndimage.label(np.pad(constant, 1, constant_values=True))
    outside: BoolArray = (labels == labels[0, 0, 0])[1:-1, 1:-1, 1:-1]
    return outside


def _dark_shell(volume: Volume, foreground: BoolArray) -> float:
    """Share of dark voxels in the foreground's outer 15 mm."""
    factors = _block_factors(volume.spacing_mm)
    spacing_mm = _coarse_spacing(volume.spacing_mm, factors)
    inside = block_mean(foreground, factors) >= 1
    grey = block_mean(volume.data, factors)
    if not inside.any():
        return 0.0
    depth_mm = ndimage.distance_transform_edt(inside, sampling=spacing_mm)
    shell = inside & (depth_mm <= SHELL_MM)
    core = inside & ~shell
    typical = np.median(grey[core if core.sum() > 0.1 * inside.sum() else inside])
    return float((grey[shell] < DARK * typical).mean())


def support_mask(volume: Volume) -> BoolArray:
    """Everything but the constant background, with holes filled; the whole volume if that is empty."""
    mask = _fill(~_constant_background(volume.data))
    return mask if mask.any() else np.ones(volume.shape, dtype=bool)


def classical_mask(volume: Volume) -> BoolArray:
    """Threshold, opening, largest component, closing, filling and a small dilation.

    Worked out on voxels averaged to about 2 mm. Without air in the field of view (a tight crop),
    or where the result is no brain, the mask is the whole volume.

    Args:
        volume: a magnitude image, finite.
    """
    factors = _block_factors(volume.spacing_mm)
    spacing_mm = _coarse_spacing(volume.spacing_mm, factors)
    tissue = _tissue(_smoothed(volume, factors, spacing_mm))
    whole = np.ones(volume.shape, dtype=bool)
    if tissue is None:
        return whole
    core = _largest_component(_open_mm(tissue, OPENING_MM, spacing_mm))
    mask = _enlarge(_solid(core, spacing_mm), factors, volume.shape)
    return mask if mask.mean() >= MIN_BRAIN else whole


def classical_mask_of_part(volume: Volume, tissue_above: float) -> BoolArray:
    """What `classical_mask` of a whole scan shows in a part of it.

    In a part, no threshold can be told from the grey values and what hangs together elsewhere lies apart.

    Args:
        volume: a part of a magnitude image, finite.
        tissue_above: grey value between those of air and tissue.
    """
    factors = _block_factors(volume.spacing_mm)
    spacing_mm = _coarse_spacing(volume.spacing_mm, factors)
    tissue = _smoothed(volume, factors, spacing_mm) > tissue_above
    return _enlarge(_solid(_open_mm(tissue, OPENING_MM, spacing_mm), spacing_mm), factors, volume.shape)


def _smoothed(volume: Volume, factors: tuple[int, int, int], spacing_mm: Spacing) -> NDArray[np.float32]:
    """Grey values of voxels averaged to about `WORKING_MM`."""
    smoothed: NDArray[np.float32] = ndimage.gaussian_filter(
        block_mean(volume.data, factors), [SMOOTHING_MM / mm for mm in spacing_mm]
    )
    return smoothed


def _solid(tissue: BoolArray, spacing_mm: Spacing) -> BoolArray:
    """Tissue with what it surrounds, and a little more."""
    return dilate_mm(_fill(_close_mm(tissue, CLOSING_MM, spacing_mm)), DILATION_MM, spacing_mm)


def _tissue(grey: NDArray[np.float32]) -> BoolArray | None:
    """What is not air; None where there is no air to tell it from."""
    from skimage.filters import threshold_otsu

    clipped = np.clip(grey, None, np.percentile(grey, 99))
    if clipped.min() == clipped.max():
        return None
    bright = clipped > threshold_otsu(clipped.ravel())  # three or four slices are no colours
    dark_mean, bright_mean = float(clipped[~bright].mean()), float(clipped[bright].mean())
    if dark_mean > AIR_RATIO * bright_mean or 1 - bright.mean() < MIN_AIR:
        return None
    # Tissue far from the coils is darker than Otsu's split; air is far darker than this one.
    tissue: BoolArray = clipped > dark_mean + 0.3 * (bright_mean - dark_mean)
    return tissue


def _largest_component(mask: BoolArray) -> BoolArray:
    labels, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    largest: BoolArray = labels == sizes.argmax()
    return largest


def _fill(mask: BoolArray) -> BoolArray:
    """Fill holes in 3D, then slice by slice: a slab leaves the ventricles open at its ends."""
    filled: BoolArray = ndimage.binary_fill_holes(mask)
    for k in range(mask.shape[2]):
        filled[:, :, k] = ndimage.binary_fill_holes(filled[:, :, k])
    return filled


def dilate_mm(mask: BoolArray, radius_mm: float, spacing_mm: Spacing) -> BoolArray:
    """Add every voxel whose centre is within `radius_mm` of one in the mask."""
    if not mask.any():
        return mask.copy()
    box = tuple(
        slice(max(int(where.min()) - int(radius_mm / mm) - 1, 0), int(where.max()) + int(radius_mm / mm) + 2)
        for where, mm in zip(np.nonzero(mask), spacing_mm, strict=True)
    )
    grown = mask.copy()
    grown[box] = ndimage.distance_transform_edt(~mask[box], sampling=spacing_mm) <= radius_mm
    return grown


def _erode_mm(mask: BoolArray, radius_mm: float, spacing_mm: Spacing) -> BoolArray:
    """Remove what is within `radius_mm` of the outside; the border of the volume is no outside."""
    if mask.all():
        return mask
    eroded: BoolArray = ndimage.distance_transform_edt(mask, sampling=spacing_mm) > radius_mm
    return eroded


def _open_mm(mask: BoolArray, radius_mm: float, spacing_mm: Spacing) -> BoolArray:
    eroded = _erode_mm(mask, radius_mm, spacing_mm)
    return dilate_mm(eroded, radius_mm, spacing_mm) if eroded.any() else mask


def _close_mm(mask: BoolArray, radius_mm: float, spacing_mm: Spacing) -> BoolArray:
    return _erode_mm(dilate_mm(mask, radius_mm, spacing_mm), radius_mm, spacing_mm)


def _block_factors(spacing_mm: Spacing) -> tuple[int, int, int]:
    i, j, k = (max(1, int(WORKING_MM / mm)) for mm in spacing_mm)
    return i, j, k


def _coarse_spacing(spacing_mm: Spacing, factors: tuple[int, int, int]) -> Spacing:
    i, j, k = (mm * factor for mm, factor in zip(spacing_mm, factors, strict=True))
    return i, j, k


def _enlarge(mask: BoolArray, factors: tuple[int, int, int], shape: tuple[int, int, int]) -> BoolArray:
    """Undo `block_mean` for a mask."""
    for axis, factor in enumerate(factors):
        mask = np.repeat(mask, factor, axis=axis)
    return mask[: shape[0], : shape[1], : shape[2]]
