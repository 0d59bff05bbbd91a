"""A dataset in numbers: what the planner goes by."""

from cmb_autoseg.records.preparation import PrepSettings
from cmb_autoseg.records.record import Record, Triple
from cmb_autoseg.records.roles import Role

__all__ = ["CaseFingerprint", "Fingerprint", "IntensityRange", "LesionSize"]


class IntensityRange(Record):
    """Grey values of one sequence inside the brain, and inside the lesions where there are any."""

    mean: float
    std: float
    p01: float
    p99: float
    lesion_mean: float | None = None


class LesionSize(Record):
    """One marked lesion of a prepared case: its number, place and size."""

    lesion: int
    """As `label_components` numbers the mask in file order: by falling volume, from 1."""
    x_mm: float
    y_mm: float
    z_mm: float
    """Centre of mass in RAS millimetres."""
    voxels: int
    slices: int
    """Along the case's axis of thickest slices."""
    volume_mm3: float
    diameter_mm: float
    """Of the sphere of equal volume."""


class CaseFingerprint(Record):
    """What the planner needs to know of one prepared case; axes (z, y, x) of the canonical grid."""

    case: str
    cohort: str
    subject: str
    labelled: bool
    sequences: tuple[Role, ...]
    shape: Triple[int]
    spacing_mm: Triple[float]
    box_start: Triple[int]
    box_stop: Triple[int]
    """The box of non-zero voxels, stop excluded: what nnU-Net crops to."""
    brain_volume_ml: float
    field_strength_t: float | None = None
    intensity: dict[Role, IntensityRange]
    lesions: tuple[LesionSize, ...] = ()


class Fingerprint(Record):
    """The training part of one dataset in numbers, case by case."""

    dataset: str
    roles: tuple[Role, ...]
    """Of the raw dataset's channels, in their order."""
    cases: tuple[CaseFingerprint, ...]
    prep: PrepSettings = PrepSettings()
    """How the scans were prepared; of several ways the one of most cases."""
    parents: tuple[str, ...] = ()
