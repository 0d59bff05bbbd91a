"""Scans that stand under two names."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations_with_replacement, product

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn
from scipy.linalg import hadamard

from cmb_autoseg.quality_control.findings import CohortCase, Finding
from cmb_autoseg.quality_control.fingerprints import SIDE, decode_thumbnail, fine_detail, standardized
from cmb_autoseg.quality_control.settings import QualitySettings
from cmb_autoseg.records import Role

__all__ = ["copy_findings"]

SAME_PERSON = 0.9995
"""Two scans of one person are alike anyway; only copies agree like this."""
CHUNK = 1024
"""Scans a side of a block of pairs: blocks of 8 products of float32 are 32 MB."""


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
    for flip, row, column, value in sorted(
        _agreeing([case.quality.sequences[role].thumbnail for case in cases], threshold)
    ):
        one, other = cases[row], cases[column]
        same_person = (one.cohort, one.subject) == (other.cohort, other.subject)
        if one.case != other.case and (not same_person or value >= SAME_PERSON):
            yield one, other, value, flip > 0


def _agreeing(thumbnails: Sequence[str], threshold: float) -> Iterator[tuple[int, int, int, float]]:
    """Flip, row, column and correlation of all pairs that agree, from either side; flip 0 leaves a scan as it is.

    To flip an axis is to change the sign of the odd part of a picture along it. So the products of the 8
    parts, even or odd along each axis, added with 8 patterns of signs, are the correlations of all 8 flips,
    for the cost of one. Blocks of pairs whose parts' products are small whatever their signs need no adding.
    """
    parts = _parities(thumbnails)
    signs = hadamard(len(parts), dtype=np.float32)
    count = len(thumbnails)
    for top, left in combinations_with_replacement(range(0, count, CHUNK), 2):
        products = parts[:, top : top + CHUNK] @ parts[:, left : left + CHUNK].transpose(0, 2, 1)
        places = np.argwhere(np.abs(products).sum(axis=0) >= threshold)
        correlations = signs @ products[:, places[:, 0], places[:, 1]]
        for flip, place in np.argwhere(correlations >= threshold):
            row, column = top + int(places[place, 0]), left + int(places[place, 1])
            value = float(correlations[flip, place])
            yield int(flip), row, column, value
            if top != left:
                yield int(flip), column, row, value


def _parities(thumbnails: Sequence[str]) -> NDArray[np.float32]:
    """The parts of the standardized fine detail that are even or odd along i, j and k: (8, scans, 512).

    Cosines of even order are even and those of odd order are odd, so a part is every second coefficient.
    """
    parts = np.empty((8, len(thumbnails), (SIDE // 2) ** 3), np.float32)
    for number, text in enumerate(thumbnails):
        detail = standardized(fine_detail(decode_thumbnail(text))).reshape(SIDE, SIDE, SIDE)
        cosines = dctn(detail, norm="ortho")
        for part, (i, j, k) in enumerate(product((0, 1), repeat=3)):
            parts[part, number] = cosines[i::2, j::2, k::2].ravel()
    return parts
