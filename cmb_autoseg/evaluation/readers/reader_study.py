"""Readers' verdicts on the findings of a system: how many are correct, incorrect and missed, and whether they agree."""

import csv
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.inputs.folders import listed
from cmb_autoseg.evaluation.metrics.figure import Figure, Statistic, proportion
from cmb_autoseg.evaluation.statistics.agreement import cohen_statistic, fleiss_statistic
from cmb_autoseg.evaluation.statistics.intervals import Resampler, Resampling
from cmb_autoseg.records import Record

__all__ = ["VERDICTS", "ReaderStudy", "Verdict", "VerdictName", "doubts", "read_verdicts", "reader_study"]

VerdictName = Literal["correct", "incorrect", "missed"]
VERDICTS: tuple[VerdictName, ...] = get_args(VerdictName)
"""A finding that is a lesion; one that is none; a lesion that the system did not mark."""
COLUMNS = ("case", "lesion", "rater", "verdict")

Row = dict[str, Any]


class Verdict(Record):
    """What one rater says of one finding."""

    case: str
    lesion: str
    """Number or name within the case."""
    rater: str
    verdict: VerdictName


class ReaderStudy(Record):
    """Tables of a reader study; intervals are of draws of cases, all with the same raters."""

    raters: tuple[str, ...]
    """By name."""
    n_cases: int
    n_findings: int
    verdicts: tuple[Row, ...]
    """One row a rater and one for `all`: rater, n_cases and n_findings (judged), n (verdicts), then of
    each verdict its number and `<verdict>_share` (a figure)."""
    pairs: tuple[Row, ...]
    """One row a pair of raters: rater, other, n (findings that both judged), agreement and kappa (figures)."""
    fleiss_kappa: Figure
    """Over the findings that all raters judged."""
    unanimous: Figure
    """Share of these findings on which all raters agree."""
    n_judged_by_all: int
    n_left_out: int
    """Findings that some rater did not judge, which are in no figure of all raters' agreement."""


def read_verdicts(path: Path) -> list[Verdict]:
    """Read a table of verdicts with the columns case, lesion, rater, verdict, and any others.

    Raises:
        InputError: no such file, no verdict in it, a column that is missing, an empty cell, a verdict that is none, or
            a rater who judged a finding twice; with the number of the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            verdicts = list(_verdicts(path, csv.DictReader(stream, delimiter="\t")))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise InputError(f"{path}: not readable as a tab-separated table ({error})") from None
    if not verdicts:
        raise InputError(f"{path}: no verdict in it; give one line a finding and rater, below a line of column names")
    return verdicts


def _verdicts(path: Path, reader: "csv.DictReader[str]") -> Iterator[Verdict]:
    header = reader.fieldnames or ()
    if missing := [column for column in COLUMNS if column not in header] if header else []:
        raise InputError(
            f"{path}: no column {', '.join(missing)}; found {', '.join(header)}; "
            "name them in the first line, with tabs between them"
        )
    lines: dict[tuple[str, str, str], int] = {}
    for row in reader:
        case, lesion, rater, verdict = ((row[column] or "").strip() for column in COLUMNS)
        where = f"{path}, line {reader.line_num}"
        if empty := [column for column in COLUMNS if not (row[column] or "").strip()]:
            raise InputError(f"{where}: no {empty[0]}; fill it in, or leave the line out where nobody judged")
        known = [name for name in VERDICTS if name == verdict.lower()]
        if not known:
            raise InputError(f"{where}: verdict {verdict}; give one of {', '.join(VERDICTS)}, or leave the line out")
        if (case, lesion, rater) in lines:
            raise InputError(
                f"{where}: {rater} judged lesion {lesion} of {case} before, in line {lines[case, lesion, rater]}; "
                "keep one of the two"
            )
        lines[case, lesion, rater] = reader.line_num
        yield Verdict(case=case, lesion=lesion, rater=rater, verdict=known[0])


def reader_study(verdicts: Sequence[Verdict], settings: Resampling | None = None) -> ReaderStudy:
    """Counts of verdicts and agreement of raters, with intervals of draws of cases.

    Args:
        verdicts: each rater at most once a finding.
        settings: number of draws, seed, level.

    Raises:
        InputError: no verdicts.
    """
    if not verdicts:
        raise InputError("reader study: no verdicts; give one a finding and rater")
    raters = tuple(sorted({verdict.rater for verdict in verdicts}))
    cases = tuple(sorted({verdict.case for verdict in verdicts}))
    findings = sorted({(verdict.case, verdict.lesion) for verdict in verdicts})
    judged, case_of = _judged(verdicts, raters, cases, findings)
    resampler = Resampler(cases, settings or Resampling())
    by_all = (judged >= 0).all(axis=1)
    agreement = resampler.figures(_agreement_of_all(judged[by_all], case_of[by_all], len(cases)))
    return ReaderStudy(
        raters=raters,
        n_cases=len(cases),
        n_findings=len(findings),
        verdicts=(
            *(_counted(rater, judged[:, [index]], case_of, resampler) for index, rater in enumerate(raters)),
            _counted("all", judged, case_of, resampler),
        ),
        pairs=tuple(
            _compared(raters[one], raters[other], judged[:, [one, other]], case_of, resampler)
            for one, other in combinations(range(len(raters)), 2)
        ),
        fleiss_kappa=agreement["fleiss_kappa"],
        unanimous=agreement["unanimous"],
        n_judged_by_all=int(by_all.sum()),
        n_left_out=int((~by_all).sum()),
    )


def doubts(verdicts: Sequence[Verdict], scored: Sequence[str]) -> tuple[str, ...]:
    """What looks wrong in verdicts, one line each.

    A verdict `missed` says that the system did not mark the lesion, `correct` and `incorrect` that it did: readers who
    differ in that speak of different findings.

    Args:
        verdicts: of all raters.
        scored: names of the cases that were scored; empty where none was.
    """
    told = []
    strangers = sorted({verdict.case for verdict in verdicts} - {*scored})
    if scored and strangers:
        told.append(
            f"--verdicts: {listed(strangers)}: judged by readers, but not scored; the reader study counts them all the "
            "same, so leave out their rows or score them, too"
        )
    given: dict[tuple[str, str], set[str]] = {}
    for verdict in verdicts:
        given.setdefault((verdict.case, verdict.lesion), set()).add(verdict.verdict)
    torn = [
        f"{case} lesion {lesion}" for (case, lesion), own in sorted(given.items()) if "missed" in own and len(own) > 1
    ]
    if torn:
        told.append(
            f"--verdicts: {listed(torn)}: missed by some raters' verdicts, marked by others'; missed means that the "
            "system did not mark the lesion, so give such lesions numbers of their own"
        )
    return tuple(told)


def _judged(
    verdicts: Sequence[Verdict], raters: Sequence[str], cases: Sequence[str], findings: Sequence[tuple[str, str]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(n_findings, n_raters): index into `VERDICTS`, -1 where not judged; (n_findings,): number of the case."""
    number = {finding: index for index, finding in enumerate(findings)}
    judged = np.full((len(findings), len(raters)), -1, dtype=np.int64)
    for verdict in verdicts:
        at = number[verdict.case, verdict.lesion], raters.index(verdict.rater)
        judged[at] = VERDICTS.index(verdict.verdict)
    of_case = {case: index for index, case in enumerate(cases)}
    return judged, np.array([of_case[case] for case, _ in findings], dtype=np.int64)


def _counted(rater: str, judged: NDArray[np.int64], case_of: NDArray[np.int64], resampler: Resampler) -> Row:
    """Verdicts of one rater, or of all: judged (n_findings, n_raters)."""
    n_cases = len(resampler.subjects)
    given = np.bincount(case_of, (judged >= 0).sum(axis=1), minlength=n_cases)
    of_case: dict[str, NDArray[np.int64]] = {
        name: np.bincount(case_of, (judged == index).sum(axis=1), minlength=n_cases)
        for index, name in enumerate(VERDICTS)
    }
    shares = {f"{name}_share": proportion(counts, given, "no verdict") for name, counts in of_case.items()}
    numbers = {name: int(counts.sum()) for name, counts in of_case.items()}
    judged_of = {"n_cases": int((given > 0).sum()), "n_findings": int((judged >= 0).any(axis=1).sum())}
    return {"rater": rater, **judged_of, "n": int(given.sum()), **numbers, **resampler.figures(shares)}


def _compared(
    rater: str, other: str, judged: NDArray[np.int64], case_of: NDArray[np.int64], resampler: Resampler
) -> Row:
    """Agreement of two raters: judged (n_findings, 2)."""
    both = (judged >= 0).all(axis=1)
    tables = np.zeros((len(resampler.subjects), len(VERDICTS), len(VERDICTS)))
    np.add.at(tables, (case_of[both], *judged[both].T), 1)
    agreed, n_both = np.trace(tables, axis1=1, axis2=2), tables.sum(axis=(1, 2))
    statistics = {
        "agreement": proportion(agreed, n_both, "no item was judged by both raters"),
        "kappa": cohen_statistic(tables),
    }
    return {"rater": rater, "other": other, "n": int(n_both.sum()), **resampler.figures(statistics)}


def _agreement_of_all(judged: NDArray[np.int64], case_of: NDArray[np.int64], n_cases: int) -> dict[str, Statistic]:
    """Of findings that all raters judged: (n_findings, n_raters)."""
    if judged.shape[1] < 2:
        alone = proportion(np.zeros(n_cases), np.zeros(n_cases), "there is one rater")
        return {"fleiss_kappa": alone, "unanimous": alone}
    counts = np.stack([(judged == index).sum(axis=1) for index in range(len(VERDICTS))], axis=1)
    n_findings = np.bincount(case_of, minlength=n_cases)
    agreed = np.bincount(case_of, counts.max(axis=1) == judged.shape[1], minlength=n_cases)
    return {
        "fleiss_kappa": fleiss_statistic(counts, case_of, n_cases),
        "unanimous": proportion(agreed, n_findings, "no item was judged by all raters"),
    }
