"""Scans that stand under two names."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from cmb_autoseg.quality_control.findings import CohortCase, Finding
from cmb_autoseg.quality_control.fingerprints import decode_thumbnail, fine_detail, standardized, turned
from cmb_autoseg.quality_control.settings import QualitySettings
from cmb_autoseg.records import Role

__all__ = ["copy_findings"]

FLIPS = tuple(((0, 1, 2), (x, y, z)) for x in (1, -1) for y in (1, -1) for z in (1, -1))
SAME_PERSON = 0.9995
"""Two scans of one person are alike anyway; only copies agree like this."""
CHUNK = 1024


def copy_findings(cases: Sequence[CohortCase], settings: QualitySettings) -> dict[str, list[Finding]]:
    """Cases of all cohorts that share a scan, by case: the same pixels, or a changed copy of them.

    Changed: stored anew with other axes, datatype, scale, margins or noise, or mirrored.
    """
    found: dict[str, list[Finding]] = defaultdict(list)
    told: set[tuple[str, str]] = set()
    for one, other, role, finding in _equal_pixels(cases):
        told.add((one.case, other.case))
        found[one.case].append(finding.model_copy(update={"role": role}))
    for role in Role:
        having = [case for case in cases if role in case.quality.sequences]
        for one, other, correlation, flip in _alike(having, role, settings.duplicate_correlation):
            if (one.case, other.case) in told:
                continue
            told.add((one.case, other.case))
            how = "a mirrored copy" if flip else "a changed copy"
            text = (
                f"{role}: {how} of {other.case}'s {role} (fine detail correlates {correlation:.3f}); "
                f"review above {settings.duplicate_correlation:g}"
            )
            found[one.case].append(Finding(rule="copy", level="review", text=text, role=role))
    return found


def _equal_pixels(cases: Sequence[CohortCase]) -> Iterator[tuple[CohortCase, CohortCase, Role, Finding]]:
    places: dict[str, list[tuple[CohortCase, Role]]] = defaultdict(list)
    for case in cases:
        for role, sequence in case.quality.sequences.items():
            places[sequence.pixels].append((case, role))
    for same in places.values():
        for case, role in same:
            other, other_role = next(((c, r) for c, r in same if (c.case, r) != (case.case, role)), (None, None))
            if other is None or other_role is None:
                continue
            whose = f"its own {other_role}" if other.case == case.case else f"{other.case}'s {other_role}"
            person = (other.cohort, other.subject) == (case.cohort, case.subject)
            text = f"{role}: the same pixels as {whose}" + ("" if person else ", said to be another person")
            yield case, other, role, Finding(rule="copy", level="fail", text=text)


def _alike(
    cases: Sequence[CohortCase], role: Role, threshold: float
) -> Iterator[tuple[CohortCase, CohortCase, float, bool]]:
    """Pairs whose thumbnails agree in fine detail, each once from either side, and whether one is mirrored."""
    if len(cases) < 2:
        return
    details = [fine_detail(decode_thumbnail(case.quality.sequences[role].thumbnail)) for case in cases]
    vectors = np.stack([standardized(detail) for detail in details])
    for flip in FLIPS:
        flipped = np.stack([standardized(turned(detail, flip)) for detail in details])
        for start in range(0, len(cases), CHUNK):
            products = vectors[start : start + CHUNK] @ flipped.T
            for row, column in np.argwhere(products >= threshold):
                one, other = cases[start + row], cases[column]
                same_person = (one.cohort, one.subject) == (other.cohort, other.subject)
                value = float(products[row, column])
                if one.case != other.case and (not same_person or value >= SAME_PERSON):
                    yield one, other, value, flip != FLIPS[0]
