"""Lesions by their size and by their place: how many of each were found, and how many predicted ones are wrong."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.evaluation.case_score import CaseScore
from cmb_autoseg.evaluation.matching.lesion_set import LesionSet
from cmb_autoseg.evaluation.metrics.figure import Statistic, proportion, share
from cmb_autoseg.evaluation.metrics.joint import never

__all__ = ["REGIONS", "SIZES", "Stratum", "region_strata", "size_strata"]

SIZES = (
    ("below_2_mm", "below 2 mm", 0.0, 2.0),
    ("small_2_to_5_mm", "2 mm to below 5 mm", 2.0, 5.0),
    ("large_5_to_10_mm", "5 mm to below 10 mm", 5.0, 10.0),
    ("from_10_mm", "10 mm and more", 10.0, np.inf),
)
"""Name, meaning and limits of the diameter of the sphere of equal volume; a lower limit belongs to its class."""
WITHOUT_EXTENT = "without extent"
UNKNOWN_SIZE = ("unknown_size", f"{WITHOUT_EXTENT} (points)")
REGIONS = ("lobar", "deep", "infratentorial", "unknown")

Chosen = Callable[[LesionSet], NDArray[np.bool_]]
"""Which lesions of one side of one case are of a stratum, (n,)."""


@dataclass(frozen=True)
class Stratum:
    """Lesions of one kind: a reference lesion by its own size or place, a predicted one by its own."""

    name: str
    meaning: str
    n_reference: int
    n_predicted: int
    """Those that are neither right nor wrong left out."""
    statistics: dict[str, Statistic]
    """`sensitivity` of reference lesions; `precision` and `fp_per_scan` of predicted ones."""


def size_strata(cases: Sequence[CaseScore], protocol: str) -> tuple[Stratum, ...]:
    """By diameter: one stratum for each of `SIZES`, and one for lesions without extent.

    False positives per scan of a class are undefined where some predicted lesion has no extent.
    """

    def between(low: float, high: float) -> Chosen:
        return lambda lesions: (lesions.diameters_mm >= low) & (lesions.diameters_mm < high)

    sized = [_stratum(cases, protocol, name, meaning, between(low, high)) for name, meaning, low, high in SIZES]
    if any(np.isnan(case.predicted.diameters_mm).any() for case in cases):
        # A class may hold any number of the false positives whose size is unknown.
        unknown = {"fp_per_scan": never(f"predicted lesions are {WITHOUT_EXTENT}", len(cases))}
        sized = [replace(stratum, statistics={**stratum.statistics, **unknown}) for stratum in sized]
    unsized = _stratum(cases, protocol, *UNKNOWN_SIZE, lambda lesions: np.isnan(lesions.diameters_mm))
    return (*sized, unsized)


def region_strata(cases: Sequence[CaseScore], protocol: str) -> tuple[Stratum, ...]:
    """By region: one stratum for each of `REGIONS`."""

    def within(region: str) -> Chosen:
        return lambda lesions: np.array([own == region for own in lesions.regions], dtype=bool)

    return tuple(_stratum(cases, protocol, region, region, within(region)) for region in REGIONS)


def _stratum(cases: Sequence[CaseScore], protocol: str, name: str, meaning: str, chosen: Chosen) -> Stratum:
    counts = np.zeros((len(cases), 4))
    for row, case in zip(counts, cases, strict=True):
        row[:] = _counts(case, protocol, chosen)
    n_reference, found, right, false = counts.T
    return Stratum(
        name=name,
        meaning=meaning,
        n_reference=int(n_reference.sum()),
        n_predicted=int(right.sum() + false.sum()),
        statistics={
            "sensitivity": proportion(found, n_reference, _why_none("reference", [case.reference for case in cases])),
            "precision": proportion(right, right + false, _why_none("predicted", [case.predicted for case in cases])),
            "fp_per_scan": share(false, np.ones(len(cases)), "no scored case"),
        },
    )


def _why_none(side: str, lesions: Sequence[LesionSet]) -> str:
    sizes = np.concatenate([np.empty(0), *(own.volumes_mm3 for own in lesions)])
    pointlike = len(sizes) > 0 and bool(np.isnan(sizes).all())
    return f"no such {side} lesion{'; those here have no extent' if pointlike else ''}"


def _counts(case: CaseScore, protocol: str, chosen: Chosen) -> tuple[int, int, int, int]:
    """Reference lesions of the stratum, those of them found; right and false predicted lesions of the stratum."""
    matching = case.matchings[protocol]
    reference = {int(index) + 1 for index in np.flatnonzero(chosen(case.reference))}
    predicted = {int(index) + 1 for index in np.flatnonzero(chosen(case.predicted))} - set(matching.ignored)
    right = predicted & matching.right
    return len(reference), len(reference & matching.found), len(right), len(predicted - right)
