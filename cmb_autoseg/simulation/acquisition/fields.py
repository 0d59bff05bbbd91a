"""Fields of susceptibility: dipole convolution on a grid, and the textbook fields of sphere and cylinder.

Susceptibility and field are both in ppm, Lorentz-corrected (a point inside a sphere of its own kind
sees no field from it). `b0` is a unit vector along the main field, in the axes of the grid.
"""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cmb_autoseg.simulation.tissue import TissueValues, susceptibility_map

if TYPE_CHECKING:
    from cmb_autoseg.simulation.anatomy.head import Head

__all__ = ["cylinder_field", "dipole_field", "head_field", "shimmed", "sphere_field"]

Triple = tuple[float, float, float]
PADDING = 0.4
"""Of the map's extent along each axis, added to it; copies of the map are that far apart."""
FADING_FROM = 0.3
"""Frequency in cycles per voxel, of at most 0.5."""


def dipole_field(chi: Tensor, spacing_mm: Triple, b0: Triple) -> Tensor:
    """Field shift of a susceptibility map, shape (i, j, k).

    Convolution with D(k) = 1/3 - (k . b0)^2 / k^2 (Salomir 2003, Marques & Bowtell 2005); D(0) = 0, so
    the result is relative to its own mean. Beyond its edges the map goes on with their values for a fifth
    of its extent to either side (a neck goes on, and so does the air); then it repeats.

    Args:
        chi: shape (i, j, k).
        spacing_mm: voxel size along i, j, k.
        b0: unit vector along the main field.
    """
    before = [math.ceil(n * PADDING / 2) for n in chi.shape]
    padded_shape = [_fast_length(n + 2 * b) for n, b in zip(chi.shape, before, strict=True)]
    padding = [(b, p - n - b) for n, b, p in zip(chi.shape, before, padded_shape, strict=True)]
    flat = [width for pair in reversed(padding) for width in pair]
    padded = torch.nn.functional.pad(chi[None, None], flat, mode="replicate")[0, 0]
    spectrum = torch.fft.rfftn(padded)
    del padded
    spectrum *= _dipole_kernel(padded_shape, spacing_mm, b0, chi)
    field: Tensor = torch.fft.irfftn(spectrum, s=padded_shape)
    i, j, k = (slice(b, b + n) for b, n in zip(before, chi.shape, strict=True))
    return field[i, j, k].clone()


def _fast_length(n: int) -> int:
    """The next multiple of 16, on which Fourier transforms are quick."""
    return 16 * math.ceil(n / 16)


def _dipole_kernel(shape: list[int], spacing_mm: Triple, b0: Triple, like: Tensor) -> Tensor:
    last = len(shape) - 1
    straight, mixed = [], []
    for axis, (n, step) in enumerate(zip(shape, spacing_mm, strict=True)):
        frequencies = (torch.fft.rfftfreq if axis == last else torch.fft.fftfreq)(n, dtype=like.dtype)
        # Products of two axes jump from + to - at the highest frequency, which would ring all over an oblique
        # field: 6 % of a sphere's, 1 % when they fade before.
        fading = (frequencies.abs() - FADING_FROM) / (0.5 - FADING_FROM)
        window = 0.5 + 0.5 * torch.cos(math.pi * fading.clamp(min=0))
        view = [-1 if d == axis else 1 for d in range(3)]
        straight.append((frequencies / step).reshape(view).to(like.device))
        mixed.append((frequencies / step * window * b0[axis]).reshape(view).to(like.device))
    square = straight[0] ** 2 + straight[1] ** 2 + straight[2] ** 2
    square[0, 0, 0] = 1
    along = sum((k * b) ** 2 for k, b in zip(straight, b0, strict=True))
    along = along + 2 * (mixed[0] * mixed[1] + (mixed[0] + mixed[1]) * mixed[2])
    kernel: Tensor = 1 / 3 - along / square
    kernel[0, 0, 0] = 0
    return kernel


def shimmed(field_ppm: Tensor, inside: Tensor) -> Tensor:
    """The field after the scanner's shim: without its best fit by solid harmonics up to second order.

    Shim coils lie outside of the head, so what they add is harmonic in it; a field such as x^2 alone is none
    that they can make.

    Args:
        field_ppm: on a grid of cubic voxels, shape (i, j, k).
        inside: the region that is shimmed, weights 0..1 of the same shape; the brain.
    """
    axes = [torch.arange(n, dtype=torch.float64, device=field_ppm.device) - n / 2 for n in field_ppm.shape]
    view = [axis.reshape([-1 if d == n else 1 for d in range(3)]) / 100 for n, axis in enumerate(axes)]
    some = inside[::3, ::3, ::3]
    sample = some.reshape(-1).double()
    sparse = _harmonics(*(axis[tuple(slice(None, None, 3 if n > 1 else 1) for n in axis.shape)] for axis in view))
    design = torch.stack([term.expand(some.shape).reshape(-1) for term in sparse], dim=1) * sample[:, None]
    goal = field_ppm[::3, ::3, ::3].reshape(-1).double() * sample
    weights = torch.linalg.solve(design.T @ design, design.T @ goal)
    shim = torch.zeros_like(field_ppm)
    for weight, term in zip(weights, _harmonics(*(axis.to(field_ppm) for axis in view)), strict=True):
        shim += float(weight) * term
    return field_ppm - shim


def _harmonics(x: Tensor, y: Tensor, z: Tensor) -> list[Tensor]:
    """The nine solid harmonics up to second order, each of a shape that broadcasts to the volume's."""
    one = torch.ones_like(x[:1])
    return [one, x, y, z, x * y, x * z, y * z, x**2 - y**2, 2 * z**2 - x**2 - y**2]


def head_field(head: "Head", values: TissueValues, b0: Triple) -> Tensor:
    """Field of a head's tissues after shimming on its brain, ppm on the head's grid."""
    return shimmed(dipole_field(susceptibility_map(head, values), head.grid.spacing_mm, b0), head.brain)


def sphere_field(square_mm2: Tensor, along_mm: Tensor, radius_mm: float, chi_ppm: float) -> Tensor:
    """Field shift of a sphere: chi/3 (R/r)^3 (3 cos^2 theta - 1) outside, zero inside.

    Haacke et al. 1999, chapter 25, Lorentz-corrected.

    Args:
        square_mm2: squared distance from the centre.
        along_mm: distance from the centre along the main field, of the same shape.
        radius_mm: of the sphere.
        chi_ppm: inside minus outside.
    """
    safe = square_mm2.clamp(min=radius_mm**2)
    field = (3 * along_mm.square() / safe - 1) * (chi_ppm / 3 * radius_mm**3) / (safe * safe.sqrt())
    return torch.where(square_mm2 > radius_mm**2, field, 0)


def cylinder_field(square_mm2: Tensor, along_mm: Tensor, cosine: Tensor, radius_mm: Tensor, chi_ppm: float) -> Tensor:
    """Field shift of a long cylinder at an angle theta to the main field.

    chi/2 sin^2 theta (R/r)^2 cos 2 phi outside, chi/6 (3 cos^2 theta - 1) inside; Haacke et al. 1999,
    chapter 25, Lorentz-corrected. All arguments are broadcast.

    Args:
        square_mm2: squared distance from the axis.
        along_mm: component along the main field of the vector from the axis to the point, the vector being
            perpendicular to the axis.
        cosine: of theta.
        radius_mm: of the cylinder.
        chi_ppm: inside minus outside.
    """
    safe = torch.maximum(square_mm2, radius_mm**2)
    # sin^2(theta) cos(2 phi), phi = 0 being where the main field points across the axis
    pattern = 2 * along_mm.square() / safe - (1 - cosine**2)
    outside = chi_ppm / 2 * radius_mm**2 * pattern / safe
    return torch.where(square_mm2 > radius_mm**2, outside, chi_ppm / 6 * (3 * cosine**2 - 1))
