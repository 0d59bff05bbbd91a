"""Lesions of one case, and the threshold at which a probability becomes one."""

from typing import Annotated, Any, Literal

from pydantic import Field

from cmb_autoseg.records.record import Probability, Record

__all__ = ["Lesion", "LesionTable", "OperatingPoint"]


class Lesion(Record):
    """One 26-connected component."""

    lesion: int
    """Number of the component, from 1, by falling volume."""
    x_mm: float
    y_mm: float
    z_mm: float
    """Centre of mass in RAS millimetres."""
    i: int
    j: int
    k: int
    """The voxel nearest to the centre of mass, on the input's grid, from 0."""
    volume_mm3: float
    diameter_mm: float
    """Of the sphere of equal volume."""
    prob_max: Probability
    prob_mean: Probability
    region: Literal["lobar", "deep", "infratentorial", "unknown"] = "unknown"


class LesionTable(Record):
    """The lesions of one case, predicted or marked by a reader."""

    case: str
    lesions: tuple[Lesion, ...] = ()
    parents: tuple[str, ...] = ()

    def rows(self) -> list[dict[str, Any]]:
        """One dict a lesion, for a table; the key `case` comes first."""
        return [{"case": self.case, **lesion.model_dump()} for lesion in self.lesions]


class OperatingPoint(Record):
    """A threshold on the probability map, with the reason for it."""

    name: str
    threshold: Annotated[float, Field(gt=0, lt=1)]
    min_volume_mm3: float = 0.0
    rule: str
    sensitivity: float | None = None
    precision: float | None = None
    f1: float | None = None
    fp_per_scan: float | None = None
