"""Thresholds of quality control: a card's key `qc`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cmb_autoseg.records import Record

__all__ = ["Limits", "QualitySettings"]

Limits = tuple[float, float]
"""Where `review` begins and where `fail` begins."""
RISING = (
    *("clipped_high", "clipped_low", "nonfinite", "ghost", "slice_jump", "label_outside_brain"),
    *("lesion_diameter_mm", "lesions_not_dark", "repeated_slices", "empty_slices"),
)
"""Measures that are the worse the larger they are; of the other limits, the smaller the worse."""
FALLING = ("coverage", "brain_volume_ml", "grey_levels", "snr", "sequence_overlap", "sequence_match")


class QualitySettings(Record):
    """What passes, what a person should look at, and what is no good.

    A pair is `[review, fail]`: the verdict changes where a measure goes beyond. The defaults let clean
    scans of every protocol that is known here pass; what they were tried on is told in
    `docs/reference/quality.md`. An outlier of its cohort is always `review`, never `fail`.
    """

    on_fail: Literal["keep", "exclude"] = "keep"
    """`exclude`: a case that fails is left out of the dataset, with its reasons in exclusions.tsv."""

    coverage: Limits = (0.82, 0.35)
    """Share of the brain's height, length and width that lies in the scan, from how abruptly it ends."""
    brain_volume_ml: Limits = (700.0, 400.0)
    """Smaller is no whole adult brain."""
    brain_volume_max_ml: Limits = (3500.0, 5500.0)
    """Larger is no brain, nor a whole head either."""
    nonfinite: Limits = (0.0, 0.05)
    """Share of voxels that were NaN or infinite."""
    clipped_high: Limits = (0.005, 0.2)
    """Share of the brain's voxels that have the largest value."""
    clipped_low: Limits = (0.1, 0.5)
    """Share of the brain's voxels that have the smallest value (magnitude images)."""
    grey_levels: Limits = (40, 8)
    """Different values in the brain."""
    snr: Limits = (5.0, 2.0)
    """Median of the brain over the noise in it (magnitude images)."""
    ghost: Limits = (0.12, 0.5)
    """Signal in the air beside the head, along one axis, over the brain's."""
    slice_jump: Limits = (0.35, 0.8)
    """Largest change of brightness from the mean of both neighboring slices, over the median."""
    empty_slices: Limits = (0, 4)
    """Slices of one value within the brain."""
    repeated_slices: Limits = (0, 4)
    """Slices that equal their neighbor."""
    sequence_overlap: Limits = (0.9, 0.5)
    """Share of the brain that another sequence covers with any signal."""
    sequence_match: Limits = (1.12, 0.0)
    """How much better edges of two sequences agree as they are than displaced, 1 being no better."""
    label_outside_brain: Limits = (0.05, 0.5)
    """Share of the label's voxels."""
    lesion_diameter_mm: Limits = (10.0, 30.0)
    """Of the sphere of equal volume; microbleeds are up to 10 mm (Greenberg et al. 2009)."""
    lesions_not_dark: Limits = (0.34, 1.01)
    """Share of the lesions that are not darker than what is around them (brighter, on QSM)."""
    lesion_contrast: float = 1.5
    """A lesion is dark when it is darker than its surroundings by this many of their robust standard deviations."""
    lesions_inverse: Annotated[float, Field(ge=0, le=1)] = 0.66
    """A larger share, of at least 3 such lesions, as clearly bright (dark, on QSM) is `fail`; 1 turns it off."""

    min_cohort: Annotated[int, Field(ge=4)] = 8
    """Cases of one protocol that are needed before one of them is called an outlier."""
    outlier_z: Annotated[float, Field(gt=2)] = 6.0
    """Robust z: distance from the median over 1.4826 times the median absolute deviation."""
    rare_protocol_share: Annotated[float, Field(ge=0, lt=0.5)] = 0.07
    """A voxel size or orientation of fewer of the cohort's cases is an outlier, if all rare ones together are few."""
    likeness_margin: Annotated[float, Field(ge=0)] = 0.01
    """A scan looks like another sequence, or turned, when that raises its correlation with the cohort by this, and
    far more than it does for the others."""
    duplicate_correlation: Annotated[float, Field(gt=0.5, le=1)] = 0.93
    """Two people's scans whose fine detail agrees better than this are copies of one scan; different simulated people
    reach 0.81."""

    @model_validator(mode="after")
    def _limits_in_order(self) -> Self:
        for name in (*RISING, "brain_volume_max_ml"):
            review, fail = getattr(self, name)
            if review > fail:
                raise ValueError(f"{name}: [{review:g}, {fail:g}] must rise: review begins before fail")
        for name in FALLING:
            review, fail = getattr(self, name)
            if review < fail:
                raise ValueError(f"{name}: [{review:g}, {fail:g}] must fall: review begins before fail")
        return self
