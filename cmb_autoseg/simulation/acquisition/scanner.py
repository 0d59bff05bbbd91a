"""From tissue to scan: field, complex gradient-echo signal, k-space, noise, magnitude and SWI.

The tissue's field is a convolution with the dipole kernel on a grid of about 1 mm. Spheres and
tubes are far smaller than that, so their fields are written down analytically and evaluated on
local grids of at most 0.25 mm; what the spins in one voxel of the signal grid then add up to is a
complex factor. The signal grid is up to twice as fine as the scan, and cropping its k-space makes
the scan: dephasing, blooming and Gibbs ringing follow from that and are not painted.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cmb_autoseg.simulation.anatomy.head import Anatomy
from cmb_autoseg.simulation.contents.draws import Sphere, Vein
from cmb_autoseg.simulation.derived.swi import susceptibility_weighted
from cmb_autoseg.simulation.grids import Grid, crop_kspace, resample_linear, smooth_field
from cmb_autoseg.simulation.protocols import Protocol

__all__ = [
    "acquire",
    "cylinder_field",
    "dipole_field",
    "scan_grid",
    "signal_factors",
    "sphere_field",
    "susceptibility_weighted",
    "tissue_grid",
    "tissue_signal",
    "white_matter_signal",
    "with_spheres",
    "with_veins",
]

GAMMA_HZ_PER_T = 42.577e6
SIGNAL_GRID_MM = (0.5, 0.5, 1.0)
"""The signal grid is at least this fine."""
LOCAL_GRID_MM = 0.25
TISSUE_GRID_MM = 1.0
MARGIN_MM = 16.0
"""Tissue around the field of view that still shifts the field inside."""
EXTRA_SLICES = 3
"""Simulated beyond either end of the slab and thrown away, as a scanner's slab oversampling is."""


def scan_grid(protocol: Protocol) -> Grid:
    """The grid of the acquired volume, centred where the protocol says."""
    origin = tuple(
        centre - (n - 1) / 2 * step
        for centre, n, step in zip(protocol.centre_mm, protocol.matrix, protocol.spacing_mm, strict=True)
    )
    return Grid(protocol.matrix, protocol.spacing_mm, origin)  # type: ignore[arg-type]


def signal_factors(protocol: Protocol) -> tuple[int, int, int]:
    """How many times finer the signal grid is than the scan along each axis."""
    i, j, k = (math.ceil(step / limit - 1e-6) for step, limit in zip(protocol.spacing_mm, SIGNAL_GRID_MM, strict=True))
    return i, j, k


def tissue_grid(scan: Grid) -> Grid:
    """A 1 mm grid that covers the scan with a margin, for anatomy and the tissue's field."""
    shape, origin = [], []
    for start, step, n in zip(scan.origin_mm, scan.spacing_mm, scan.shape, strict=True):
        length = (n - 1) * step + 2 * MARGIN_MM
        shape.append(_fast_length(math.ceil(length / TISSUE_GRID_MM) + 1))
        origin.append(start - MARGIN_MM)
    return Grid(tuple(shape), (TISSUE_GRID_MM,) * 3, tuple(origin))  # type: ignore[arg-type]


def _fast_length(n: int) -> int:
    """The next multiple of 8, on which Fourier transforms are quick."""
    return 8 * math.ceil(n / 8)


def dipole_field(chi: Tensor, spacing_mm: tuple[float, float, float], b0: tuple[float, float, float]) -> Tensor:
    """Relative field shift of a susceptibility map, in its units (ppm in, ppm out), Lorentz-corrected.

    Convolution with D(k) = 1/3 - (k . b0)^2 / k^2 (Salomir 2003, Marques & Bowtell 2005); D(0) = 0,
    so the result is relative to its own mean. The map is taken to repeat beyond its edges.

    Args:
        chi: shape (i, j, k).
        spacing_mm: voxel size along i, j, k.
        b0: unit vector along the main field.
    """
    n_i, n_j, n_k = chi.shape
    step_i, step_j, step_k = spacing_mm
    k_i = torch.fft.fftfreq(n_i, step_i, device=chi.device)[:, None, None]
    k_j = torch.fft.fftfreq(n_j, step_j, device=chi.device)[None, :, None]
    k_k = torch.fft.rfftfreq(n_k, step_k, device=chi.device)[None, None, :]
    square = k_i**2 + k_j**2 + k_k**2
    square[0, 0, 0] = 1
    kernel = 1 / 3 - (k_i * b0[0] + k_j * b0[1] + k_k * b0[2]) ** 2 / square
    kernel[0, 0, 0] = 0
    field: Tensor = torch.fft.irfftn(torch.fft.rfftn(chi) * kernel, s=chi.shape)
    return field


def sphere_field(offset_mm: Tensor, radius_mm: float, chi_ppm: float, b0: tuple[float, float, float]) -> Tensor:
    """Field shift in ppm of a sphere at `offset_mm` (..., 3) from its centre; zero inside (Lorentz).

    chi/3 (R/r)^3 (3 cos^2 theta - 1) outside; Haacke et al. 1999, chapter 25.
    """
    along = offset_mm @ torch.as_tensor(b0, dtype=offset_mm.dtype, device=offset_mm.device)
    square = offset_mm.square().sum(-1)
    safe = square.clamp(min=radius_mm**2)
    field = chi_ppm / 3 * radius_mm**3 / safe**1.5 * (3 * along**2 / safe - 1)
    return torch.where(square > radius_mm**2, field, 0)


def cylinder_field(
    across_mm: Tensor, axis: Tensor, radius_mm: Tensor, chi_ppm: float, b0: tuple[float, float, float]
) -> Tensor:
    """Field shift in ppm of a long cylinder; Haacke et al. 1999, chapter 25, Lorentz-corrected.

    Args:
        across_mm: from the axis to the point, perpendicular to the axis, shape (n, 3).
        axis: unit vectors along the cylinder, shape (n, 3).
        radius_mm: shape (n,).
        chi_ppm: inside minus outside.
        b0: unit vector along the main field.
    """
    direction = torch.as_tensor(b0, dtype=across_mm.dtype, device=across_mm.device)
    cosine = axis @ direction
    square = across_mm.square().sum(-1)
    sine_square = 1 - cosine**2
    # sin^2(theta) cos(2 phi), with b0's part across the axis as the direction of phi = 0
    pattern = 2 * (across_mm @ direction) ** 2 / square.clamp(min=1e-12) - sine_square
    outside = chi_ppm / 2 * radius_mm**2 / square.clamp(min=1e-12) * pattern
    inside = chi_ppm / 6 * (3 * cosine**2 - 1)
    return torch.where(square > radius_mm**2, outside, inside)


@dataclass(frozen=True)
class TissueSignal:
    """Gradient-echo signal of one tissue: M0 in arbitrary units, R2* = base + slope * B0."""

    m0: float
    r2star_base: float
    r2star_per_tesla: float

    def at(self, protocol: Protocol) -> float:
        """Magnitude at the protocol's echo time."""
        rate = self.r2star_base + self.r2star_per_tesla * protocol.field_strength_t
        return self.m0 * math.exp(-rate * protocol.echo_time_ms / 1000)


GREY = TissueSignal(0.86, 7.0, 3.3)
WHITE = TissueSignal(0.75, 8.0, 3.9)
FLUID_RATE = (1.0, 0.8)
"""R2* of fluid: base, and per tesla; its M0 hangs on the repetition time and comes from the protocol."""
IRON_RATE_PER_PPM_TESLA = 75.0
"""R2* that a ppm of iron in a nucleus adds, per second and tesla (after Langkammer et al. 2010)."""
BLOOD_RATE_PER_TESLA = 8.0
"""R2* of venous blood above that of tissue, per second and tesla."""
CORE_RATE_PER_PPM_TESLA = 40.0
"""R2* inside a haemosiderin core."""
SPECK_SIGNAL = 0.2
"""Calcium holds little water."""


def tissue_signal(anatomy: Anatomy, field_ppm: Tensor, target: Grid, protocol: Protocol, texture: Tensor) -> Tensor:
    """Complex signal of tissue alone on the signal grid, shape `target.shape`, complex64.

    Tissues that share a voxel add their signals; the nuclei's iron shortens T2* of all of them.

    Args:
        anatomy: tissue maps on their grid.
        field_ppm: field shift on the anatomy's grid.
        target: signal grid.
        protocol: field strength and echo time.
        texture: B-spline coefficients of slow changes of M0 around 1, shape (a, b, c).
    """
    grey, white, fluid = (
        resample_linear(m, anatomy.grid, target) for m in (anatomy.grey, anatomy.white, anatomy.fluid)
    )
    # The template is an average of many heads and blurred by that; squared memberships give one head's edges.
    total = (grey + white + fluid).clamp(max=1)
    grey, white, fluid = grey.square_(), white.square_(), fluid.square_()
    scale = total / (grey + white + fluid).clamp_(min=1e-6)
    magnitude = (
        grey * GREY.at(protocol) + white * WHITE.at(protocol) + fluid * TissueSignal(0.48, *FLUID_RATE).at(protocol)
    ) * scale
    magnitude *= smooth_field(texture.to(magnitude), target.shape)
    rate = IRON_RATE_PER_PPM_TESLA * protocol.field_strength_t * protocol.echo_time_ms / 1000
    magnitude *= torch.exp(resample_linear(anatomy.iron_ppm, anatomy.grid, target).mul_(-rate))
    phase = resample_linear(field_ppm, anatomy.grid, target).mul_(radians_per_ppm(protocol))
    return torch.polar(magnitude, phase)


def white_matter_signal(protocol: Protocol) -> float:
    """Magnitude of white matter without noise and coil, the reference of the protocol's SNR."""
    return WHITE.at(protocol)


def radians_per_ppm(protocol: Protocol) -> float:
    """Phase at the echo time for a field shift of one ppm."""
    return 2 * math.pi * GAMMA_HZ_PER_T * protocol.field_strength_t * 1e-6 * protocol.echo_time_ms / 1000


def with_spheres(signal: Tensor, grid: Grid, spheres: Iterable[Sphere], protocol: Protocol) -> Tensor:
    """The signal with microbleeds or calcifications in it; the input is left as it is."""
    signal = signal.clone()
    for sphere in spheres:
        reach = _sphere_reach_mm(sphere, protocol)
        voxels = _box_voxels(grid, np.array(sphere.centre_mm), reach)
        points = _local_points(grid, voxels, signal.device)
        offset = points - torch.as_tensor(sphere.centre_mm, device=signal.device)
        field = sphere_field(offset, sphere.radius_mm, sphere.chi_ppm, protocol.b0_direction)
        inside = offset.square().sum(-1) <= sphere.radius_mm**2
        core = _core_signal(sphere, protocol)
        _multiply(signal, voxels, field * radians_per_ppm(protocol), torch.where(inside, core, 1.0))
    return signal


def _core_signal(sphere: Sphere, protocol: Protocol) -> float:
    if sphere.chi_ppm < 0:
        return SPECK_SIGNAL
    rate = CORE_RATE_PER_PPM_TESLA * sphere.chi_ppm * protocol.field_strength_t
    return math.exp(-rate * protocol.echo_time_ms / 1000)


def _sphere_reach_mm(sphere: Sphere, protocol: Protocol) -> float:
    """Distance at which the sphere's phase has fallen to 0.02 radians."""
    strength = radians_per_ppm(protocol) * abs(sphere.chi_ppm) * 2 / 3
    return sphere.radius_mm * max(2.0, math.cbrt(strength / 0.02))


def with_veins(signal: Tensor, grid: Grid, veins: Iterable[Vein], protocol: Protocol) -> Tensor:
    """The signal with veins in it; the input is left as it is."""
    signal = signal.clone()
    blood = math.exp(-BLOOD_RATE_PER_TESLA * protocol.field_strength_t * protocol.echo_time_ms / 1000)
    for vein in veins:
        voxels = _tube_voxels(grid, vein)
        if not len(voxels):
            continue
        points = _local_points(grid, voxels, signal.device)
        across, axis, radius, beyond = _nearest_on_tube(points.reshape(-1, 3), vein)
        field = cylinder_field(across, axis, radius, vein.chi_ppm, protocol.b0_direction)
        # Past its ends a tube fades instead of stopping, so that its field has no edge there.
        field = field * torch.exp(-beyond / radius)
        inside = (across.square().sum(-1) <= radius**2) & (beyond == 0)
        phase = (field * radians_per_ppm(protocol)).reshape(points.shape[:-1])
        _multiply(signal, voxels, phase, torch.where(inside, blood, 1.0).reshape(phase.shape))
    return signal


def _multiply(signal: Tensor, voxels: NDArray[np.int64], phase: Tensor, magnitude: Tensor) -> None:
    """Multiply voxels (n, 3) of the signal by the mean over their local points, (n, points)."""
    i, j, k = (torch.as_tensor(column, device=signal.device) for column in voxels.T)
    signal[i, j, k] *= torch.polar(magnitude, phase).mean(dim=1)


def _box_voxels(grid: Grid, centre_mm: NDArray[np.float64], reach_mm: float) -> NDArray[np.int64]:
    """Voxels of the grid whose centres lie within a box about a point, shape (n, 3)."""
    low = np.maximum(np.ceil(grid.to_voxels(centre_mm - reach_mm)), 0).astype(np.int64)
    high = np.minimum(np.floor(grid.to_voxels(centre_mm + reach_mm)), np.array(grid.shape) - 1).astype(np.int64)
    axes = [np.arange(a, b + 1) for a, b in zip(low, high, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)


def _tube_voxels(grid: Grid, vein: Vein) -> NDArray[np.int64]:
    """Voxels within five radii of the tube, at least 1.2 mm, each once, shape (n, 3)."""
    reach = max(1.2, 5 * float(vein.radius_mm.max()))
    dense = np.concatenate([vein.points_mm, (vein.points_mm[1:] + vein.points_mm[:-1]) / 2])
    box = _ball_offsets(grid, reach)
    voxels = (np.rint(grid.to_voxels(dense)).astype(np.int64)[:, None] + box).reshape(-1, 3)
    voxels = voxels[np.all((voxels >= 0) & (voxels < grid.shape), axis=1)]
    flat = np.unique(np.ravel_multi_index(tuple(voxels.T), grid.shape))
    return np.stack(np.unravel_index(flat, grid.shape), axis=1)


def _ball_offsets(grid: Grid, radius_mm: float) -> NDArray[np.int64]:
    reach = [math.ceil(radius_mm / step) for step in grid.spacing_mm]
    offsets = np.stack(np.meshgrid(*[np.arange(-n, n + 1) for n in reach], indexing="ij"), axis=-1).reshape(-1, 3)
    kept: NDArray[np.int64] = offsets[np.linalg.norm(offsets * np.array(grid.spacing_mm), axis=1) <= radius_mm]
    return kept


def _local_points(grid: Grid, voxels: NDArray[np.int64], device: torch.device) -> Tensor:
    """Points of the local grid inside each voxel, millimetres, shape (n, points, 3)."""
    parts = []
    for step in grid.spacing_mm:
        n = math.ceil(step / LOCAL_GRID_MM - 1e-6)
        parts.append(((np.arange(n) + 0.5) / n - 0.5) * step)
    inside = np.stack(np.meshgrid(*parts, indexing="ij"), axis=-1).reshape(-1, 3)
    centres = torch.as_tensor(grid.to_mm(voxels), dtype=torch.float32, device=device)
    return centres[:, None] + torch.as_tensor(inside, dtype=torch.float32, device=device)


def _nearest_on_tube(points_mm: Tensor, vein: Vein) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Where each of n points lies beside the tube's centre line.

    Returns:
        From the line to the point, perpendicular to the line (n, 3); unit vector along the line
        (n, 3); radius there (n,); how far past an end of the tube the point lies (n,), else 0.
    """
    line = torch.as_tensor(vein.points_mm, dtype=torch.float32, device=points_mm.device)
    radius = torch.as_tensor(vein.radius_mm, dtype=torch.float32, device=points_mm.device)
    start, step = line[:-1], line[1:] - line[:-1]
    length = step.norm(dim=1)
    axis = step / length[:, None]
    # |p - a|^2 and (p - a) . u for all points and segments, without the (n, segments, 3) array.
    middle = start.mean(dim=0)
    p, a = points_mm - middle, start - middle
    along = p @ axis.T - (a * axis).sum(1)
    square = p.square().sum(1)[:, None] - 2 * p @ a.T + a.square().sum(1)
    clamped = torch.minimum(along.clamp(min=0), length)
    nearest = (square - 2 * along * clamped + clamped**2).argmin(dim=1)
    chosen = along.gather(1, nearest[:, None])[:, 0]
    u, span = axis[nearest], length[nearest]
    across = p - a[nearest] - chosen[:, None] * u
    before = torch.where(nearest == 0, (-chosen).clamp(min=0), 0)
    after = torch.where(nearest == len(axis) - 1, (chosen - span).clamp(min=0), 0)
    share = (chosen / span).clamp(0, 1)
    return across, u, radius[nearest] * (1 - share) + radius[nearest + 1] * share, before + after


def acquire(signal: Tensor, factors: tuple[int, int, int]) -> Tensor:
    """The noise-free complex image: k-space cropped, slab oversampling thrown away."""
    return crop_kspace(signal, factors)[:, :, EXTRA_SLICES:-EXTRA_SLICES]
