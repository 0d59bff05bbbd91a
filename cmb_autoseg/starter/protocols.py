"""Protocols of scanners that nobody has built yet: drawn over the whole range in which microbleeds are looked for.

A network that learns from them should not mind which of them made the scan that it is given.
"""

import math
from dataclasses import dataclass

import numpy as np

from cmb_autoseg.simulation.protocols import LONG_REPETITION_MS, Protocol

__all__ = ["ProtocolRanges", "draw_protocols"]

HEAD_MM = (190.0, 230.0, 150.0)
"""Field of view; patches are cut out of it, so that it only says how fine k-space may be."""
SLAB_CENTRE_MM = (0.0, -18.0, 12.0)
Range = tuple[float, float]


@dataclass(frozen=True)
class ProtocolRanges:
    """What protocols are drawn from, evenly on a logarithmic scale unless said otherwise."""

    field_shares: tuple[tuple[float, float], ...] = ((1.5, 0.35), (3.0, 0.55), (7.0, 0.10))
    """Field strength in tesla and how often."""
    echo_times_ms: tuple[tuple[float, Range], ...] = ((1.5, (20.0, 50.0)), (3.0, (12.0, 32.0)), (7.0, (6.0, 18.0)))
    """Of the last echo, by field strength."""
    in_plane_mm: Range = (0.4, 1.15)
    slice_mm_3d: Range = (0.8, 3.2)
    slice_mm_2d: Range = (2.0, 5.5)
    share_2d: float = 0.35
    snr: Range = (12.0, 50.0)
    flip_angle_deg: Range = (10.0, 25.0)
    repetition_ms_3d: Range = (22.0, 60.0)
    """From the echo time upwards."""
    repetition_ms_2d: Range = (500.0, 1500.0)
    zero_filled_share: float = 0.4
    """Of the protocols, those that fill k-space with zeros up to twice the acquired size."""
    partial_fourier_share: float = 0.3
    multi_echo_share: float = 0.25


def draw_protocols(rng: np.random.Generator, n: int, ranges: ProtocolRanges | None = None) -> tuple[Protocol, ...]:
    """Draw protocols; named `drawn_0`, `drawn_1`, ...

    Args:
        rng: source of every draw.
        n: how many.
        ranges: to draw from.
    """
    ranges = ranges or ProtocolRanges()
    return tuple(_draw(rng, f"drawn_{number}", ranges) for number in range(n))


def _draw(rng: np.random.Generator, name: str, ranges: ProtocolRanges) -> Protocol:
    fields, shares = zip(*ranges.field_shares, strict=True)
    field = float(rng.choice(fields, p=np.array(shares) / sum(shares)))
    echo = _between(rng, dict(ranges.echo_times_ms)[field])
    flat = bool(rng.random() < ranges.share_2d)
    in_plane = _between(rng, ranges.in_plane_mm)
    # Slices are never thinner than voxels are wide.
    slices = max(_between(rng, ranges.slice_mm_2d if flat else ranges.slice_mm_3d), in_plane)
    least = 1.15 * echo + 3
    low, high = ranges.repetition_ms_2d if flat else ranges.repetition_ms_3d
    repetition = _between(rng, (max(low, least), max(high, 1.2 * least)))
    assert flat == (repetition >= LONG_REPETITION_MS)
    spacing = (in_plane, in_plane, slices)
    return Protocol(
        name,
        field,
        _echoes(rng, echo, ranges),
        spacing,
        tuple(2 * math.ceil(size / step / 2) for size, step in zip(HEAD_MM, spacing, strict=True)),  # type: ignore[arg-type]
        SLAB_CENTRE_MM,
        snr=_between(rng, ranges.snr),
        repetition_time_ms=repetition,
        flip_angle_deg=_between(rng, ranges.flip_angle_deg),
        acquired_mm=_acquired(rng, spacing, flat, ranges),
        partial_fourier=_partial(rng, flat, ranges),
        phase_sign=int(rng.choice((1, -1))),
    )


def _echoes(rng: np.random.Generator, last_ms: float, ranges: ProtocolRanges) -> tuple[float, ...]:
    if rng.random() >= ranges.multi_echo_share:
        return (last_ms,)
    return tuple(last_ms * (number + 1) / 2 for number in range(2))


def _acquired(
    rng: np.random.Generator, spacing: tuple[float, float, float], flat: bool, ranges: ProtocolRanges
) -> tuple[float, float, float] | None:
    """Acquired voxels up to twice as large as the written ones; slices of 2D scans are what they are."""
    if rng.random() >= ranges.zero_filled_share:
        return None
    coarser = rng.uniform(1.0, 2.0, 3)
    x, y, z = (float(step * factor) for step, factor in zip(spacing, coarser, strict=True))
    return (x, y, spacing[2]) if flat else (x, y, z)


def _partial(rng: np.random.Generator, flat: bool, ranges: ProtocolRanges) -> tuple[float, float, float]:
    x, y, z = (float(rng.uniform(0.7, 1.0)) if rng.random() < ranges.partial_fourier_share else 1.0 for _ in range(3))
    return (x, y, 1.0) if flat else (x, y, z)


def _between(rng: np.random.Generator, limits: Range) -> float:
    """Evenly on a logarithmic scale."""
    return float(np.exp(rng.uniform(*np.log(limits))))
