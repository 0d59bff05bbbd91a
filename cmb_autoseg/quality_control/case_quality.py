"""What quality control measures of one case: figures only, nothing that names a person."""

from typing import Literal

from pydantic import Field

from cmb_autoseg.records import Record, Role, Triple

__all__ = [
    "SIGNED_ROLES",
    "BrainQuality",
    "CaseQuality",
    "LabelQuality",
    "LesionQuality",
    "PairQuality",
    "SequenceQuality",
]

SIGNED_ROLES = (Role.QSM, Role.GRE_PHASE)
"""Sequences whose values lie on both sides of 0."""
Side = Literal["left", "right", "back", "front", "bottom", "top"]


class BrainQuality(Record):
    """Place and size of the brain mask."""

    volume_ml: float
    extent_mm: Triple[float]
    """Width, length and height."""
    cut_mm: dict[Side, float]
    """How much of the brain seems to be missing at each side, from how abruptly it ends there."""
    coverage: float
    """Smallest share, over the three axes, of the brain that is there."""


class SequenceQuality(Record):
    """One sequence. Shares are of the brain's voxels unless said otherwise; None is n/a."""

    shape: Triple[int]
    """As stored, like the two that follow."""
    spacing_mm: Triple[float]
    orientation: str
    """Where the stored axes run to, as in `LPS`."""
    nonfinite: float
    """Share of all voxels that were NaN or infinite."""
    empty_slices: int
    repeated_slices: int
    slice_jump: float | None
    slice_mismatch: float | None
    """Median correlation of neighboring slices minus the smallest."""
    grey_levels: int
    clipped_high: float
    clipped_low: float
    median: float
    spread: float
    """Interquartile range."""
    quantiles: tuple[float, ...]
    """Percentiles 1, 5, 25, 75, 95 and 99, from the median, over the spread."""
    contrast: float | None
    """Spread over median; None for signed sequences."""
    snr: float | None
    """Median over the noise within the brain; None for signed sequences."""
    noise: float
    """Noise within the brain over the spread."""
    snr_air: float | None
    """Median over the Rayleigh noise of the air; None where there is no air or it was set to one value."""
    ghost: float | None
    """Signal of the air beside the head, more than in the corners, over the median; the worse of two axes."""
    half_field: float
    """Correlation of fine detail with itself half a field of view away: half-field (Nyquist) ghosts."""
    spike: float
    """Largest magnitude in k-space away from its center, over those around it; a spike makes stripes."""
    ripple: float
    """log2 of the fine detail along i over that along j; motion and ghosts change it."""
    detail_skew: float
    """Skewness of fine detail: negative where veins are dark, positive where they are bright."""
    sharpness: float
    """Fine over coarse detail."""
    pixels: str
    """Digest of the values in canonical order, whatever their datatype, scale and offset."""
    thumbnail: str
    """16 x 16 x 16 values around the head's center, canonical, base64 of int8; see `fingerprints`."""


class PairQuality(Record):
    """How a sequence fits the reference, on the grid that they share."""

    overlap: float
    """Share of the brain where it has any signal."""
    information: float
    """Normalized mutual information, 1..2."""
    match: float
    """Agreement of edges over its mean at displacements of 8 mm; 1 is none."""
    registration: dict[str, float] = Field(default_factory=dict)
    """What registration said of itself."""


class LesionQuality(Record):
    """One component of the label."""

    volume_mm3: float
    diameter_mm: float
    contrast: dict[Role, float]
    """Surroundings minus lesion (lesion minus surroundings on QSM), over their robust standard deviation."""


class LabelQuality(Record):
    """The label of one case."""

    lesions: tuple[LesionQuality, ...]
    outside_brain: float
    """Share of its voxels."""
    contrast: float | None
    """Mean over lesions in the reference, each within -5..10; None without lesions."""
    contrast_elsewhere: dict[str, float] = Field(default_factory=dict)
    """The same with the label mirrored or moved: `left-right`, `front-back`, `top-bottom`, `moved`."""


class CaseQuality(Record):
    """All measures of one case."""

    reference: Role
    brain: BrainQuality | None
    """None where the mask is the whole volume."""
    sequences: dict[Role, SequenceQuality]
    pairs: dict[Role, PairQuality] = Field(default_factory=dict)
    """Of every sequence but the reference."""
    label: LabelQuality | None = None
