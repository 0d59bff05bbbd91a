"""Which part of k-space a scanner acquires, and how it makes an image of it.

Fourier transforms are scaled so that the mean of the image is the middle of k-space; frequencies lie in
the order of `torch.fft`. Voxel 0 of every grid lies at the same place.
"""

import math

import torch
from torch import Tensor

from cmb_autoseg.simulation.protocols import Protocol

__all__ = ["acquired_matrix", "partial_fourier", "resize_kspace", "to_image", "to_kspace"]

Triple = tuple[int, int, int]


def acquired_matrix(protocol: Protocol) -> Triple:
    """Voxels that the scanner acquires along each axis; fewer than the matrix where it fills with zeros."""
    acquired_mm = protocol.acquired_mm or protocol.spacing_mm
    i, j, k = (
        max(1, round(n * step / acquired))
        for n, step, acquired in zip(protocol.matrix, protocol.spacing_mm, acquired_mm, strict=True)
    )
    return i, j, k


def to_kspace(image: Tensor, axis: int) -> Tensor:
    """Fourier transform along one axis."""
    kspace: Tensor = torch.fft.fft(image, dim=axis, norm="forward")
    return kspace


def to_image(kspace: Tensor, axis: int) -> Tensor:
    """Inverse of `to_kspace`."""
    image: Tensor = torch.fft.ifft(kspace, dim=axis, norm="forward")
    return image


def resize_kspace(kspace: Tensor, n: int, axis: int) -> Tensor:
    """Keep the `n` lowest frequencies along an axis, or fill up to `n` with zeros.

    Fewer lower the resolution, with Gibbs ringing at edges; more interpolate with a sinc.
    """
    old = kspace.shape[axis]
    if n == old:
        return kspace
    kept = min(n, old)
    half = math.ceil(kept / 2)
    parts = [kspace.narrow(axis, 0, half), kspace.narrow(axis, old - (kept - half), kept - half)]
    if n > old:
        shape = list(kspace.shape)
        shape[axis] = n - old
        parts.insert(1, kspace.new_zeros(shape))
    return torch.cat(parts, dim=axis)


def partial_fourier(kspace: Tensor, share: float, axis: int) -> Tensor:
    """Zeros where the scanner did not acquire: the most negative frequencies, so that `share` of them is left."""
    n = kspace.shape[axis]
    missing = n - round(share * n)
    if not missing:
        return kspace
    kspace = kspace.clone()
    kspace.narrow(axis, math.ceil(n / 2), missing).zero_()
    return kspace
