"""Susceptibility-weighted images and their minimum-intensity projection."""

import math

import torch
from torch import Tensor

__all__ = ["high_passed_phase", "minimum_intensity_projection", "susceptibility_weighted"]

LOW_PASS_PIXEL_MM = 4.0
"""Pixel of the smoothed image: what the central 64 x 64 of k-space resolve over 256 mm."""
MASK_POWER = 4


def susceptibility_weighted(image: Tensor, spacing_mm: tuple[float, float, float]) -> Tensor:
    """Susceptibility-weighted image: magnitude * mask^4 (Haacke et al. 2004, Magn Reson Med 52:612).

    The mask falls linearly from 1 at a high-passed phase of 0 to 0 at pi, for the sign of phase that
    a paramagnetic inclusion has; the other sign is left alone.

    Args:
        image: complex, shape (i, j, k), slices along k; a field above that of the surroundings turns its
            phase forwards, as everywhere in the simulator.
        spacing_mm: voxel size along i, j, k.

    Returns:
        Shape (i, j, k), in units of the magnitude.
    """
    phase = high_passed_phase(image, spacing_mm)
    mask = 1 - phase.clamp(min=0) / math.pi
    return image.abs() * mask**MASK_POWER


def high_passed_phase(image: Tensor, spacing_mm: tuple[float, float, float]) -> Tensor:
    """Phase against a smoothed copy of the image, slice by slice; radians in -pi..pi, shape (i, j, k).

    The copy is made from the centre of k-space under a Hann window (Wang et al. 2000). Dividing by it
    takes away the coil's and the slowly varying background's phase and with them most wraps. Where the
    field changes faster than the copy can follow, above sinuses, wraps remain, as on scanners.
    """
    smooth = torch.fft.fft2(image, dim=(0, 1))
    for axis in (0, 1):
        window = _hann(image.shape[axis], spacing_mm[axis], image.device)
        smooth *= window.reshape([-1 if d == axis else 1 for d in range(3)])
    return torch.angle(image * torch.fft.ifft2(smooth, dim=(0, 1)).conj())


def _hann(n: int, step_mm: float, device: torch.device) -> Tensor:
    """Hann window over the spatial frequencies of one axis that pixels of `LOW_PASS_PIXEL_MM` resolve."""
    share = (torch.fft.fftfreq(n, step_mm, device=device) * (2 * LOW_PASS_PIXEL_MM)).abs().clamp(max=1)
    return (0.5 + 0.5 * torch.cos(math.pi * share)).to(torch.float32)


def minimum_intensity_projection(swi: Tensor, slices: int) -> Tensor:
    """Darkest value over `slices` neighbouring slices (last axis), sliding; the shape is kept.

    Slice k shows slices k - (slices - 1) // 2 to k + slices // 2; at both ends of the volume those
    beyond it are left out, so the outermost slices project fewer.

    Raises:
        ValueError: `slices` is below 1.
    """
    if slices < 1:
        raise ValueError(f"a projection needs at least 1 slice, not {slices}")
    before, after = (slices - 1) // 2, slices // 2
    padded = torch.nn.functional.pad(swi, (before, after), value=math.inf)
    return padded.unfold(-1, slices, 1).amin(dim=-1)
