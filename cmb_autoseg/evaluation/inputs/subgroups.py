"""Splitting cases by what is known of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from cmb_autoseg.errors import InputError

__all__ = ["LEAST", "NOT_KNOWN", "Subgroup", "SubgroupSpec", "read_subgroup_spec", "split"]

NOT_KNOWN = "not known"
MOST_DISTINCT_NUMBERS = 5
"""More, and numbers are put into bins."""
MOST_TEXTS = 30
"""More, and a column says who a case is, not what kind of case it is."""
LEAST = {"subjects": 10, "with lesions": 5, "without lesions": 5}
"""A group with fewer is small."""


@dataclass(frozen=True)
class SubgroupSpec:
    """A column, and where its numbers are cut."""

    column: str
    cuts: tuple[float, ...] = ()
    """Rising; a number equal to a cut is above it. Empty for thirds."""


@dataclass(frozen=True)
class Subgroup:
    """Cases that share a value, or a range of values, of one column."""

    column: str
    label: str
    indices: tuple[int, ...]
    """Of the cases, rising."""
    few: Mapping[str, int] = field(default_factory=dict)
    """Of what of `LEAST` there are too few to judge by, and how many there are."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """That it is too small to be judged by."""
        few = ", ".join(f"{number} {kind} (fewer than {LEAST[kind]})" for kind, number in self.few.items())
        return (f"{self.column} {self.label}: small group, {few}; its figures are uncertain",) if few else ()


def read_subgroup_spec(text: str) -> SubgroupSpec:
    """`COLUMN`, or `COLUMN:65,75` with cut points.

    Raises:
        InputError: no column, or cut points that are no rising numbers.
    """
    column, colon, listed = text.partition(":")
    column = column.strip()
    if not column:
        raise InputError(f"--subgroups {text!r}: no column; give one such as scanner, or age:65,75")
    if not colon:
        return SubgroupSpec(column)
    try:
        cuts = tuple(float(part) for part in listed.split(","))
    except ValueError:
        cuts = ()
    rising = all(low < high for low, high in pairwise(cuts))
    if not cuts or not rising or not all(map(math.isfinite, cuts)):
        raise InputError(f"--subgroups {text}: expected rising numbers after {column}:, such as {column}:65,75")
    return SubgroupSpec(column, cuts)


def split(
    columns: Sequence[Mapping[str, str]], n_lesions: Sequence[int], subjects: Sequence[str], spec: SubgroupSpec
) -> list[Subgroup]:
    """Split cases by one column; every case is in one group.

    Texts make a group each, sorted; so do numbers of which there are at most 5 different ones. More of them are put
    into the bins of the cut points, else into thirds (tertiles of the known values). Cases without a value are a group
    of their own, the last one. Bins without a case are left out.

    Args:
        columns: of each case; a value that is not known is not there.
        n_lesions: reference lesions of each case, for warnings.
        subjects: whose scan each case is, for warnings: ten scans of two people are two people.
        spec: which column.

    Raises:
        InputError: no case has such a column; cut points for texts; more than 30 different texts.
    """
    values = [own.get(spec.column) for own in columns]
    known = [value for value in values if value is not None]
    if not known:
        there = ", ".join(sorted({name for own in columns for name in own})) or "none; give a table with --cases"
        raise InputError(f"--subgroups {spec.column}: no case has this column (there: {there})")
    labels = _labels(known, spec)
    members: dict[str, list[int]] = {label: [] for label in (*dict.fromkeys(labels.values()), NOT_KNOWN)}
    for index, value in enumerate(values):
        members[NOT_KNOWN if value is None else labels[value]].append(index)
    groups = []
    for label, indices in members.items():
        if indices:
            lesions: dict[str, int] = {}
            for index in indices:
                lesions[subjects[index]] = lesions.get(subjects[index], 0) + n_lesions[index]
            groups.append(Subgroup(spec.column, label, tuple(indices), _few([*lesions.values()])))
    return groups


def _labels(known: Sequence[str], spec: SubgroupSpec) -> dict[str, str]:
    """Label of the group of each value, in the order of the groups."""
    texts = sorted({*known})
    numbers = {text: _number(text) for text in texts}
    if not all(math.isfinite(value) for value in numbers.values()):
        if spec.cuts:
            odd = next(text for text, value in numbers.items() if not math.isfinite(value))
            raise InputError(
                f"--subgroups {spec.column}: cut points need numbers, but the column holds {odd!r}; leave them out"
            )
        if len(texts) > MOST_TEXTS:
            raise InputError(
                f"--subgroups {spec.column}: {len(texts)} different texts such as {texts[0]!r} make no subgroups; "
                "choose another column"
            )
        return {text: text for text in texts}
    rising = sorted(texts, key=lambda text: (numbers[text], text))
    if len({*numbers.values()}) <= MOST_DISTINCT_NUMBERS and not spec.cuts:
        return {text: f"{numbers[text]:g}" for text in rising}
    cuts = spec.cuts or _tertiles([numbers[text] for text in known])
    return {text: _bin(numbers[text], cuts) for text in rising}


def _tertiles(values: Sequence[float]) -> tuple[float, ...]:
    """Cuts at the thirds; of whole numbers the next whole one, which divides them in the same way and reads better."""
    thirds = np.quantile(values, (1 / 3, 2 / 3))
    if all(value.is_integer() for value in values):
        thirds = np.ceil(np.round(thirds, 6))
    return tuple(sorted({float(f"{cut:.6g}") for cut in thirds}))


def _bin(value: float, cuts: Sequence[float]) -> str:
    above = int(np.searchsorted(cuts, value, side="right"))
    if above == 0:
        return f"below {cuts[0]:g}"
    return f"{cuts[-1]:g} and above" if above == len(cuts) else f"{cuts[above - 1]:g} to below {cuts[above]:g}"


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _few(n_lesions: Sequence[int]) -> dict[str, int]:
    """What a group has too few of, by the lesions of each subject in all scans."""
    with_lesions = sum(count > 0 for count in n_lesions)
    numbers = {
        "subjects": len(n_lesions),
        "with lesions": with_lesions,
        "without lesions": len(n_lesions) - with_lesions,
    }
    return {kind: number for kind, number in numbers.items() if number < LEAST[kind]}
