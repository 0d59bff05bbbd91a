"""What of a case is explained: lesions, candidates that were not quite one, and lesions that were missed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.geometry import Volume
from cmb_autoseg.lesions import Components, describe, find_components, lesion_components
from cmb_autoseg.records import Lesion, OperatingPoint

__all__ = ["CANDIDATE_SHARE", "Finding", "Kind", "Match", "find_findings"]

Kind = Literal["lesion", "hit", "fp", "missed", "candidate"]
CANDIDATE_SHARE = 0.2
"""A candidate's probability reaches this share of the operating point's threshold."""
Match = Callable[[Components, Components, Volume], Mapping[int, int]]
"""From predicted and marked components and their grid: number of a component to that of the marked one it hits."""


@dataclass(frozen=True)
class Finding:
    """One component that is explained."""

    kind: Kind
    """`lesion` without a reference, else `hit` or `fp` (false positive); `missed`: of the reference, not found;
    `candidate`: below the operating point."""
    lesion: Lesion
    """Place, size and probability. Its number is that of `cmb_predict`'s table; of missed lesions that of the
    reference mask's components; of candidates a count of their own."""
    voxels: NDArray[np.intp]
    """(n, 3), voxel indices (i, j, k) on the grid of the probability map."""
    reference: int | None = None
    """The number of the reference lesion that it belongs to."""


def find_findings(
    case: str, probability: Volume, point: OperatingPoint, reference: Volume | None, most: int, match: Match
) -> tuple[tuple[Finding, ...], int]:
    """What is to be explained of one case.

    Candidates are the components above a fifth of the operating point's threshold that hold no lesion.

    Args:
        case: its name.
        probability: on the scan's own grid.
        point: what makes a lesion of a voxel.
        reference: mask of 0 and 1 on the same grid; None without one.
        most: of each kind, so that many hits do not crowd out what went wrong.
        match: which lesion is a hit; not called without a reference.

    Returns:
        Lesions or hits, then false positives, missed lesions and candidates, the most probable of each first; and how
        many were left out by `most`.
    """
    found = lesion_components(probability, point)
    loose = _candidates(probability, point, found)
    marked = None if reference is None else find_components(reference.data > 0)
    partners = {} if marked is None else match(found, marked, probability)
    predicted = _described(case, found, probability, "lesion" if marked is None else "fp", partners)
    near = {} if marked is None else match(loose, marked, probability)
    candidates = _described(case, loose, probability, "candidate", near)
    missed: list[Finding] = []
    if marked is not None:
        every = _described(case, marked, probability, "missed", {n: n for n in range(1, len(marked) + 1)})
        hit = set(partners.values())
        missed = [finding for finding in every if finding.reference not in hit]
        # What is a missed lesion's own candidate is told with that lesion.
        candidates = [finding for finding in candidates if finding.reference in (None, *hit)]
    false = [finding for finding in predicted if finding.kind == "fp"]
    groups = [[finding for finding in predicted if finding.kind != "fp"], false, missed, candidates]
    chosen = [finding for group in groups for finding in group[:most]]
    return tuple(chosen), sum(map(len, groups)) - len(chosen)


def _candidates(probability: Volume, point: OperatingPoint, found: Components) -> Components:
    low = find_components(probability.data >= CANDIDATE_SHARE * point.threshold)
    taken = np.unique(low.labels[found.labels > 0])
    return find_components((low.labels > 0) & ~np.isin(low.labels, taken[taken > 0]))


def _described(
    case: str, components: Components, probability: Volume, kind: Kind, partners: Mapping[int, int]
) -> list[Finding]:
    """Findings of one kind, most probable first; a false positive with a partner is a hit."""
    inside = np.argwhere(components.labels > 0)
    numbers = components.labels[tuple(inside.T)]
    # Number n at index n - 1; of thousands of candidates none is looked for by itself.
    voxels = np.split(inside[np.argsort(numbers, kind="stable")], np.cumsum(components.sizes)[:-1])
    findings = [
        Finding(
            kind="hit" if kind == "fp" and lesion.lesion in partners else kind,
            lesion=lesion,
            voxels=voxels[lesion.lesion - 1],
            reference=partners.get(lesion.lesion),
        )
        for lesion in describe(case, components, probability).lesions
    ]
    return sorted(findings, key=lambda finding: (-finding.lesion.prob_max, finding.lesion.lesion))
