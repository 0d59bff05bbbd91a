"""How a simulated scanner acquires: field strength, timing, grid, reconstruction and noise.

Names and numbers only, so that commands can list protocols without importing torch.
"""

import math
from dataclasses import dataclass

__all__ = ["PROTOCOLS", "Protocol"]

Triple = tuple[float, float, float]
LONG_REPETITION_MS = 200.0
"""From here on a protocol excites slice by slice (2D); a 3D scan would take an hour."""


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
    def is_2d(self) -> bool:
        """Whether slices are excited one by one."""
        return self.repetition_time_ms >= LONG_REPETITION_MS

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
    # For demonstrations and tests: quick, and like an ordinary 3 T scan in everything else.
    Protocol("small", 3.0, (20.0,), (1.0, 1.0, 2.0), (144, 180, 32), (0.0, -18.0, 19.0), snr=30.0),
    # VALDO's three sites: the spacings are the challenge's, the rest is typical of them.
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
        vendor="Philips",
        site=1,
    ),
    # 3D, zero-filled to twice the slices (Rotterdam Scan Study: Vernooij et al. 2008, Radiology 248:272).
    Protocol(
        "valdo_2",
        1.5,
        (31.0,),
        (0.5, 0.5, 0.8),
        (304, 368, 112),
        (0.0, -18.0, 16.0),
        snr=22.0,
        repetition_time_ms=45.0,
        flip_angle_deg=13.0,
        acquired_mm=(0.8, 1.0, 1.6),
        vendor="GE",
        phase_sign=-1,
        site=2,
    ),
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
        vendor="GE",
        phase_sign=-1,
        site=3,
    ),
    # The classic 3D SWI product sequence at 1.5 T (Haacke et al. 2009, AJNR 30:19: TE 40, flip angle 15-20).
    Protocol(
        "swi_15t",
        1.5,
        (40.0,),
        (0.9, 0.9, 2.0),
        (256, 256, 64),
        (0.0, -18.0, 14.0),
        snr=22.0,
        repetition_time_ms=49.0,
        partial_fourier=(1.0, 1.0, 0.875),
        vendor="Siemens",
    ),
    # Triple-echo 3D gradient echo for SWI and QSM.
    Protocol(
        "swi_3t",
        3.0,
        (6.7, 14.4, 22.1),
        (0.7, 0.7, 1.5),
        (272, 320, 88),
        (0.0, -18.0, 12.0),
        snr=25.0,
        repetition_time_ms=31.0,
        partial_fourier=(1.0, 0.875, 1.0),
        minip_slices=6,
        vendor="Siemens",
    ),
    # UK Biobank's brain imaging protocol (Miller et al. 2016): 0.8 x 0.8 x 3 mm, TE 9.42 / 20, TR 27, flip angle 15.
    Protocol(
        "ukb",
        3.0,
        (9.42, 20.0),
        (0.8, 0.8, 3.0),
        (256, 288, 48),
        (0.0, -18.0, 8.0),
        snr=35.0,
        repetition_time_ms=27.0,
        partial_fourier=(1.0, 0.875, 1.0),
        vendor="Siemens",
    ),
    # ADNI's 2D T2*-weighted gradient echo: TE 20, TR 650, flip angle 20, slices of 4 mm.
    Protocol(
        "adni_gre",
        3.0,
        (20.0,),
        (0.86, 0.86, 4.0),
        (224, 256, 40),
        (0.0, -18.0, 4.0),
        snr=38.0,
        repetition_time_ms=650.0,
        flip_angle_deg=20.0,
        vendor="Siemens",
    ),
    # AIBL's SWI, from which CSIRO's public set of microbleeds is made: TE 20, TR 27, flip angle 20.
    Protocol(
        "aibl_swi",
        3.0,
        (20.0,),
        (0.94, 0.94, 1.75),
        (176, 232, 80),
        (0.0, -18.0, 10.0),
        snr=28.0,
        repetition_time_ms=27.0,
        flip_angle_deg=20.0,
        vendor="Siemens",
    ),
    # Dou et al. 2016: TE 24, 0.45 x 0.45 mm, slices of 2 mm interpolated to 1 mm; theirs has 512 x 512 x 150 voxels,
    # this one leaves out the air around the head.
    Protocol(
        "dou_swi",
        3.0,
        (24.0,),
        (0.45, 0.45, 1.0),
        (400, 480, 140),
        (0.0, -18.0, 12.0),
        snr=22.0,
        repetition_time_ms=34.0,
        flip_angle_deg=20.0,
        acquired_mm=(0.9, 0.9, 2.0),
        vendor="Philips",
    ),
    # Short echoes, since T2* is short there; two of them.
    Protocol(
        "swi_7t",
        7.0,
        (6.0, 15.0),
        (0.5, 0.5, 1.0),
        (368, 440, 120),
        (0.0, -18.0, 14.0),
        snr=25.0,
        repetition_time_ms=28.0,
        flip_angle_deg=12.0,
        minip_slices=8,
        vendor="Siemens",
    ),
    # An old clinical 2D scan: thick slices, in-plane interpolated twofold.
    Protocol(
        "thick_5mm",
        1.5,
        (25.0,),
        (0.47, 0.47, 5.0),
        (416, 480, 28),
        (0.0, -18.0, 6.0),
        snr=30.0,
        repetition_time_ms=700.0,
        flip_angle_deg=20.0,
        acquired_mm=(0.94, 0.94, 5.0),
        vendor="GE",
        phase_sign=-1,
    ),
    # Planned on the line through the commissures, as clinical slabs are, in a head that looks up.
    Protocol(
        "oblique_3t",
        3.0,
        (23.0,),
        (0.9, 0.9, 2.0),
        (216, 256, 64),
        (0.0, -18.0, 12.0),
        snr=28.0,
        repetition_time_ms=40.0,
        tilt_deg=(-18.0, 4.0),
        vendor="Philips",
    ),
    # Multi-echo angiography of veins: quarter of k-space along y not acquired, zero-filled in all directions.
    Protocol(
        "swan_3t",
        3.0,
        (12.8, 25.6),
        (0.5, 0.5, 1.0),
        (376, 440, 128),
        (0.0, -18.0, 12.0),
        snr=24.0,
        repetition_time_ms=42.0,
        acquired_mm=(0.75, 0.75, 2.0),
        partial_fourier=(1.0, 0.75, 1.0),
        phase_sign=-1,
        vendor="GE",
    ),
)

PROTOCOLS = {protocol.name: protocol for protocol in _PROTOCOLS}
"""Protocols by name. Those named after a cohort have its published spacing and field strength;
what is not published is typical of such scans."""
