"""The noise-free complex scan of a head and what is in it, one slab of fine slices after the other.

The signal grid is at least three times finer than the acquired voxels along every axis. It is never held
as a whole: a few of its slices are made at a time, their k-space is cropped in-plane to what the scanner
acquires, and they are added up along the slice axis, by k-space again for 3D protocols and by the profile
of the slice for 2D ones.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from cmb_autoseg.simulation.acquisition.kspace import (
    acquired_matrix,
    partial_fourier,
    resize_kspace,
    to_image,
    to_kspace,
)
from cmb_autoseg.simulation.acquisition.local_grid import LocalFactors, LocalGrid
from cmb_autoseg.simulation.contents.sources import Contents
from cmb_autoseg.simulation.grids import Grid, smooth_field
from cmb_autoseg.simulation.protocols import Protocol
from cmb_autoseg.simulation.tissue import SIGNAL_TISSUES, TissueValues, radians_per_ppm

if TYPE_CHECKING:
    from cmb_autoseg.simulation.anatomy.head import Head

__all__ = ["Acquired", "Sampling", "acquire", "draw_texture", "sampling", "scan_grid"]

FINER = 3
"""The signal grid against the acquired one, at least."""
COARSEST_MM = (0.5, 0.5, 1.0)
"""The signal grid is at least this fine, too."""
EXTRA_SLICES = 3
"""Beyond either end of a 3D slab: slab oversampling, acquired and thrown away."""
PROFILE_EDGE = 0.12
"""Width of a 2D slice's edge (one standard deviation) as a share of its thickness."""
SLAB = 4
"""Fine slices at a time."""
TEXTURE_SD = 0.04
TEXTURE_SHAPE = (26, 30, 24)
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Acquired:
    """Noise-free complex images on `scan_grid(protocol)`, shape (echo, i, j, k), without coil; a
    paramagnetic lesion's phase is positive in its middle, whatever the vendor writes.
    """

    with_lesions: Tensor
    without_lesions: Tensor
    """The same scan without microbleeds; mimics are in both."""


@dataclass(frozen=True)
class Sampling:
    """How fine slices become a scan."""

    grid: Grid
    """The signal grid."""
    slice_weights: Tensor
    """Of each fine slice in each slice of the scan, shape (slice, fine slice); complex for 3D protocols."""


def scan_grid(protocol: Protocol) -> Grid:
    """The grid of the reconstructed volume, centred where the protocol says."""
    x, y, z = (
        centre - (n - 1) / 2 * step
        for centre, n, step in zip(protocol.centre_mm, protocol.matrix, protocol.spacing_mm, strict=True)
    )
    return Grid(protocol.matrix, protocol.spacing_mm, (x, y, z))


def draw_texture(rng: np.random.Generator) -> Tensor:
    """Spline coefficients of slow changes of M0 about 1 over the whole head."""
    return torch.from_numpy(1 + TEXTURE_SD * rng.normal(size=TEXTURE_SHAPE)).float()


def sampling(protocol: Protocol, device: torch.device) -> Sampling:
    """Signal grid and slice weights of a protocol."""
    scan = scan_grid(protocol)
    shape, spacing = [], []
    for axis, n in enumerate(acquired_matrix(protocol)[:2]):
        step = scan.shape[axis] * scan.spacing_mm[axis] / n
        factor = max(FINER, math.ceil(step / COARSEST_MM[axis] - 1e-6))
        shape.append(n * factor)
        spacing.append(step / factor)
    excite = _excited_slices if protocol.is_2d else _encoded_slices
    start_mm, step_mm, weights = excite(protocol, scan)
    grid = Grid(
        (shape[0], shape[1], weights.shape[1]),
        (spacing[0], spacing[1], step_mm),
        (scan.origin_mm[0], scan.origin_mm[1], start_mm),
    )
    return Sampling(grid, weights.to(device))


def _encoded_slices(protocol: Protocol, scan: Grid) -> tuple[float, float, Tensor]:
    """First fine slice, their distance, and weights, for slices encoded in k-space (3D)."""
    n, step = scan.shape[2] + 2 * EXTRA_SLICES, scan.spacing_mm[2]
    acquired_mm = (protocol.acquired_mm or protocol.spacing_mm)[2]
    n_acquired = max(1, round(n * step / acquired_mm))
    factor = max(FINER, math.ceil(n * step / n_acquired / COARSEST_MM[2] - 1e-6))
    kspace = to_kspace(torch.eye(n_acquired * factor, dtype=torch.complex128), 0)
    kspace = partial_fourier(resize_kspace(kspace, n_acquired, 0), protocol.partial_fourier[2], 0)
    weights = to_image(resize_kspace(kspace, n, 0), 0)[EXTRA_SLICES:-EXTRA_SLICES]
    start_mm = scan.origin_mm[2] - EXTRA_SLICES * step
    return start_mm, n * step / (n_acquired * factor), weights.to(torch.complex64)


def _excited_slices(protocol: Protocol, scan: Grid) -> tuple[float, float, Tensor]:
    """The same for slices excited one by one (2D): a box with soft edges, as thick as `acquired_mm` says."""
    thickness = (protocol.acquired_mm or protocol.spacing_mm)[2]
    factor = max(FINER, math.ceil(scan.spacing_mm[2] / COARSEST_MM[2] - 1e-6))
    fine_mm = scan.spacing_mm[2] / factor
    margin = math.ceil((0.5 + 3 * PROFILE_EDGE) * thickness / fine_mm)
    centres = factor * torch.arange(scan.shape[2], dtype=torch.float64)
    fine = torch.arange(-margin, factor * (scan.shape[2] - 1) + margin + 1, dtype=torch.float64)
    distance = (fine[None] - centres[:, None]) * fine_mm / thickness
    scale = PROFILE_EDGE * math.sqrt(2)
    weights = torch.erf((distance + 0.5) / scale) - torch.erf((distance - 0.5) / scale)
    weights = torch.where(distance.abs() > 0.5 + 3 * PROFILE_EDGE, 0, weights)
    weights /= weights.sum(dim=1, keepdim=True)
    return scan.origin_mm[2] - margin * fine_mm, fine_mm, weights.to(torch.complex64)


def acquire(
    head: "Head", field_ppm: Tensor, contents: Contents, protocol: Protocol, values: TissueValues, texture: Tensor
) -> Acquired:
    """Scan a head with its contents, with and without its microbleeds.

    Args:
        head: tissue maps.
        field_ppm: of the tissues, on the head's grid.
        contents: what is smaller than the head's grid.
        protocol: timing, grid, k-space.
        values: of the tissues.
        texture: spline coefficients of M0 (`draw_texture`).
    """
    device = field_ppm.device
    plan = sampling(protocol, device)
    local = LocalGrid(plan.grid, protocol, values, [*contents.tubes, *contents.mimics, *contents.microbleeds], device)
    before = local.factors(local.add([*contents.tubes, *contents.mimics]))
    after = local.factors(local.add(contents.microbleeds))
    tissue = _TissueSlabs(head, field_ppm, plan.grid, protocol, values, texture)
    kspace, change = _stream(tissue, before, after, plan, protocol)
    without = _reconstruct(kspace, protocol)
    if not len(after.voxels):
        return Acquired(without, without)
    return Acquired(without + _reconstruct(change, protocol), without)


def _stream(
    tissue: "_TissueSlabs", before: LocalFactors, after: LocalFactors, plan: Sampling, protocol: Protocol
) -> tuple[Tensor, Tensor]:
    """In-plane k-space of every slice without lesions, and what lesions change, (echo, slice, ki, kj)."""
    n_i, n_j, n_k = plan.grid.shape
    acquired = acquired_matrix(protocol)[:2]
    shape = (len(protocol.echo_times_ms), len(plan.slice_weights), *acquired)
    kspace = torch.zeros(shape, dtype=torch.complex64, device=plan.slice_weights.device)
    change = torch.zeros_like(kspace) if len(after.voxels) else kspace[:, :0]
    for first in range(0, n_k, SLAB):
        last = min(first + SLAB, n_k)
        weights = plan.slice_weights[:, first:last]
        near = before.within(first, last, n_i * n_j)
        lesion = after.within(first, last, n_i * n_j)
        magnitudes, shift = tissue.slab(first, last)
        for echo, time_ms in enumerate(protocol.echo_times_ms):
            turn = radians_per_ppm(protocol.field_strength_t, time_ms)
            signal = torch.polar(magnitudes[echo], shift * turn)
            lesioned = _applied(signal, shift * turn, lesion, echo)
            _put(signal, near.voxels, _applied(signal, shift * turn, near, echo))
            _accumulate(kspace[echo], weights, _low_frequencies(signal, acquired))
            if len(lesion.voxels):
                touched = torch.unique(torch.div(lesion.voxels, n_i * n_j, rounding_mode="floor"))
                difference = torch.zeros_like(signal)
                _put(difference, lesion.voxels, lesioned - signal.reshape(-1)[lesion.voxels])
                _accumulate(change[echo], weights[:, touched], _low_frequencies(difference[touched], acquired))
    return kspace, change


def _applied(signal: Tensor, phase: Tensor, local: LocalFactors, echo: int) -> Tensor:
    """Signal of the voxels with local grids: what is left of the tissue's, and blood."""
    tissue = signal.reshape(-1)[local.voxels]
    turned = phase.reshape(-1)[local.voxels]
    return tissue * local.tissue[echo] + local.blood[echo] * torch.polar(torch.ones_like(turned), turned)


def _put(signal: Tensor, voxels: Tensor, values: Tensor) -> None:
    signal.view(-1)[voxels] = values


def _low_frequencies(signal: Tensor, acquired: tuple[int, int]) -> Tensor:
    """In-plane k-space of slices (n, i, j), cropped to what is acquired."""
    kspace = resize_kspace(to_kspace(signal, 2), acquired[1], 2)
    return resize_kspace(to_kspace(kspace, 1), acquired[0], 1)


def _accumulate(kspace: Tensor, weights: Tensor, fine: Tensor) -> None:
    """Add fine slices (n, ki, kj) to the slices (slice, ki, kj) that they weigh in."""
    used = torch.nonzero(weights.abs().sum(dim=1) > 0)[:, 0]
    if len(used):
        first, last = int(used[0]), int(used[-1]) + 1
        kspace[first:last].view(last - first, -1).addmm_(weights[first:last], fine.reshape(len(fine), -1))


def _reconstruct(kspace: Tensor, protocol: Protocol) -> Tensor:
    """Image (echo, i, j, k) from the in-plane k-space (echo, k, ki, kj)."""
    for axis, n in ((2, protocol.matrix[0]), (3, protocol.matrix[1])):
        kspace = partial_fourier(kspace, protocol.partial_fourier[axis - 2], axis)
        kspace = to_image(resize_kspace(kspace, n, axis), axis)
    return kspace.permute(0, 2, 3, 1).contiguous()


class _TissueSlabs:
    """Tissue maps of a head, to be interpolated to any slices of the signal grid."""

    def __init__(
        self, head: "Head", field_ppm: Tensor, grid: Grid, protocol: Protocol, values: TissueValues, texture: Tensor
    ) -> None:
        self._signals = [
            [values.signal(name, protocol, time_ms) for name in SIGNAL_TISSUES] for time_ms in protocol.echo_times_ms
        ]
        self._lines = [_Line.between(head.grid, grid, axis, field_ppm.device) for axis in range(3)]
        maps = [getattr(head, name) for name in SIGNAL_TISSUES]
        maps += [field_ppm, *_exponents(head, field_ppm, grid, protocol, values, texture)]
        i, j, k = (line.needed for line in self._lines)
        self._across_j = self._lines[1].matrix()
        self._maps = torch.stack([volume[i, j, k].permute(2, 0, 1) for volume in maps])

    def slab(self, first: int, last: int) -> tuple[list[Tensor], Tensor]:
        """Magnitude of each echo and field (ppm) of fine slices first..last-1, shape (slice, i, j) each."""
        along_i, _, along_k = self._lines
        maps = along_k.part(first, last).interpolate(self._maps, 1)
        maps = along_i.interpolate(maps @ self._across_j, 2)
        n = len(SIGNAL_TISSUES)
        tissues, field, exponents = maps[:n], maps[n], maps[n + 1 :].exp_()
        # Maps of 1 mm (and averages of many heads) are blurred; squared memberships, emptiness among them,
        # give back an edge as sharp as the signal grid shows it.
        empty = (1 - tissues.sum(dim=0)).clamp_(min=0)
        tissues.square_()
        scale = tissues.sum(dim=0).addcmul_(empty, empty).clamp_(min=1e-6).reciprocal_()
        magnitudes = []
        for signals, exponent in zip(self._signals, exponents, strict=True):
            magnitude = tissues[0] * signals[0]
            for tissue, signal in zip(tissues[1:], signals[1:], strict=True):
                magnitude.add_(tissue, alpha=signal)
            magnitudes.append(magnitude.mul_(scale).mul_(exponent))
        return magnitudes, field


@dataclass(frozen=True)
class _Line:
    """Linear interpolation along one axis; the edge is repeated outside."""

    below: Tensor
    weight: Tensor
    needed: slice
    """Of the source's voxels; `below` counts from its start."""

    @classmethod
    def between(cls, source: Grid, target: Grid, axis: int, device: torch.device) -> "_Line":
        last = source.shape[axis] - 1
        goal = target.axes_mm(device)[axis]
        position = ((goal - source.origin_mm[axis]) / source.spacing_mm[axis]).clamp(0, last)
        below = position.floor().clamp(max=max(last - 1, 0)).long()
        start = int(below.min())
        return cls(below - start, (position - below).float(), slice(start, int(below.max()) + 2))

    def part(self, first: int, last: int) -> "_Line":
        return _Line(self.below[first:last], self.weight[first:last], self.needed)

    def matrix(self) -> Tensor:
        """The same as a product, shape (source, target): several times quicker along the last axis of an array."""
        target = torch.arange(len(self.below), device=self.below.device)
        matrix = torch.zeros(self.needed.stop - self.needed.start, len(target), device=self.below.device)
        matrix[self.below, target] = 1 - self.weight
        matrix[self.below + 1, target] += self.weight
        return matrix

    def interpolate(self, maps: Tensor, dim: int) -> Tensor:
        low, high = maps.index_select(dim, self.below), maps.index_select(dim, self.below + 1)
        return low.lerp_(high, self.weight.reshape([-1 if d == dim else 1 for d in range(maps.dim())]))


def _exponents(
    head: "Head", field_ppm: Tensor, grid: Grid, protocol: Protocol, values: TissueValues, texture: Tensor
) -> list[Tensor]:
    """Logarithm of what multiplies the tissues' signal at each echo: texture, iron, dephasing in a fine voxel."""
    slow = smooth_field(texture.to(field_ppm), head.grid.shape).log_()
    spread = _field_spread(field_ppm, head.grid.spacing_mm, grid.spacing_mm)
    rate = values.iron_r2star_per_ppm_tesla * protocol.field_strength_t
    exponents = []
    for time_ms in protocol.echo_times_ms:
        turn = radians_per_ppm(protocol.field_strength_t, time_ms)
        decay = head.iron_ppm * (rate * time_ms / 1000) + spread * turn**2
        exponents.append(slow - decay.clamp_(max=20))
    return exponents


def _field_spread(field_ppm: Tensor, spacing_mm: Triple, voxel_mm: Triple) -> Tensor:
    """Half the variance of the field in a voxel, ppm^2: of an even spread, a twelfth of its width squared.

    Beside air the field changes within one voxel of the signal grid by more than its spins keep step with.
    """
    spread = torch.zeros_like(field_ppm)
    for axis, (distance, size) in enumerate(zip(spacing_mm, voxel_mm, strict=True)):
        (slope,) = torch.gradient(field_ppm, spacing=distance, dim=axis)
        spread.addcmul_(slope, slope, value=size**2 / 24)
    return spread
