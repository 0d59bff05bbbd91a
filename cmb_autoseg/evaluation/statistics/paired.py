"""Two systems on the same cases: differences with intervals, tests, and tables of several systems."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import wilcoxon

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.metrics.figure import Statistic, Values, Weights
from cmb_autoseg.evaluation.statistics.bootstrap import two_sided_p
from cmb_autoseg.evaluation.statistics.intervals import Resampled, Resampler, Resampling
from cmb_autoseg.evaluation.statistics.multiple import benjamini_hochberg, holm
from cmb_autoseg.records import Record

__all__ = ["MIN_SUBJECTS_OF_TESTS", "Difference", "System", "compare", "comparison_rows", "wilcoxon_p"]

MIN_SUBJECTS_OF_TESTS = 6
"""With fewer, Wilcoxon's test cannot reach 0.05 whatever the values, and the bootstrap's p is below it far too often
where nothing differs: in a quarter of studies of three subjects, in 0.14 of six (normal differences)."""

Interval = tuple[float, float]
Key = TypeVar("Key", bound=Hashable)


class Difference(Record):
    """A figure of one system less the same figure of another, on the same draws of subjects."""

    value: float | None
    ci: Interval | None = None
    """BCa; the percentile interval where that is undefined."""
    ci_percentile: Interval | None = None
    p: float | None = None
    """Two-sided, by the bootstrap, see `two_sided_p`; None without `ci_percentile`, and where fewer than six subjects
    bear on the figure."""
    n_subjects: int
    why: str | None = None
    """Why there is no difference."""


@dataclass(frozen=True)
class System:
    """One of several systems whose cases are the same, in the same order."""

    name: str
    statistics: Mapping[str, Statistic]


def compare(
    one: Statistic, other: Statistic, subjects: Sequence[str], settings: Resampling | None = None
) -> Difference:
    """`one` less `other`, two systems' figures of the same cases.

    Args:
        one: of the first system.
        other: of the second one, on the same cases in the same order.
        subjects: (n_cases,), of every case; cases of one subject are drawn together.
        settings: number of draws, seed, level.

    Raises:
        InputError: the figures are of different numbers of cases.
    """
    resampler = Resampler(tuple(subjects), settings or Resampling())
    return _differences({"": (one, other)}, resampler)[""]


def _differences(pairs: Mapping[Key, tuple[Statistic, Statistic]], resampler: Resampler) -> dict[Key, Difference]:
    names = {str(index): key for index, key in enumerate(pairs)}
    resampled = resampler.resample({name: _less(*pairs[key]) for name, key in names.items()})
    return {key: _told(*pairs[key], resampled[name], resampler) for name, key in names.items()}


def _less(one: Statistic, other: Statistic) -> Statistic:
    if one.n_cases != other.n_cases:
        raise InputError(f"a paired difference of {one.n_cases} and {other.n_cases} cases; compare the same cases")

    def of(weights: Weights) -> Weights:
        return one.of(weights) - other.of(weights)

    return Statistic(of, one.why_none, one.n_cases)


def _told(one: Statistic, other: Statistic, resampled: Resampled, resampler: Resampler) -> Difference:
    n_subjects = resampler.n_subjects
    if np.isnan(resampled.value):
        why = one.why_none if np.isnan(one.value()) else other.why_none
        return Difference(value=None, n_subjects=n_subjects, why=why)
    interval = resampled.percentile
    is_tested = interval is not None and resampler.n_bearing(one, other) >= MIN_SUBJECTS_OF_TESTS
    return Difference(
        value=resampled.value,
        ci=resampled.bca,
        ci_percentile=interval,
        p=two_sided_p(resampled.draws) if is_tested else None,
        n_subjects=n_subjects,
    )


def wilcoxon_p(first: ArrayLike, second: ArrayLike) -> float | None:
    """Wilcoxon's signed-rank test of paired values, two-sided, zeros by Pratt 1959.

    Args:
        first: (n_subjects,); NaN where undefined, which leaves the subject out.
        second: of the same subjects.

    Returns:
        None with fewer than six subjects, or where none differs.
    """
    differences = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    differences = differences[~np.isnan(differences)]
    if len(differences) < MIN_SUBJECTS_OF_TESTS or not differences.any():
        return None
    return float(wilcoxon(differences, zero_method="pratt").pvalue)


def comparison_rows(
    systems: Sequence[System],
    subjects: Sequence[str],
    reference: str | None = None,
    settings: Resampling | None = None,
    family: Literal["figure", "table"] = "figure",
) -> list[dict[str, Any]]:
    """Every figure of every system against the reference, or of every pair of systems.

    Args:
        systems: with the same names of statistics.
        subjects: (n_cases,), of every case.
        reference: name of the system that the others are compared with; None for all pairs.
        settings: number of draws, seed, level.
        family: what p values are corrected for: the tests of one figure, or all of the table.

    Returns:
        One row a figure and pair: figure, system, against, value, against_value, difference (a `Difference`), p,
        p_holm, p_bh (Benjamini and Hochberg), n_subjects, p_wilcoxon and p_wilcoxon_holm (of each subject's own
        figure), n_wilcoxon (subjects of whom both are defined).

    Raises:
        InputError: no system has the reference's name, or systems have different figures.
    """
    pairs, resampler = _pairs(systems, reference), Resampler(tuple(subjects), settings or Resampling())
    figures = list(systems[0].statistics)
    tested = {
        (figure, one.name, other.name): (one.statistics[figure], other.statistics[figure])
        for figure in figures
        for one, other in pairs
    }
    differences = _differences(tested, resampler)
    values = {system.name: {name: system.statistics[name].value() for name in figures} for system in systems}
    own = {system.name: resampler.of_subjects(system.statistics) for system in systems}
    rows = [
        _row(figure, one.name, other.name, differences[figure, one.name, other.name], values, own)
        for figure in figures
        for one, other in pairs
    ]
    families: list[str | None] = [*figures] if family == "figure" else [None]
    for member in families:
        _correct([row for row in rows if member in (None, row["figure"])])
    return rows


def _correct(rows: Sequence[dict[str, Any]]) -> None:
    """Add corrected p values to the rows of one family."""
    for given, adjusted, adjust in (
        ("p", "p_holm", holm),
        ("p", "p_bh", benjamini_hochberg),
        ("p_wilcoxon", "p_wilcoxon_holm", holm),
    ):
        for row, p in zip(rows, adjust([row[given] for row in rows]), strict=True):
            row[adjusted] = p


def _pairs(systems: Sequence[System], reference: str | None) -> list[tuple[System, System]]:
    names = [system.name for system in systems]
    if len(systems) < 2 or len(set(names)) < len(names):
        raise InputError(f"systems: {', '.join(names) or 'none'}; a comparison needs two or more, each name once")
    if different := [system.name for system in systems if set(system.statistics) != set(systems[0].statistics)]:
        raise InputError(f"system {different[0]}: other figures than {names[0]}; score all in the same way")
    if reference is None:
        return [(second, first) for first, second in combinations(systems, 2)]
    if reference not in names:
        raise InputError(f"reference {reference}: no such system; there are {', '.join(names)}")
    against = systems[names.index(reference)]
    return [(system, against) for system in systems if system is not against]


def _row(
    figure: str,
    one: str,
    other: str,
    difference: Difference,
    values: Mapping[str, Mapping[str, float]],
    own: Mapping[str, Mapping[str, Values]],
) -> dict[str, Any]:
    shown = [None if np.isnan(values[name][figure]) else values[name][figure] for name in (one, other)]
    first, second = own[one][figure], own[other][figure]
    return {
        "figure": figure,
        "system": one,
        "against": other,
        "value": shown[0],
        "against_value": shown[1],
        "difference": difference,
        "p": difference.p,
        "n_subjects": difference.n_subjects,
        "p_wilcoxon": wilcoxon_p(first, second),
        "n_wilcoxon": int(np.count_nonzero(~np.isnan(first - second))),
    }
