"""Quantitative susceptibility mapping: from complex echoes to ppm.

Unwrapping and background removal are in `local_field`; here the local field is turned into
susceptibility by regularized least squares with a dipole kernel.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from cmb_autoseg.simulation.derived.local_field import (
    HIGH_PASS_PER_MM,
    VOID,
    differences,
    divergence,
    dropout,
    eroded,
    field_gradient,
    local_field,
    rim_voxels,
    signal_quality,
    squared_frequency,
    unresolved,
    unwrapped_field,
)
from cmb_autoseg.simulation.tissue import radians_per_ppm

__all__ = ["invert_dipole", "quantitative_susceptibility"]

SMOOTHING_MM2 = 0.001
"""Weight of the squared gradient of susceptibility, per mm, against the squared misfit of the field."""
EDGE = 0.12
"""Relative step of the magnitude at which the smoothing has fallen to one half."""
ITERATIONS = 20
MARGIN_MM = 16.0

Triple = tuple[float, float, float]


def quantitative_susceptibility(
    images: Tensor,
    echo_times_ms: tuple[float, ...],
    field_strength_t: float,
    spacing_mm: Triple,
    b0_direction: Triple,
    brain: Tensor,
) -> Tensor:
    """Susceptibility in ppm against the brain's mean, shape (i, j, k); 0 where it is not mapped.

    Four steps: field differences from all echoes, least-squares unwrapping, removal of the
    background, dipole inversion. Voxels without signal are left out of every one of them, so
    that the void of a microbleed does not streak. The outermost 2 mm of the brain and large dropouts
    are not mapped; what varies more slowly than over about 50 mm is damped.

    Args:
        images: complex, shape (echo, i, j, k), paramagnetic phase positive, echo times increasing.
        echo_times_ms: of the echoes.
        field_strength_t: main field.
        spacing_mm: voxel size along i, j, k.
        b0_direction: unit vector of the main field in the volume's axes.
        brain: bool, shape (i, j, k).
    """
    result = torch.zeros(brain.shape, device=images.device)
    if not bool(brain.any()):
        return result
    box = _box_about(brain)
    images, inside = images[(slice(None), *box)], brain[box]
    quality = signal_quality(images, echo_times_ms, inside)
    gradient = field_gradient(images, echo_times_ms, field_strength_t)
    turn = radians_per_ppm(field_strength_t, echo_times_ms[-1])
    unknown = ((quality < VOID) & inside) | unresolved(gradient, inside, turn)
    # What is unknown at the brain's edge cannot be told from the noise beyond it.
    inside = inside & ~dropout(unknown, inside, spacing_mm) & (eroded(inside) | ~unknown)
    field = unwrapped_field(gradient, spacing_mm, unknown & inside)

    pad = _padding(inside.shape, spacing_mm)
    padded_field, padded_quality, padded_inside, padded_unknown = (
        _padded(volume, pad) for volume in (field, quality, inside, unknown)
    )
    sources = eroded(padded_inside, rim_voxels(spacing_mm))
    local = local_field(padded_field, sources, spacing_mm)
    weight = padded_quality.clamp(max=1) * (sources & ~padded_unknown)
    chi = invert_dipole(local, weight, padded_quality, sources, spacing_mm, b0_direction)
    chi = chi[tuple(slice(before, n - after) for (before, after), n in zip(pad, chi.shape, strict=True))]
    mapped = sources[tuple(slice(before, n - after) for (before, after), n in zip(pad, sources.shape, strict=True))]
    result[box] = (chi - chi[mapped].mean()) * mapped
    return result


def invert_dipole(
    local_ppm: Tensor, weight: Tensor, magnitude: Tensor, brain: Tensor, spacing_mm: Triple, b0_direction: Triple
) -> Tensor:
    """Susceptibility inside the brain whose field fits a high-passed local field; ppm, shape (i, j, k).

    Minimizes |weight (D chi - local)|^2 + smoothing |edges grad chi|^2 by conjugate gradients, where
    `edges` is small across steps of the magnitude, as susceptibility changes with tissue (the squared
    form of MEDI, Liu et al. 2012; de Rochefort et al. 2010). D holds the high-pass of `local_field`.

    Args:
        local_ppm: from `local_field`; the volume is taken to repeat beyond its faces.
        weight: trust in each voxel of it, 0..1.
        magnitude: relative to the brain's median.
        brain: bool; susceptibility is 0 elsewhere.
        spacing_mm: voxel size along i, j, k.
        b0_direction: unit vector of the main field.
    """
    kernel = _dipole_kernel(local_ppm.shape, spacing_mm, b0_direction, local_ppm.device)
    square = squared_frequency(local_ppm.shape, spacing_mm, local_ppm.device)
    kernel *= square / (square + HIGH_PASS_PER_MM**2)
    trust = weight.square()
    smooth = SMOOTHING_MM2 / (1 + (differences(magnitude) / EDGE).square())

    def dipole(volume: Tensor) -> Tensor:
        field: Tensor = torch.fft.irfftn(torch.fft.rfftn(volume).mul_(kernel), s=volume.shape)
        return field

    def normal(chi: Tensor) -> Tensor:
        rough = divergence(differences(chi).mul_(smooth), spacing_mm)
        rest: Tensor = (dipole(dipole(chi).mul_(trust)) - rough) * brain
        return rest

    return _conjugate_gradients(normal, dipole(trust * local_ppm) * brain)


def _conjugate_gradients(operator: Callable[[Tensor], Tensor], goal: Tensor) -> Tensor:
    """`ITERATIONS` steps towards the solution of operator(x) = goal, from 0."""
    found = torch.zeros_like(goal)
    residual, direction = goal.clone(), goal.clone()
    strength = residual.square().sum()
    for _ in range(ITERATIONS):
        image = operator(direction)
        step = strength / (direction * image).sum().clamp(min=1e-30)
        found += step * direction
        residual -= step * image
        previous, strength = strength, residual.square().sum()
        direction = residual + strength / previous.clamp(min=1e-30) * direction
    return found


def _dipole_kernel(shape: torch.Size, spacing_mm: Triple, b0: Triple, device: torch.device) -> Tensor:
    """1/3 - (k . b0)^2 / k^2 on rfftn's frequencies; 0 in the middle."""
    n_i, n_j, n_k = shape
    k_i = torch.fft.fftfreq(n_i, spacing_mm[0], device=device)[:, None, None]
    k_j = torch.fft.fftfreq(n_j, spacing_mm[1], device=device)[None, :, None]
    k_k = torch.fft.rfftfreq(n_k, spacing_mm[2], device=device)[None, None, :]
    square = k_i**2 + k_j**2 + k_k**2
    square[0, 0, 0] = 1
    kernel: Tensor = 1 / 3 - (k_i * b0[0] + k_j * b0[1] + k_k * b0[2]) ** 2 / square
    kernel[0, 0, 0] = 0
    return kernel


def _box_about(brain: Tensor) -> tuple[slice, slice, slice]:
    """The brain's bounding box, two voxels wider where the volume has them."""
    slices = []
    for axis, n in enumerate(brain.shape):
        held = brain.any(dim=tuple(d for d in range(3) if d != axis)).nonzero()
        slices.append(slice(max(0, int(held[0]) - 2), min(n, int(held[-1]) + 3)))
    i, j, k = slices
    return i, j, k


def _padding(shape: torch.Size, spacing_mm: Triple) -> list[tuple[int, int]]:
    """Zeros before and after each axis: `MARGIN_MM` in all, up to a length that transforms quickly."""
    pads = []
    for n, step in zip(shape, spacing_mm, strict=True):
        extra = _quick_length(n + math.ceil(MARGIN_MM / step)) - n
        pads.append((extra // 2, extra - extra // 2))
    return pads


def _quick_length(n: int) -> int:
    """The next even number whose only prime factors are 2, 3 and 5."""
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1 and n % 2 == 0:
            return n
        n += 1


def _padded(volume: Tensor, pad: list[tuple[int, int]]) -> Tensor:
    return torch.nn.functional.pad(volume, [width for pair in reversed(pad) for width in pair])
