"""How a simulated scanner acquires: field strength, echo time, grid and noise."""

from dataclasses import dataclass

__all__ = ["DEFAULT_PROTOCOL", "PROTOCOLS", "Protocol"]


@dataclass(frozen=True)
class Protocol:
    """One gradient-echo protocol with magnitude and phase.

    Axes are ordered (i, j, k) and run to the right, front and top of the scanner.
    """

    name: str
    field_strength_t: float
    echo_time_ms: float
    spacing_mm: tuple[float, float, float]
    matrix: tuple[int, int, int]
    """Acquired voxels."""
    centre_mm: tuple[float, float, float]
    """Where the middle of the volume lies in an average head (MNI152 millimetres)."""
    snr: float
    """White-matter signal divided by the standard deviation of the noise in one complex channel."""
    fluid_m0: float = 0.48
    """M0 of fluid where white matter has 0.75: low for short repetition times (3D), high for long ones (2D)."""
    b0_direction: tuple[float, float, float] = (0.0, 0.0, 1.0)
    """Unit vector of the main field in the volume's axes; tilt it for oblique scans."""
    site: int = 1
    """First digit of the subjects' numbers, as in VALDO."""


_PROTOCOLS = (
    Protocol("small", 3.0, 20.0, (1.0, 1.0, 2.0), (144, 180, 32), (0.0, -18.0, 19.0), snr=30.0),
    Protocol(
        "valdo_1", 1.5, 40.0, (0.45, 0.45, 4.0), (336, 408, 30), (0.0, -18.0, 14.0), snr=28.0, fluid_m0=0.95, site=1
    ),
    Protocol("valdo_2", 1.5, 28.0, (0.5, 0.5, 0.8), (304, 368, 112), (0.0, -18.0, 16.0), snr=22.0, site=2),
    Protocol("valdo_3", 3.0, 20.0, (1.0, 1.0, 3.0), (152, 184, 44), (0.0, -18.0, 8.0), snr=35.0, fluid_m0=0.8, site=3),
)

PROTOCOLS = {protocol.name: protocol for protocol in _PROTOCOLS}
"""Protocols by name. `valdo_*` have the spacings of the challenge's three sites; the rest is typical of them."""

DEFAULT_PROTOCOL = "small"
