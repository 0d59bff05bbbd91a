"""Measures of one sequence: slices, grey values, noise, ghosts and detail."""

import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cmb_autoseg.blocks import block_factors, block_mean
from cmb_autoseg.geometry import Volume
from cmb_autoseg.quality_control._blocks import brain_box
from cmb_autoseg.quality_control.case_quality import SIGNED_ROLES, SequenceQuality
from cmb_autoseg.quality_control.fingerprints import thumbnail, value_digest
from cmb_autoseg.records import Role

__all__ = ["measure_sequence", "orientation_code", "signal_to_noise"]

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
MOST_VOXELS = 1_500_000
"""Fine detail is measured on slices chosen evenly, so that no more voxels than this are looked at."""
MAD_TO_SD = 1.4826
NOISE_FILTER_NORM = 6.0
"""Root of the sum of squares of the kernel [1 -2 1] x [1 -2 1] (Immerkaer 1996)."""
AIR_MM = 4.0
HEAD_SHARE = 0.15
"""Of the brain's median: what is brighter belongs to the head."""
HEAD_MARGIN_MM = 10.0
"""Kept off the head: partial volumes, ringing, and the signal of skin."""
RAYLEIGH_MEAN = math.sqrt(math.pi / 2)
FEWEST_AIR_BLOCKS = 60
SPIKE_SLICES = 24
SPIKE_WINDOW = 3
DETAIL_SIGMA = 2.0
TYPICAL = 65
"""Percentile taken for a slice's brightness: slices at the skull's base are dark in up to half of their area."""
DARK_SHARE = 0.4
"""Of the median: darker parts of the core are bone, air and voids, whose edges are no detail of the brain."""
LEAST_SLICE = 0.3
"""Slices with a smaller share of the largest cross section are not compared with their neighbors."""


def measure_sequence(role: Role, volume: Volume, brain: BoolArray, core: BoolArray, stored: Volume) -> SequenceQuality:
    """Measure one sequence.

    Args:
        role: what it is; signed ones have no SNR or contrast.
        volume: canonical, on the brain's grid, finite, not stripped.
        brain: (i, j, k).
        core: of it, by `brain_core`: where grey values are looked at.
        stored: as it came, NaN and own axes included; its own grid may be another one.
    """
    signed = role in SIGNED_ROLES
    values = volume.data[core].astype(np.float32)
    p01, p05, p25, median, p75, p95, p99 = (float(value) for value in np.percentile(values, PERCENTILES))
    spread = max(p75 - p25, 1e-6 * max(abs(p01), abs(p99)), float(np.finfo(np.float32).tiny))
    noise, ripple = _noise(volume, core)
    skew, sharpness = _detail(volume, core, None if signed else DARK_SHARE * median)
    snr_air, ghost = (None, None) if signed or median <= 0 else _air(volume, brain, median)
    stored_data = np.asarray(stored.data)
    finite = np.isfinite(stored_data)
    jump, mismatch = _slices_apart(volume, core, median)
    low, high = float(values.min()), float(values.max())
    return SequenceQuality(
        shape=stored.shape,
        spacing_mm=stored.spacing_mm,
        orientation=orientation_code(stored),
        nonfinite=_short(1 - float(finite.mean())),
        empty_slices=_empty_slices(volume.data),
        repeated_slices=_repeated_slices(volume.data, brain),
        slice_jump=None if signed else jump,
        slice_mismatch=mismatch,
        grey_levels=min(len(np.unique(values)), 65535),
        clipped_high=_short(float((values == high).mean())),
        clipped_low=0.0 if signed else _short(float((values == low).mean())),
        median=_short(median),
        spread=_short(spread),
        quantiles=tuple(_short((q - median) / spread) for q in (p01, p05, p25, p75, p95, p99)),
        contrast=None if signed or median <= 0 else _short(spread / median),
        snr=None if signed or median <= 0 else _short(_over_noise(median, noise)),
        noise=_short(noise / spread),
        snr_air=snr_air,
        ghost=ghost,
        half_field=_half_field(stored),
        spike=_spike(volume, core),
        ripple=ripple,
        detail_skew=skew,
        sharpness=sharpness,
        pixels=value_digest(stored),
        thumbnail=thumbnail(stored, signed),
    )


def signal_to_noise(volume: Volume, brain: BoolArray) -> float:
    """The brain's median grey value over the standard deviation of the noise in it.

    Args:
        volume: a magnitude, canonical.
        brain: (i, j, k), where it is looked at.
    """
    median = float(np.median(volume.data[brain]))
    return _over_noise(median, _noise(volume, brain)[0])


def _over_noise(median: float, noise: float) -> float:
    return median / max(noise, 1e-6 * median)


def orientation_code(volume: Volume) -> str:
    """Where the stored axes run to: `RAS` for the canonical ones."""
    from nibabel.orientations import aff2axcodes

    return "".join(code or "?" for code in aff2axcodes(volume.affine))


def _short(value: float) -> float:
    """Six digits: enough for a rule, and the same on every machine."""
    return float(f"{value:.6g}")


def _thinned(volume: Volume, brain: BoolArray) -> tuple[FloatArray, BoolArray, tuple[int, int]]:
    """Brain box with the slice axis last and slices left out of large scans; and the in-plane axes."""
    box = brain_box(brain)
    slice_axis = _slice_axis(volume)
    data = np.moveaxis(volume.data[box], slice_axis, 2)
    mask = np.moveaxis(brain[box], slice_axis, 2)
    step = max(1, math.ceil(data.size / MOST_VOXELS))
    first, second = (axis for axis in range(3) if axis != slice_axis)
    return np.ascontiguousarray(data[..., ::step]), np.ascontiguousarray(mask[..., ::step]), (first, second)


def _slice_axis(volume: Volume) -> int:
    """The axis of the thickest slices; the upright one where they are equal."""
    spacing = volume.spacing_mm
    return 2 if spacing[2] >= 0.99 * max(spacing) else int(np.argmax(spacing))


def _noise(volume: Volume, brain: BoolArray) -> tuple[float, float]:
    """Standard deviation of the noise within the brain, and the anisotropy of fine detail.

    Noise by Immerkaer's mask (1996, 10.1006/cviu.1996.0060) within slices, by median absolute deviation, since
    vessels and edges are few.
    """
    data, mask, _ = _thinned(volume, brain)
    inside = mask[1:-1, 1:-1]
    if min(data.shape[:2]) < 3 or not inside.any():
        return 0.0, 0.0
    along_first = data[2:] - 2 * data[1:-1] + data[:-2]
    both = along_first[:, 2:] - 2 * along_first[:, 1:-1] + along_first[:, :-2]
    along_second = data[1:-1, 2:] - 2 * data[1:-1, 1:-1] + data[1:-1, :-2]
    first, second = (_scale(values[inside]) for values in (along_first[:, 1:-1], along_second))
    ripple = math.log2(first / second) if min(first, second) > 0 else 0.0
    return _scale(both[inside]) / NOISE_FILTER_NORM, _short(ripple)


def _scale(values: FloatArray) -> float:
    return MAD_TO_SD * float(np.median(np.abs(values)))


def _detail(volume: Volume, brain: BoolArray, darkest: float | None) -> tuple[float, float]:
    """Skewness of detail of about 3 mm, and how strong it is beside detail of twice the size.

    Neighborhoods darker than `darkest` are left out.
    """
    data, mask, axes = _thinned(volume, brain)
    sizes = [1.0 / max(volume.spacing_mm[axis], 1.0) for axis in axes]
    sigmas = [max(0.6, size) for size in sizes]
    fine = ndimage.gaussian_filter(data, [*sigmas, 0], truncate=3)
    middle = ndimage.gaussian_filter(fine, [2.5 * sigma for sigma in sigmas] + [0], truncate=2)
    bright = mask if darkest is None else mask & (middle > darkest)
    inside = ndimage.binary_erosion(bright, np.ones((3, 3, 1), dtype=bool), iterations=2)
    if np.count_nonzero(inside) < 50:
        inside = mask
    detail = (fine - middle)[inside]
    scale = _scale(detail - np.median(detail))
    if scale == 0:
        return 0.0, 0.0
    bounded = np.clip((detail - np.median(detail)) / scale, -8, 8)
    coarse = middle[inside]
    variation = float(np.percentile(coarse, 75) - np.percentile(coarse, 25)) or scale
    return _short(float((bounded**3).mean() / max((bounded**2).mean(), 1e-9) ** 1.5)), _short(scale / variation)


def _air(volume: Volume, brain: BoolArray, median: float) -> tuple[float | None, float | None]:
    """SNR by the Rayleigh noise of the air, and the ghosts' share; n/a where there is no air with noise.

    Ghosts repeat the head along one axis, so they lie beside it and never in the corners, which hold noise alone.
    """
    factors = block_factors(volume.spacing_mm, AIR_MM)
    grey = block_mean(volume.data, factors, "left out")
    within = block_mean(brain, factors, "left out") > 0
    spacing_mm = [mm * factor for mm, factor in zip(volume.spacing_mm, factors, strict=True)]
    bright = ndimage.binary_opening((grey > HEAD_SHARE * median), np.ones((2, 2, 1), dtype=bool)) | within
    numbered, _ = ndimage.label(bright)
    kept = np.unique(numbered[within])
    head = np.isin(numbered, kept[kept > 0])
    near = ndimage.distance_transform_edt(~head, sampling=spacing_mm) <= HEAD_MARGIN_MM
    air = ~near
    shadows = [np.broadcast_to(near.any(axis=axis, keepdims=True), near.shape) for axis in (0, 1)]
    corner = air & ~shadows[0] & ~shadows[1]
    beside = [air & shadows[axis] & ~shadows[1 - axis] for axis in (0, 1)]
    if corner.sum() < FEWEST_AIR_BLOCKS or float((grey[corner] == grey[corner].min()).mean()) > 0.5:
        return None, None
    level = float(np.median(grey[corner]))
    sigma = max(level / RAYLEIGH_MEAN, 1e-6 * median)
    excess = [float(grey[where].mean()) - level for where in beside if where.sum() >= FEWEST_AIR_BLOCKS // 2]
    return _short(median / sigma), (_short(max(0.0, *excess) / median) if excess else None)


def _half_field(stored: Volume) -> float:
    """How much of a scan's fine detail comes again half a field of view away, along the worse axis within slices.

    The correlation of detail with itself, moved around by half the field of view: 2 g / (1 + g^2) for a ghost of
    share g, wherever it falls. Looked for as stored, since resampling and cropping move it elsewhere.
    """
    axis = _slice_axis(stored)
    slices = np.unique(np.linspace(0, stored.shape[axis] - 1, min(SPIKE_SLICES, stored.shape[axis])).astype(int))
    stack = np.nan_to_num(np.moveaxis(np.asarray(stored.data), axis, 0)[slices].astype(np.float32))
    detail = stack - ndimage.gaussian_filter(stack, (0, DETAIL_SIGMA, DETAIL_SIGMA), truncate=2)
    energy = float((detail**2).sum())
    if energy <= 0:
        return 0.0
    found = [float((detail * np.roll(detail, detail.shape[n] // 2, n)).sum()) / energy for n in (1, 2)]
    return _short(max(found))


def _spike(volume: Volume, core: BoolArray) -> float:
    """Largest magnitude in k-space, away from its center, over the median around it, from slices of the core."""
    axis = _slice_axis(volume)
    stack = np.moveaxis(volume.data, axis, 0)
    used = np.flatnonzero(np.moveaxis(core, axis, 0).any(axis=(1, 2)))
    chosen = used[np.unique(np.linspace(0, len(used) - 1, SPIKE_SLICES).astype(int))]
    power = (np.abs(np.fft.rfft2(stack[chosen])) ** 2).mean(axis=0)
    height, width = power.shape
    magnitude = np.sqrt(np.fft.fftshift(power, axes=0))
    around = ndimage.median_filter(magnitude, size=SPIKE_WINDOW, mode="nearest")
    ratio = magnitude / np.maximum(around, 1e-9 * max(float(magnitude.max()), 1e-30))
    # The axes of k-space hold the edges of the field of view.
    rows, columns = np.abs(np.arange(height) - height // 2), np.arange(width)
    far = (rows[:, None] > SPIKE_WINDOW) & (columns[None, :] > SPIKE_WINDOW)
    return _short(float(ratio[far].max())) if far.any() else 1.0


def _empty_slices(data: FloatArray) -> int:
    """Slices of one single value between others, along the axis that has most of them."""
    counts = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        flat = data.max(axis=others) == data.min(axis=others)
        used = np.flatnonzero(~flat)
        counts.append(int(flat[used[0] : used[-1]].sum()) if used.size else len(flat))
    return max(counts)


def _repeated_slices(data: FloatArray, brain: BoolArray) -> int:
    """Slices through the brain that equal the one before, along the axis that has most of them."""
    box = brain_box(brain)
    inside = data[box]
    counts = []
    for axis in range(3):
        stack = np.moveaxis(inside, axis, 0)
        if len(stack) < 2:
            continue
        middle = stack[:, stack.shape[1] // 4 : -(stack.shape[1] // 4) or None]
        candidates = np.flatnonzero((middle[1:, ::4, ::4] == middle[:-1, ::4, ::4]).all(axis=(1, 2)))
        same = [n for n in candidates if np.ptp(stack[n]) > 0 and np.array_equal(stack[n], stack[n + 1])]
        counts.append(len(same))
    return max(counts, default=0)


def _slices_apart(volume: Volume, brain: BoolArray, unit: float) -> tuple[float | None, float | None]:
    """Largest jump of brightness between slices, and how much worse the worst pair of neighbors correlates."""
    axis = _slice_axis(volume)
    data = np.moveaxis(volume.data, axis, 0)
    mask = np.moveaxis(brain, axis, 0)
    areas = np.count_nonzero(mask, axis=(1, 2))
    used = np.flatnonzero(areas >= max(LEAST_SLICE * areas.max(), 20))
    if len(used) < 4:
        return None, None
    step = max(1, int(math.sqrt(data[0].size / 16384)))
    typical = [np.percentile(data[n, ::step, ::step][_or_all(mask[n, ::step, ::step])], TYPICAL) for n in used]
    medians = np.array(typical, dtype=np.float64)
    jumps = np.abs(medians[1:-1] - (medians[:-2] + medians[2:]) / 2) / max(
        abs(unit), 1e-9 * max(1.0, float(np.abs(medians).max()))
    )
    correlations = []
    for one, other in pairwise(used):
        both = mask[one, ::step, ::step] & mask[other, ::step, ::step]
        a, b = data[one, ::step, ::step][both], data[other, ::step, ::step][both]
        if both.sum() >= 20 and a.std() > 0 and b.std() > 0:
            correlations.append(float(np.corrcoef(a, b)[0, 1]))
    mismatch = float(np.median(correlations) - min(correlations)) if len(correlations) >= 3 else None
    return _short(float(jumps.max())), None if mismatch is None else _short(mismatch)


def _or_all(mask: BoolArray) -> BoolArray:
    return mask if mask.any() else np.ones_like(mask)
