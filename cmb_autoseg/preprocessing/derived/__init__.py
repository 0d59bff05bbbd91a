"""Channels that are worked out from a sequence: radial symmetry, local phase, sign of the susceptibility."""

from cmb_autoseg.preprocessing.derived.frst import DEFAULT_RADII_MM, fast_radial_symmetry

__all__ = ["DEFAULT_RADII_MM", "fast_radial_symmetry"]
