"""What tissues are made of, as an MR scanner sees them: susceptibility, water, T1 and R2*.

Sources: susceptibility of tissues and nuclei from the literature on susceptibility mapping (Liu et al.
2015, Langkammer et al. 2012), bone and air from Schenck 1996; T1 of grey and white matter from Wright
et al. 2008 (MAGMA 21:121), at 3 T from Wansapura et al. 1999 (JMRI 9:531), with which grey and white matter are
as bright as each other in SWI, as on scanners; T1 of blood from Zhang et al. 2013 (MRM 70:1082), of fluid from
Rooney et al. 2007 (MRM 57:308); R2* of grey and white matter from Peters et al. 2007 (MRI 25:748), of blood from
Uludag et al. 2009 (NeuroImage 48:150); share of water from Whittall et al. 1997 (MRM 37:34).
"""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from cmb_autoseg.simulation.protocols import Protocol

if TYPE_CHECKING:
    from cmb_autoseg.simulation.anatomy.head import Head
    from cmb_autoseg.simulation.anatomy.person import Person

__all__ = [
    "GAMMA_HZ_PER_T",
    "TISSUES",
    "Tissue",
    "TissueValues",
    "draw_tissue",
    "radians_per_ppm",
    "spoiled_echo",
    "susceptibility_map",
    "white_matter_signal",
]

GAMMA_HZ_PER_T = 42.577e6
FIELDS_T = (1.5, 3.0, 7.0)
"""Where relaxation is tabulated; between and beyond them it is interpolated and held."""
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Tissue:
    """One tissue; relaxation at each of `FIELDS_T`."""

    chi_ppm: float
    """Above water."""
    m0: float
    """Share of water: 1 is cerebrospinal fluid."""
    t1_ms: Triple
    r2star_per_s: Triple

    def t1_at(self, field_strength_t: float) -> float:
        """T1 in milliseconds."""
        return float(np.interp(field_strength_t, FIELDS_T, self.t1_ms))

    def r2star_at(self, field_strength_t: float) -> float:
        """R2* per second."""
        return float(np.interp(field_strength_t, FIELDS_T, self.r2star_per_s))


TISSUES = {
    "white": Tissue(-0.03, 0.70, (646.0, 832.0, 1126.0), (15.1, 18.8, 37.3)),
    "grey": Tissue(0.02, 0.82, (1197.0, 1331.0, 1939.0), (11.9, 15.2, 30.1)),
    "fluid": Tissue(0.019, 1.0, (4300.0, 4300.0, 4300.0), (2.2, 3.4, 6.6)),
    # Skin, fat and muscle together; their chemical shift is left out.
    "soft": Tissue(0.0, 0.75, (500.0, 600.0, 800.0), (25.0, 30.0, 50.0)),
    "blood": Tissue(0.35, 0.85, (1480.0, 1649.0, 2087.0), (9.6, 25.0, 90.0)),
    "bone": Tissue(-2.1, 0.12, (300.0, 350.0, 400.0), (1500.0, 1500.0, 1500.0)),
    "air": Tissue(9.4, 0.0, (1000.0, 1000.0, 1000.0), (1000.0, 1000.0, 1000.0)),
}
"""By the names of the head's maps."""

SIGNAL_TISSUES = ("white", "grey", "fluid", "soft", "blood")
"""Bone's signal has decayed before any of our echoes."""
CHI_SD_PPM = {"white": 0.006, "grey": 0.005, "fluid": 0.0, "soft": 0.02, "blood": 0.05, "bone": 0.15, "air": 0.0}
M0_SD, T1_SD, R2STAR_SD = 0.02, 0.04, 0.05
"""Between people, as shares of the value."""
WHITE_LOSS_PER_YEAR = 0.0015
"""Share of white matter's R2* that goes with its myelin each year (Callaghan et al. 2014)."""
ARTERIAL_SHARE = (0.05, 0.45)
"""Of the fresh blood's signal that flow leaves in an artery: below 0.2 a flow void, 0.4 nearly isointense."""

DEOXYGENATED_BLOOD_PPM = 4 * math.pi * 0.27 * 0.42
"""Blood without any oxygen at a haematocrit of 0.42, against oxygenated blood (Spees et al. 2001)."""


@dataclass(frozen=True)
class TissueValues:
    """The tissues of one person."""

    tissues: dict[str, Tissue]
    iron_r2star_per_ppm_tesla: float = 75.0
    """R2* that a ppm of iron in a nucleus adds, per tesla: 94 post mortem (Langkammer et al. 2010 and 2012),
    about 70 from the pallidum's 38 per second in vivo at 3 T."""
    arterial_share: float = 0.2
    """Of the signal of fresh blood, left in arteries."""

    def amplitude(self, name: str, protocol: Protocol) -> float:
        """Signal of a tissue right after the pulse, in units of M0."""
        tissue = self.tissues[name]
        return spoiled_echo(
            tissue.m0,
            tissue.t1_at(protocol.field_strength_t),
            protocol.repetition_time_ms,
            protocol.flip_angle_deg,
        )

    def signal(self, name: str, protocol: Protocol, echo_time_ms: float) -> float:
        """Magnitude of a tissue at an echo time."""
        rate = self.tissues[name].r2star_at(protocol.field_strength_t)
        return self.amplitude(name, protocol) * math.exp(-rate * echo_time_ms / 1000)

    def venous_r2star(self, chi_ppm: float, field_strength_t: float) -> float:
        """R2* per second of blood with this susceptibility above oxygenated blood.

        4.6 B0 + 20 B0^2 (1 - Y)^2 is 13.8 + 181 (1 - Y)^2 at 3 T (Uludag et al. 2009).
        """
        missing = chi_ppm / DEOXYGENATED_BLOOD_PPM
        return 4.6 * field_strength_t + 20.1 * field_strength_t**2 * missing**2

    def arterial_amplitude(self, protocol: Protocol) -> float:
        """Signal right after the pulse of fresh, fully relaxed blood that flow has partly dephased."""
        fresh = self.tissues["blood"].m0 * math.sin(math.radians(protocol.flip_angle_deg))
        return self.arterial_share * fresh


def spoiled_echo(m0: float, t1_ms: float, repetition_time_ms: float, flip_angle_deg: float) -> float:
    """Steady-state signal of a spoiled gradient echo before T2* decay (Ernst & Anderson 1966)."""
    flip = math.radians(flip_angle_deg)
    recovered = math.exp(-repetition_time_ms / t1_ms)
    return m0 * math.sin(flip) * (1 - recovered) / (1 - math.cos(flip) * recovered)


def draw_tissue(rng: np.random.Generator, person: "Person") -> TissueValues:
    """Draw one person's tissue values about the published ones."""
    tissues = {}
    for name, tissue in TISSUES.items():
        chi, m0, t1, r2star = rng.normal(size=4)
        tissues[name] = Tissue(
            tissue.chi_ppm + CHI_SD_PPM[name] * float(chi),
            tissue.m0 * (1 + M0_SD * float(m0)),
            _scaled(tissue.t1_ms, 1 + T1_SD * float(t1)),
            _scaled(tissue.r2star_per_s, 1 + R2STAR_SD * float(r2star)),
        )
    aged = 1 - WHITE_LOSS_PER_YEAR * (person.age - 50)
    white = tissues["white"]
    tissues["white"] = replace(white, r2star_per_s=_scaled(white.r2star_per_s, aged))
    return TissueValues(
        tissues,
        iron_r2star_per_ppm_tesla=75.0 * (1 + 0.08 * float(rng.normal())),
        arterial_share=float(rng.uniform(*ARTERIAL_SHARE)),
    )


def _scaled(values: Triple, factor: float) -> Triple:
    low, middle, high = (value * factor for value in values)
    return low, middle, high


def susceptibility_map(head: "Head", values: TissueValues) -> Tensor:
    """Susceptibility of a head in ppm above water, shape of the head's grid; iron and air included.

    What no tissue fills is air. Vessels, lesions and calcifications smaller than the grid are not in it.
    """
    chi = head.iron_ppm.clone()
    filled = chi * 0
    for name in TISSUES:
        fraction = getattr(head, name)
        chi += values.tissues[name].chi_ppm * fraction
        filled += fraction
    return chi + values.tissues["air"].chi_ppm * (1 - filled).clamp(min=0)


def white_matter_signal(values: TissueValues, protocol: Protocol) -> float:
    """Magnitude of white matter at the last echo, without noise and coil: the reference of the protocol's SNR."""
    return values.signal("white", protocol, protocol.echo_time_ms)


def radians_per_ppm(field_strength_t: float, echo_time_ms: float) -> float:
    """Phase at the echo time for a field shift of one ppm."""
    return 2 * math.pi * GAMMA_HZ_PER_T * field_strength_t * 1e-6 * echo_time_ms / 1000
