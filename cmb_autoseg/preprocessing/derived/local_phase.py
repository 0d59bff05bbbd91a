"""Local phase and the sign of susceptibility: what tells a bleed from a calcification.

Both are dark in the magnitude; iron is paramagnetic, calcium diamagnetic, so that their phase and
their susceptibility have opposite signs.
"""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import Volume

__all__ = ["local_phase", "paramagnetic_sign", "phase_scale", "qsm_sign"]

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float32]
Triple = tuple[float, float, float]

KERNEL_MM = 5.0
"""Standard deviation of the Gaussian whose result is taken off: twice the radius of a bloomed microbleed."""
NOISE_MM = 3.0
NOISE_SHARE = 0.4
"""Of what pure noise would give; half, and the border of a large region of noise would lie in its middle."""
REFERENCE_ECHO_MS = 20.0
WRAP_JUMP = 0.75
"""Neighbours that differ by more than this share of the range lie on both sides of a wrap, or are noise."""
MIN_WRAPS = 2e-4
"""Share of such pairs in wrapped phase; brain alone has at least 1e-3, a head with its air 2e-2, a magnitude none."""
END = 0.05
MIN_ENDS = 0.05
"""Both ends of the range of wrapped phase, 5 % of it, are about equally full; a magnitude's upper end is empty."""
TOLERANCE = 0.02
KNOWN_RANGES = {
    "radians, -pi to pi": (-math.pi, math.pi),
    "radians, 0 to 2 pi": (0.0, 2 * math.pi),
    "steps of pi/4096 (Siemens)": (-4096.0, 4096.0),
    "4096 steps from 0": (0.0, 4095.0),
    "4096 steps around 0": (-2048.0, 2047.0),
    "milliradians": (-1000 * math.pi, 1000 * math.pi),
    "degrees, -180 to 180": (-180.0, 180.0),
    "degrees, 0 to 360": (0.0, 360.0),
}
MIN_UNWRAPPED_SPAN = 0.5
TAIL_PERCENT = 5.0
MIN_TAIL_RATIO = 1.05


def local_phase(
    phase: Volume,
    brain: BoolArray,
    echo_time_ms: float | None = None,
    phase_sign: Literal["auto", 1, -1] = "auto",
    kernel_mm: float = KERNEL_MM,
) -> FloatArray:
    """Phase of the brain's own sources, from the wrapped phase of one gradient echo.

    Wrapped differences between neighbours give the phase's Laplacian, whatever wraps lie between. It
    is kept inside the brain alone, where the field of sources outside (air, bone, coil, shim) has
    none, and integrated (least squares: Ghiglia and Romero, J Opt Soc Am A 11, 1994; masked
    Laplacian: Li et al., NMR Biomed 27, 2014). What is left of the background is smooth and goes with
    the Gaussian mean around each voxel. `benchmarks/derived_channels.py` compares it with homodyne
    filtering and path-following unwrapping.

    The sign of phase is the vendor's choice. "auto" turns it so that phase grows with the field, as
    `paramagnetic_sign` finds it: above and below a bleed, along the field, it is then positive, around
    its equator negative, and about a calcification the other way round.

    Args:
        phase: one echo, in any unit that `phase_scale` knows; axes at right angles.
        brain: of the same shape.
        echo_time_ms: scales the result to an echo time of 20 ms, so that scans compare; None leaves it.
        phase_sign: 1 where phase grows with the field, -1 where it falls.
        kernel_mm: standard deviation of the Gaussian that is taken off.

    Returns:
        float32 radians of shape (i, j, k), 0 outside the brain and where phase is mere noise: a mask
        often holds some skull and air, whose noise would drown the brain's outer voxels.

    Raises:
        InputError: values that cannot be phase, or an echo time that is not positive.
    """
    if echo_time_ms is not None and not 0 < echo_time_ms < math.inf:
        raise InputError(f"{phase.name}: echo time {echo_time_ms} ms; expected milliseconds above 0")
    scale, _ = phase_scale(phase)
    wrapped = phase.data * np.float32(scale)
    reliable = brain & ~_noisy(wrapped, phase.spacing_mm)
    smooth = _unwrapped(wrapped, reliable, phase.spacing_mm)
    sigma = [kernel_mm / mm for mm in phase.spacing_mm]
    inside = reliable.astype(np.float32)
    weight = ndimage.gaussian_filter(inside, sigma, truncate=3.0)
    mean = ndimage.gaussian_filter(smooth * inside, sigma, truncate=3.0) / np.maximum(weight, np.float32(1e-3))
    local = np.where(reliable, smooth - mean, np.float32(0))
    sign = paramagnetic_sign(phase.with_data(local), brain) if phase_sign == "auto" else phase_sign
    return local * np.float32(sign * (REFERENCE_ECHO_MS / echo_time_ms if echo_time_ms else 1.0))


def phase_scale(phase: Volume) -> tuple[float, str]:
    """Radians a unit of the stored values, and in words what they were taken for.

    A known range is recognised where the values fill it and wrap around in it; another range that
    wraps is taken for one turn; values within -pi and pi that do not wrap are radians.

    Raises:
        InputError: none of these; the file is no phase image, or one in unknown units.
    """
    low, high = float(phase.data.min()), float(phase.data.max())
    span = high - low
    if span > 0 and _wraps_around(phase.data, low, high):
        for name, (start, end) in KNOWN_RANGES.items():
            if max(abs(low - start), abs(high - end)) <= TOLERANCE * (end - start):
                return 2 * math.pi / (end - start), f"phase in {name}"
        if abs(low + high) <= TOLERANCE * span or low == 0:
            return 2 * math.pi / span, f"phase of unknown unit: {low:.4g} to {high:.4g} taken for one turn"
    # Rounding of the stored steps may put pi a little higher.
    if low < 0 < high and max(-low, high) <= 1.001 * math.pi and span >= MIN_UNWRAPPED_SPAN:
        return 1.0, f"phase in radians without wraps ({low:.3g} to {high:.3g})"
    raise InputError(
        f"{phase.name}: values {low:.4g} to {high:.4g} are no wrapped phase; expected -pi..pi, 0..2 pi, -4096..4095, "
        "0..4095 or degrees: take the file out of the scan, give it another role or, in a card, leave local_phase "
        "out of prep.derived"
    )


def _wraps_around(data: FloatArray, low: float, high: float) -> bool:
    """Whether values jump between the ends of their range, both of which are in use without being clipped."""
    span = high - low
    jumps = pairs = 0
    for axis in range(3):
        steps = np.diff(data, axis=axis)
        jumps += int(np.count_nonzero(np.abs(steps) > WRAP_JUMP * span))
        pairs += steps.size
    filled = data[data != 0]
    if np.count_nonzero(filled == high) > END * filled.size:  # clipped
        return False
    ends = [np.count_nonzero(filled < low + END * span), np.count_nonzero(filled > high - END * span)]
    return jumps > MIN_WRAPS * pairs and bool(min(ends) > MIN_ENDS * max(ends))


def _wrap(steps: FloatArray) -> FloatArray:
    """Differences of phase in radians, within -pi and pi."""
    wrapped: FloatArray = steps - np.float32(2 * np.pi) * np.rint(steps / np.float32(2 * np.pi))
    return wrapped


def _noisy(wrapped: FloatArray, spacing_mm: Triple) -> BoolArray:
    """Where phase has no signal behind it, as in air and bone.

    Steps between neighbours are then independent and even over -pi..pi, so that their change from step
    to step has the mean square 2/3 pi^2; where tissue is, that is far smaller, wraps and slopes
    notwithstanding. The mean is taken over 3 mm, which a microbleed without signal does not fill.
    """
    changes = np.zeros(wrapped.shape, dtype=np.float32)
    expected = 0.0
    for axis in range(3):
        if wrapped.shape[axis] < 3:
            continue
        change = np.diff(_wrap(np.diff(wrapped, axis=axis)), axis=axis) ** 2
        changes += np.pad(change, [(1, 1) if other == axis else (0, 0) for other in range(3)], mode="edge")
        expected += 2 / 3 * np.pi**2
    mean = ndimage.gaussian_filter(changes, [NOISE_MM / mm for mm in spacing_mm], truncate=3.0, mode="nearest")
    noisy: BoolArray = mean > NOISE_SHARE * expected
    return noisy


def _unwrapped(wrapped: FloatArray, brain: BoolArray, spacing_mm: Triple) -> FloatArray:
    """The smooth phase whose Laplacian inside the brain is that of the wrapped one, up to a constant."""
    shape = wrapped.shape
    laplacian = np.zeros(shape, dtype=np.float32)
    eigenvalues = np.zeros(shape, dtype=np.float32)
    for axis, mm in enumerate(spacing_mm):
        steps = _wrap(np.diff(wrapped, axis=axis))
        padding = [(1, 1) if other == axis else (0, 0) for other in range(3)]
        laplacian += np.diff(np.pad(steps, padding), axis=axis) / np.float32(mm**2)
        waves = (2 * np.cos(np.pi * np.arange(shape[axis]) / shape[axis]) - 2) / mm**2
        eigenvalues += waves.astype(np.float32).reshape([-1 if other == axis else 1 for other in range(3)])
    # The outermost voxels of the brain have neighbours whose phase is noise.
    laplacian[~ndimage.binary_erosion(brain, border_value=1)] = 0
    spectrum = fft.dctn(laplacian)
    eigenvalues[0, 0, 0] = 1
    spectrum /= eigenvalues
    spectrum[0, 0, 0] = 0
    smooth: FloatArray = fft.idctn(spectrum)
    return smooth


def paramagnetic_sign(local: Volume, brain: BoolArray) -> Literal[1, -1]:
    """1 if local phase grows with the field, -1 if it falls, told by the brain's stronger sources.

    Veins, iron-rich grey matter and old blood are paramagnetic; the diamagnetic sources of a brain
    (myelin, calcifications) are weaker or fewer. So once the phase is correlated with the field of a
    point dipole, the upper twentieth of the values reaches farther from 0 than the lower one if the
    sign is right. `benchmarks/derived_channels.py` says how often that holds. Undecided (within 5 %)
    is 1, as BIDS has it.

    Args:
        local: local phase, any unit; the affine tells how the field (z of the scanner) lies.
        brain: of the same shape.
    """
    inner = ndimage.binary_erosion(brain, iterations=2, border_value=1)
    values = _matched_to_dipole(local)[(inner if inner.any() else brain) & (local.data != 0)]
    if not values.size:
        return 1
    low, high = np.percentile(values, [TAIL_PERCENT, 100 - TAIL_PERCENT])
    return -1 if -low > MIN_TAIL_RATIO * max(high, 0) else 1


def _matched_to_dipole(local: Volume) -> FloatArray:
    """Correlation with the field of a paramagnetic point, 1/3 - kz^2/k^2 in k-space; highest at its place."""
    shape = [fft.next_fast_len(length + 8, real=True) for length in local.shape]
    direction = np.linalg.inv(local.affine[:3, :3] / local.spacing_mm) @ (0, 0, 1)
    frequencies = [
        fft.fftfreq(length, mm) if axis < 2 else fft.rfftfreq(length, mm)
        for axis, (length, mm) in enumerate(zip(shape, local.spacing_mm, strict=True))
    ]
    waves = np.meshgrid(*[f.astype(np.float32) for f in frequencies], indexing="ij", sparse=True)
    along = waves[0] * np.float32(direction[0])
    squared = waves[0] ** 2
    for wave, part in zip(waves[1:], direction[1:], strict=True):
        along = along + wave * np.float32(part)
        squared = squared + wave**2
    squared[0, 0, 0] = 1
    kernel = np.float32(1 / 3) - along**2 / squared
    kernel[0, 0, 0] = 0
    matched: FloatArray = fft.irfftn(kernel * fft.rfftn(local.data, shape), shape)
    i, j, k = local.shape
    return matched[:i, :j, :k]


def qsm_sign(qsm: Volume, brain: BoolArray) -> FloatArray:
    """Susceptibility against the brain's median, in units of its 99th percentile, clipped to -1..1.

    Bleeds and veins go to 1, calcifications to -1, tissue stays near 0, whether the map is in ppm or
    ppb and whatever it was referenced to.

    Args:
        qsm: susceptibility, any unit, paramagnetic positive.
        brain: of the same shape.

    Returns:
        float32 of shape (i, j, k), 0 outside the brain.
    """
    if not brain.any():
        return np.zeros(qsm.shape, dtype=np.float32)
    apart = np.asarray(qsm.data, dtype=np.float32) - np.float32(np.median(qsm.data[brain]))
    scale = float(np.percentile(np.abs(apart[brain]), 99))
    if scale == 0:
        scale = float(np.abs(apart[brain]).max()) or 1.0
    signed: FloatArray = np.where(brain, np.clip(apart / np.float32(scale), -1, 1), np.float32(0))
    return signed
