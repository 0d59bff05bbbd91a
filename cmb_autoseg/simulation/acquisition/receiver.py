"""What the receiver makes of the spins' signal: coil, noise, motion, and the phase that a vendor writes."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cmb_autoseg.simulation.acquisition.kspace import acquired_matrix, partial_fourier, resize_kspace
from cmb_autoseg.simulation.grids import smooth_field
from cmb_autoseg.simulation.protocols import Protocol

__all__ = ["Receiver", "coil", "draw_receiver", "receive", "written_phase"]

Triple = tuple[float, float, float]
BIAS_SD = 0.12
COIL_PHASE_SD_RAD = 0.8
COIL_SHAPE = (5, 5, 4)
MOTION_CHANCE = 0.12
MOTION_MM = (0.4, 1.6)
PHASE_ENCODING_AXIS = 0
"""Of axial brain scans: left to right."""


@dataclass(frozen=True)
class Receiver:
    """Draws of one scan."""

    log_gain: Tensor
    """Spline coefficients over the volume, shape `COIL_SHAPE`."""
    phase_rad: Tensor
    noise_seed: int
    moved_lines: tuple[tuple[float, float, Triple], ...] = ()
    """Head movements: first and last share of the phase-encoding steps (0..1) during which the head lay
    shifted by so many millimetres; empty for a head that kept still."""


def draw_receiver(rng: np.random.Generator, protocol: Protocol, motion_chance: float = MOTION_CHANCE) -> Receiver:
    """Draw coil, noise and whether and how the head moved."""
    gain, phase = rng.normal(size=(2, *COIL_SHAPE))
    seed = int(rng.integers(2**62))
    moved = []
    lines = acquired_matrix(protocol)[PHASE_ENCODING_AXIS]
    if rng.random() < motion_chance:
        for _ in range(int(rng.integers(1, 4))):
            # The middle of k-space makes the image; a movement during it is a shifted head, not a ghost.
            start = float(rng.choice((rng.uniform(0.05, 0.4), rng.uniform(0.58, 0.93))))
            size = float(rng.uniform(*MOTION_MM))
            way = rng.normal(size=3) * (1.0, 0.7, 0.4)
            x, y, z = (float(part) for part in way / np.linalg.norm(way) * size)
            moved.append((start, start + float(rng.integers(2, 9)) / lines, (x, y, z)))
    return Receiver(
        torch.from_numpy(BIAS_SD * gain).float(),
        torch.from_numpy(COIL_PHASE_SD_RAD * phase).float(),
        seed,
        tuple(moved),
    )


def coil(receiver: Receiver, shape: tuple[int, int, int], device: torch.device) -> Tensor:
    """Smooth complex sensitivity about 1, shape (i, j, k)."""
    log_gain = smooth_field(receiver.log_gain.to(device), shape)
    return torch.polar(log_gain.exp_(), smooth_field(receiver.phase_rad.to(device), shape))


def receive(images: Tensor, receiver: Receiver, protocol: Protocol, noise_sd: float) -> Tensor:
    """Noisy complex images as the scanner reconstructs them, shape (echo, i, j, k).

    Args:
        images: noise-free, shape (echo, i, j, k).
        receiver: draws.
        protocol: which part of k-space was acquired; noise is in no other.
        noise_sd: of the noise in one complex channel of the images.
    """
    _, n_i, n_j, n_k = images.shape
    received = images * coil(receiver, (n_i, n_j, n_k), images.device)
    if receiver.moved_lines:
        received = torch.stack([_moved(image, receiver, protocol) for image in received])
    # Drawn on the CPU, so that a seed means the same scan on every device.
    rng = np.random.default_rng(receiver.noise_seed)
    for image in received:
        image += noise_sd * _noise(rng, protocol, images.device)
    return received


def written_phase(images: Tensor, protocol: Protocol) -> Tensor:
    """Phase in radians, -pi..pi, with the vendor's sign."""
    return images.angle() * protocol.phase_sign


def _noise(rng: np.random.Generator, protocol: Protocol, device: torch.device) -> Tensor:
    """Complex noise in the acquired part of k-space; standard deviation 1 in each channel of the image.

    White where every line is acquired; correlated between voxels where zeros fill k-space.
    """
    shape = acquired_matrix(protocol)
    if protocol.partial_fourier == (1.0, 1.0, 1.0) and shape == protocol.matrix:
        return _complex_normal(rng, shape, device)
    kspace = _complex_normal(rng, shape, device)
    for axis in range(3):
        kspace = partial_fourier(kspace, protocol.partial_fourier[axis], axis)
    kept = math.prod(n - (n - round(s * n)) for n, s in zip(shape, protocol.partial_fourier, strict=True))
    for axis in range(3):
        kspace = torch.fft.ifft(resize_kspace(kspace, protocol.matrix[axis], axis), dim=axis, norm="forward")
    noise: Tensor = kspace / math.sqrt(kept)
    return noise


def _complex_normal(rng: np.random.Generator, shape: tuple[int, int, int], device: torch.device) -> Tensor:
    return torch.view_as_complex(torch.from_numpy(rng.standard_normal((*shape, 2), dtype=np.float32))).to(device)


def _moved(image: Tensor, receiver: Receiver, protocol: Protocol) -> Tensor:
    """The image (i, j, k) when the head lay elsewhere during some phase-encoding lines."""
    n = image.shape[PHASE_ENCODING_AXIS]
    kspace = torch.fft.fftn(image)
    frequencies = [
        torch.fft.fftfreq(size, step, device=image.device).reshape([-1 if d == axis else 1 for d in range(3)])
        for axis, (size, step) in enumerate(zip(image.shape, protocol.spacing_mm, strict=True))
    ]
    lines = torch.fft.fftfreq(n, 1.0, device=image.device) + 0.5
    # Zero filling leaves the outer lines empty: shares count the acquired ones.
    acquired = acquired_matrix(protocol)[PHASE_ENCODING_AXIS]
    share = (lines - 0.5) * n / acquired + 0.5
    for start, end, shift_mm in receiver.moved_lines:
        chosen = torch.nonzero((share >= start) & (share < end))[:, 0]
        angle = sum(f * s for f, s in zip(frequencies, shift_mm, strict=True)) * (-2 * math.pi)
        turned = angle.expand(image.shape).index_select(PHASE_ENCODING_AXIS, chosen)
        lines_there = kspace.index_select(PHASE_ENCODING_AXIS, chosen)
        kspace.index_copy_(PHASE_ENCODING_AXIS, chosen, lines_there * torch.polar(torch.ones_like(turned), turned))
    moved: Tensor = torch.fft.ifftn(kspace)
    return moved
