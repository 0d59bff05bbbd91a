"""How a simulated scanner acquires: field strength, timing, grid, reconstruction and noise.

Names and numbers only, so that commands can list protocols without importing torch.
"""

import math
from dataclasses import dataclass

__all__ = ["DEFAULT_PROTOCOL", "PROTOCOLS", "Protocol"]

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Protocol:
    """One spoiled gradient-echo protocol with magnitude and phase.

    Axes are ordered (i, j, k) and run to the right, front and top of the volume; k is the slice axis.
    Everything is simulated in the volume's own axes, in which the main field may be tilted.
    """

    name: str
    field_strength_t: float
    echo_times_ms: tuple[float, ...]
    """Increasing. The last one makes SWI, QSM's noise and the reference mask."""
    spacing_mm: Triple
    """Of the reconstructed voxels."""
    matrix: tuple[int, int, int]
    """Reconstructed voxels."""
    centre_mm: Triple
    """Where the middle of the volume lies in an average head (MNI152 millimetres)."""
    snr: float
    """White-matter signal at the last echo divided by the noise's standard deviation in one complex channel."""
    repetition_time_ms: float = 40.0
    flip_angle_deg: float = 15.0
    acquired_mm: Triple | None = None
    """Acquired voxels where they are larger than the reconstructed ones (zero filling); None: the same."""
    partial_fourier: Triple = (1.0, 1.0, 1.0)
    """Share of k-space that is acquired along each axis, 0.6..1; the rest is zero."""
    tilt_deg: tuple[float, float] = (0.0, 0.0)
    """Oblique slab: turned about the volume's i axis (towards coronal), then its j axis (towards sagittal)."""
    phase_sign: int = 1
    """+1: a paramagnetic inclusion's core has positive phase; -1: the vendors that write it negative."""
    minip_slices: int = 4
    vendor: str = "generic"
    site: int = 1
    """First digit of the subjects' numbers, as in VALDO."""

    @property
    def echo_time_ms(self) -> float:
        """The last echo's time."""
        return self.echo_times_ms[-1]

    @property
    def to_scanner(self) -> tuple[Triple, Triple, Triple]:
        """Rotation from the volume's axes to the scanner's (RAS), rows; about the isocentre."""
        about_i, about_j = (math.radians(angle) for angle in self.tilt_deg)
        ci, si, cj, sj = math.cos(about_i), math.sin(about_i), math.cos(about_j), math.sin(about_j)
        return (cj, si * sj, ci * sj), (0.0, ci, -si), (-sj, si * cj, ci * cj)

    @property
    def b0_direction(self) -> Triple:
        """Unit vector of the main field in the volume's axes: the scanner's z."""
        return self.to_scanner[2]


_PROTOCOLS = (
    Protocol("small", 3.0, (20.0,), (1.0, 1.0, 2.0), (144, 180, 32), (0.0, -18.0, 19.0), snr=30.0),
    Protocol(
        "valdo_1",
        1.5,
        (40.0,),
        (0.45, 0.45, 4.0),
        (336, 408, 30),
        (0.0, -18.0, 14.0),
        snr=28.0,
        repetition_time_ms=1300.0,
        flip_angle_deg=20.0,
        acquired_mm=(0.9, 0.9, 4.0),
        site=1,
    ),
    Protocol("valdo_2", 1.5, (28.0,), (0.5, 0.5, 0.8), (304, 368, 112), (0.0, -18.0, 16.0), snr=22.0, site=2),
    Protocol(
        "valdo_3",
        3.0,
        (20.0,),
        (1.0, 1.0, 3.0),
        (152, 184, 44),
        (0.0, -18.0, 8.0),
        snr=35.0,
        repetition_time_ms=700.0,
        flip_angle_deg=20.0,
        site=3,
    ),
)

PROTOCOLS = {protocol.name: protocol for protocol in _PROTOCOLS}
"""Protocols by name. `valdo_*` have the spacings of the challenge's three sites; the rest is typical of them."""

DEFAULT_PROTOCOL = "small"
