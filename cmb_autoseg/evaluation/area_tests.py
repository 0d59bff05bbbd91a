"""DeLong's tests of patient-level areas between systems, and the power that they had."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.case_score import CaseScore
from cmb_autoseg.evaluation.evaluation_report import ScoredSystem
from cmb_autoseg.evaluation.statistics.delong import delong_area, delong_test
from cmb_autoseg.evaluation.statistics.multiple import holm
from cmb_autoseg.evaluation.statistics.power import retrospective_power

__all__ = ["delong_rows", "power_rows"]

Row = dict[str, Any]


def delong_rows(systems: Sequence[ScoredSystem]) -> list[Row]:
    """Area of each system for "any lesion" by the surest finding of a case, and its difference from the first one."""
    rows: list[Row] = []
    for system, scores in _with_scores(systems):
        area = delong_area(scores, _truth(system.cases), _subjects(system.cases))
        low, high = area.ci or (None, None)
        rows.append({"system": system.name, "auc": area.auc, "auc_low": low, "auc_high": high})
    tests = dict(_tests(systems))
    for row in rows:
        row |= tests.get(row["system"], {})
    for row, p in zip(rows, holm([row.get("p") for row in rows]), strict=True):
        row["p_holm"] = p
    return rows


def power_rows(systems: Sequence[ScoredSystem]) -> list[Row]:
    """What the comparison of each system with the first one could have told; see `RetrospectivePower`."""
    scored = list(_with_scores(systems))
    if not scored:
        return []
    (first, base), *others = scored
    return [
        {
            "system": system.name,
            "against": first.name,
            **retrospective_power(scores, base, _truth(first.cases), _subjects(first.cases)).model_dump(),
        }
        for system, scores in others
    ]


def _tests(systems: Sequence[ScoredSystem]) -> Iterator[tuple[str, Row]]:
    scored = list(_with_scores(systems))
    for system, scores in scored[1:]:
        first, base = scored[0]
        test = delong_test(scores, base, _truth(first.cases), _subjects(first.cases))
        low, high = test.ci
        yield (
            system.name,
            {"against": first.name, "difference": test.difference, "low": low, "high": high, "p": test.p},
        )


def _with_scores(systems: Sequence[ScoredSystem]) -> Iterator[tuple[ScoredSystem, list[float]]]:
    """Systems whose cases all have confidences; none where positive or negative subjects are fewer than two."""
    for system in systems:
        confidences = [None if c.candidates is None else c.candidates.confidence for c in system.cases]
        scores = [float(own.max(initial=0.0)) for own in confidences if own is not None]
        if len(scores) < len(system.cases):
            continue
        try:
            delong_area(scores, _truth(system.cases), _subjects(system.cases))
        except InputError:
            return
        yield system, scores


def _truth(cases: Sequence[CaseScore]) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    return np.array([len(case.reference) > 0 for case in cases], dtype=bool)


def _subjects(cases: Sequence[CaseScore]) -> list[str]:
    return [case.subject for case in cases]
