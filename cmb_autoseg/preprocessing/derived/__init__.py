"""Channels that are worked out from a sequence: radial symmetry, local phase, sign of the susceptibility."""

from cmb_autoseg.preprocessing.derived.frst import DEFAULT_RADII_MM, fast_radial_symmetry
from cmb_autoseg.preprocessing.derived.local_phase import local_phase, paramagnetic_sign, phase_scale, qsm_sign

__all__ = [
    "DEFAULT_RADII_MM",
    "fast_radial_symmetry",
    "local_phase",
    "paramagnetic_sign",
    "phase_scale",
    "qsm_sign",
]
