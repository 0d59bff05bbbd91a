"""DeLong's tests of patient-level areas between systems, and the power that they had."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.evaluation.case_score import CaseScore
from cmb_autoseg.evaluation.evaluation_report import ScoredSystem
from cmb_autoseg.evaluation.statistics.delong import delong_area, delong_test
from cmb_autoseg.evaluation.statistics.multiple import holm
from cmb_autoseg.evaluation.statistics.power import retrospective_power

__all__ = ["delong_rows", "power_rows", "with_confidence_in_common"]

MIN_SUBJECTS = 2
"""Of either kind, for a variance."""
NO_SPREAD = 1e-12
"""Standard errors of areas below this are none but for rounding."""

Row = dict[str, Any]


def with_confidence_in_common(systems: Sequence[ScoredSystem]) -> list[int]:
    """Numbers of the cases of which every system that has confidences at all has one."""
    scores = [own for own in map(_scores, systems) if not np.isnan(own).all()]
    return np.flatnonzero(~np.isnan(scores).any(axis=0)).tolist() if scores else []


def delong_rows(systems: Sequence[ScoredSystem]) -> list[Row]:
    """Area of each system for "any lesion" by the surest finding of a case, and its difference from the first one.

    All rows are of the same cases, `with_confidence_in_common`; systems without confidences have none. No row where
    positive or negative subjects are fewer than two; neither interval nor p of a difference that has no variance.
    """
    shared = _Shared(systems)
    rows = []
    for name, scores in shared.scores.items():
        area = delong_area(scores, shared.truth, shared.subjects)
        low, high = area.ci or (None, None)
        rows.append({"system": name, **shared.counts, "auc": area.auc, "auc_low": low, "auc_high": high})
    for row in rows[1:]:
        row |= shared.tested(row["system"])
    for row, p in zip(rows, holm([row.get("p") for row in rows]), strict=True):
        row["p_holm"] = p
    return rows


def power_rows(systems: Sequence[ScoredSystem]) -> list[Row]:
    """What the comparison of each system with the first one could have told; see `RetrospectivePower`.

    Of the cases of `delong_rows`; none of a difference that has no variance.
    """
    shared = _Shared(systems)
    found = {
        name: retrospective_power(scores, shared.base, shared.truth, shared.subjects)
        for name, scores in list(shared.scores.items())[1:]
    }
    return [
        {"system": name, "against": shared.first, **power.model_dump()}
        for name, power in found.items()
        if power.standard_error > NO_SPREAD
    ]


@dataclass(frozen=True)
class _Shared:
    """Systems that have confidences, on the cases of which all of these have one."""

    systems: Sequence[ScoredSystem]

    @cached_property
    def _chosen(self) -> list[int]:
        return with_confidence_in_common(self.systems)

    @cached_property
    def _cases(self) -> list[CaseScore]:
        return [self.systems[0].cases[number] for number in self._chosen]

    @cached_property
    def truth(self) -> NDArray[np.bool_]:
        return np.array([len(case.reference) > 0 for case in self._cases], dtype=bool)

    @cached_property
    def subjects(self) -> list[str]:
        return [case.subject for case in self._cases]

    @property
    def counts(self) -> Row:
        return {"n_positive": int(self.truth.sum()), "n_negative": int((~self.truth).sum())}

    @cached_property
    def scores(self) -> dict[str, NDArray[np.float64]]:
        """(n_cases,) by the system's name; none where subjects are too few for a variance."""
        kinds = [{s for s, own in zip(self.subjects, self.truth, strict=True) if own == kind} for kind in (True, False)]
        if min(map(len, kinds)) < MIN_SUBJECTS:
            return {}
        scored = {system.name: _scores(system) for system in self.systems}
        return {name: own[self._chosen] for name, own in scored.items() if not np.isnan(own).all()}

    @property
    def first(self) -> str:
        return next(iter(self.scores))

    @property
    def base(self) -> NDArray[np.float64]:
        return self.scores[self.first]

    def tested(self, name: str) -> Row:
        """A system against the first one."""
        test = delong_test(self.scores[name], self.base, self.truth, self.subjects)
        told: Row = {"against": self.first, "difference": test.difference}
        low, high = test.ci
        if high - low <= NO_SPREAD:
            return told | {"low": None, "high": None, "p": None}
        return told | {"low": low, "high": high, "p": test.p}


def _scores(system: ScoredSystem) -> NDArray[np.float64]:
    """(n_cases,): confidence of the surest finding, 0 where there is none; NaN of a case without confidences."""
    return np.array([_score(case) for case in system.cases], np.float64)


def _score(case: CaseScore) -> float:
    if case.candidates is None or case.candidates.confidence is None:
        return float("nan")
    return float(case.candidates.confidence.max(initial=0.0))
