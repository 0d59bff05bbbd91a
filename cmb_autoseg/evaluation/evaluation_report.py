"""The result of an evaluation: scored cases, and every figure that follows from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.case_score import CaseScore
from cmb_autoseg.evaluation.confidence import confident_everywhere
from cmb_autoseg.evaluation.inputs.folders import listed
from cmb_autoseg.evaluation.inputs.subgroups import Subgroup
from cmb_autoseg.evaluation.matching.protocols import Protocol
from cmb_autoseg.evaluation.metrics.calibration import calibration_statistics
from cmb_autoseg.evaluation.metrics.count import count_statistics
from cmb_autoseg.evaluation.metrics.figure import Figure, Statistic
from cmb_autoseg.evaluation.metrics.lesion import lesion_statistics
from cmb_autoseg.evaluation.metrics.patient import patient_statistics
from cmb_autoseg.evaluation.metrics.severity import severity_statistics
from cmb_autoseg.evaluation.metrics.strata import Stratum, region_strata, size_strata
from cmb_autoseg.evaluation.metrics.surface import surface_statistics
from cmb_autoseg.evaluation.metrics.voxel import voxel_statistics
from cmb_autoseg.evaluation.reporting.study import Group
from cmb_autoseg.evaluation.scoring import ScoringSettings
from cmb_autoseg.evaluation.statistics.intervals import Resampler, Resampling
from cmb_autoseg.evaluation.statistics.paired import System, comparison_rows
from cmb_autoseg.records import OperatingPoint, Record

__all__ = ["KEY_FIGURES", "EvaluationReport", "Failure", "ScoredSystem", "on_common_cases", "statistics_of"]

KEY_FIGURES = (
    "lesion.sensitivity",
    "lesion.precision",
    "lesion.f1",
    "lesion.fp_per_scan",
    "lesion.fp_per_negative_scan",
    "lesion.average_precision",
    "lesion.froc_area",
    "voxel.dice",
    "voxel.auc",
    "count.mean_absolute_error",
    "patient.sensitivity",
    "patient.specificity",
    "patient.balanced_accuracy",
    "patient.auc",
)
"""Of subgroups and of systems."""


class Failure(Record):
    """A case that could not be scored, and why."""

    case: str
    reason: str
    is_missing: bool = False
    """There is a reference, but no prediction."""

    def row(self) -> dict[str, str]:
        """For `failures.tsv`."""
        return {"case": self.case, "reason": self.reason}


@dataclass(frozen=True)
class ScoredSystem:
    """One of several systems, on the cases that all of them could be scored on."""

    name: str
    cases: tuple[CaseScore, ...]
    """Of all systems in the same order."""
    voxel_wins: NDArray[np.float64] | None


@dataclass(frozen=True)
class EvaluationReport:
    """Scored cases under one protocol; all figures are worked out from them."""

    settings: ScoringSettings
    cases: tuple[CaseScore, ...]
    failures: tuple[Failure, ...] = ()
    other_failures: tuple[Failure, ...] = ()
    """Of the other systems, whose names begin the reasons."""
    warnings: tuple[str, ...] = ()
    voxel_wins: NDArray[np.float64] | None = None
    """(n_cases, n_cases), see `voxel_statistics`; None where no case has probabilities."""
    resampling: Resampling = field(default_factory=Resampling)
    subgroups: tuple[Subgroup, ...] = ()
    systems: tuple[ScoredSystem, ...] = ()
    """This one first; empty where there is no other. See `on_common_cases`."""
    point: OperatingPoint | None = None
    """The threshold in force, where one was given or chosen on validation data."""

    @property
    def protocol(self) -> Protocol:
        return self.settings.protocols[self.settings.protocol]

    @cached_property
    def statistics(self) -> dict[str, dict[str, Statistic]]:
        """By group and key."""
        return statistics_of(self.cases, self.settings.protocol, self.voxel_wins)

    @cached_property
    def figures(self) -> dict[str, dict[str, Figure]]:
        """By group and key, with intervals."""
        return {group: self._resampler.figures(named) for group, named in self.statistics.items()}

    @cached_property
    def by_protocol(self) -> dict[str, dict[str, Figure]]:
        """Lesion figures under every protocol that fits all cases."""
        fitting = [name for name in self.settings.protocols if all(name in case.matchings for case in self.cases)]
        return {
            name: self.figures["lesion"]
            if name == self.settings.protocol
            else self._resampler.figures(lesion_statistics(self.cases, name))
            for name in fitting
        }

    @cached_property
    def strata(self) -> tuple[Group, ...]:
        """By size, and by region where any is known; strata without a lesion on either side are left out."""
        groups = [self._stratum("size", stratum) for stratum in size_strata(self.cases, self.settings.protocol)]
        regions = region_strata(self.cases, self.settings.protocol)
        if any(stratum.n_reference + stratum.n_predicted for stratum in regions if stratum.name != "unknown"):
            groups += [self._stratum("region", stratum) for stratum in regions]
        return tuple(group for group in groups if any(group.counts.values()))

    @cached_property
    def of_subgroups(self) -> tuple[Group, ...]:
        """Of each subgroup the figures `KEY_FIGURES`."""
        return tuple(self._subgroup(subgroup) for subgroup in self.subgroups)

    @cached_property
    def of_systems(self) -> dict[str, dict[str, Figure]]:
        """`KEY_FIGURES` of every system; empty without others."""
        if not self.systems:
            return {}
        resampler = Resampler(self._common_subjects, self.resampling)
        return {system.name: resampler.figures(system.statistics) for system in self._compared}

    @cached_property
    def differences(self) -> list[dict[str, Any]]:
        """The other systems against this one, as `comparison_rows` gives them."""
        if not self.systems:
            return []
        return comparison_rows(self._compared, self._common_subjects, self.systems[0].name, self.resampling)

    @property
    def _common_subjects(self) -> tuple[str, ...]:
        return tuple(case.subject for case in self.systems[0].cases)

    @cached_property
    def _compared(self) -> list[System]:
        named = ((s.name, statistics_of(s.cases, self.settings.protocol, s.voxel_wins)) for s in self.systems)
        return [System(name, _key_statistics(statistics)) for name, statistics in named]

    @cached_property
    def _resampler(self) -> Resampler:
        return Resampler(tuple(case.subject for case in self.cases), self.resampling)

    def _stratum(self, by: str, stratum: Stratum) -> Group:
        figures = self._resampler.figures({f"lesion.{key}": statistic for key, statistic in stratum.statistics.items()})
        counts = {"lesions": stratum.n_reference, "predicted": stratum.n_predicted}
        return Group(by, stratum.meaning, counts, figures)

    def _subgroup(self, subgroup: Subgroup) -> Group:
        chosen = list(subgroup.indices)
        cases = [self.cases[index] for index in chosen]
        wins = None if self.voxel_wins is None else self.voxel_wins[np.ix_(chosen, chosen)]
        statistics = _key_statistics(statistics_of(cases, self.settings.protocol, wins))
        resampler = Resampler(tuple(case.subject for case in cases), self.resampling)
        return Group(
            by=subgroup.column,
            name=subgroup.label,
            counts={
                "cases": len(cases),
                "subjects": len({case.subject for case in cases}),
                "lesions": sum(len(case.reference) for case in cases),
            },
            figures=resampler.figures(statistics),
            warning="; ".join(subgroup.warnings),
            few=", ".join(f"{number} {kind}" for kind, number in subgroup.few.items()),
        )


def on_common_cases(reports: Mapping[str, "EvaluationReport"]) -> tuple[tuple[ScoredSystem, ...], tuple[str, ...]]:
    """Several systems' scores on the cases that all of them could be scored on.

    Args:
        reports: by the system's name, of the same references.

    Returns:
        The systems in their order, and a warning where cases had to be left out.

    Raises:
        InputError: no case is common to all.
    """
    first, *others = reports.values()
    common = [case.case for case in first.cases if all(case.case in _numbers(other) for other in others)]
    if not common:
        raise InputError(
            f"--against: no case could be scored for all of {', '.join(reports)}; predict the same cases with each"
        )
    reduced = [_reduced(name, report, common) for name, report in reports.items()]
    confident = confident_everywhere([system.cases for system in reduced])
    systems = tuple(replace(system, cases=cases) for system, cases in zip(reduced, confident, strict=True))
    left_out = sorted({case for report in reports.values() for case in _numbers(report)} - set(common))
    warnings = (
        (f"systems are compared on the {len(common)} cases that all could be scored on, without {listed(left_out)}",)
        if left_out
        else ()
    )
    return systems, warnings


def _numbers(report: "EvaluationReport") -> dict[str, int]:
    return {case.case: index for index, case in enumerate(report.cases)}


def _reduced(name: str, report: "EvaluationReport", common: Sequence[str]) -> ScoredSystem:
    chosen = [_numbers(report)[case] for case in common]
    wins = None if report.voxel_wins is None else report.voxel_wins[np.ix_(chosen, chosen)]
    return ScoredSystem(name, tuple(report.cases[index] for index in chosen), wins)


def statistics_of(
    cases: Sequence[CaseScore], protocol: str, wins: NDArray[np.float64] | None
) -> dict[str, dict[str, Statistic]]:
    """Every statistic of some cases, by group and key of `metrics.json`."""
    return {
        "lesion": lesion_statistics(cases, protocol),
        "voxel": voxel_statistics(cases, protocol, wins),
        "count": count_statistics(cases),
        "patient": patient_statistics(cases),
        "severity": severity_statistics(cases),
        "calibration": calibration_statistics(cases, protocol),
        "surface": surface_statistics(cases),
    }


def _key_statistics(statistics: Mapping[str, Mapping[str, Statistic]]) -> dict[str, Statistic]:
    parts = ((name, *name.split(".", 1)) for name in KEY_FIGURES)
    return {name: statistics[group][key] for name, group, key in parts}
