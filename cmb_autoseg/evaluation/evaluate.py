"""Score predictions against their references: cases of any source, or folders and lists of any tool."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.errors import CASE_FAULTS, fault_reason
from cmb_autoseg.evaluation.case_score import CaseScore
from cmb_autoseg.evaluation.confidence import doubts_of_confidence, without_hollow_confidence
from cmb_autoseg.evaluation.evaluation_report import EvaluationReport, Failure
from cmb_autoseg.evaluation.inputs.box_labels import doubts_of_box_labels
from cmb_autoseg.evaluation.inputs.case_table import CaseTable, described_cases, header_columns
from cmb_autoseg.evaluation.inputs.loading import (
    ListSettings,
    LoadedCase,
    doubts_of_grids,
    load_case,
    refuse_swapped_values,
)
from cmb_autoseg.evaluation.inputs.pairing import FoundCases, find_cases
from cmb_autoseg.evaluation.inputs.run_times import read_seconds, seconds_of_run
from cmb_autoseg.evaluation.inputs.sides import CaseFiles, LoadedSide
from cmb_autoseg.evaluation.matching.lesion_set import Kind
from cmb_autoseg.evaluation.metrics.voxel_auc import LesionValues, count_wins
from cmb_autoseg.evaluation.scoring import CaseFacts, ScoringSettings, probability_of, score_case
from cmb_autoseg.evaluation.statistics.intervals import Resampling
from cmb_autoseg.geometry import Volume, check_same_grid

__all__ = [
    "CaseSource",
    "InputSettings",
    "Predictions",
    "Track",
    "evaluate_cases",
    "evaluate_folder",
    "evaluate_predictions",
    "find_predictions",
]

Track = Callable[[Sequence["CaseSource"], str], Iterable["CaseSource"]]
"""Passes on cases and may show progress meanwhile; the text says what is being done."""


@dataclass(frozen=True)
class CaseSource:
    """One case that is read when it is its turn, and again for figures over all voxels."""

    name: str
    load: Callable[[], LoadedCase]
    facts: CaseFacts

    @classmethod
    def of_volumes(
        cls, name: str, subject: str, load: Callable[[], tuple[Volume, Volume, Volume | None]]
    ) -> "CaseSource":
        """A case whose mask, reference mask and probability map are at hand, on one grid."""

        def loaded() -> LoadedCase:
            predicted, reference, probability = load()
            check_same_grid(predicted, reference, "evaluate the prediction on the grid of its reference")
            return LoadedCase(
                name, LoadedSide("mask", volume=predicted), LoadedSide("mask", volume=reference), probability, None
            )

        return cls(name, loaded, CaseFacts(subject))


@dataclass(frozen=True)
class InputSettings:
    """How files are to be understood."""

    predicted_kind: Kind | None = None
    reference_kind: Kind | None = None
    lists: ListSettings = field(default_factory=ListSettings)
    regions: Path | None = None
    """Folder of maps of brain regions."""
    table: CaseTable | None = None
    seconds: Path | None = None
    """Table of the seconds that each prediction took."""


@dataclass(frozen=True)
class Predictions:
    """One system's predictions beside their references, not yet read."""

    sources: tuple[CaseSource, ...]
    failures: tuple[Failure, ...]
    warnings: tuple[str, ...]
    files: tuple[CaseFiles, ...]
    lists: ListSettings


def _silently(cases: Sequence[CaseSource], _doing: str) -> Iterable[CaseSource]:
    return cases


def evaluate_cases(
    sources: Sequence[CaseSource],
    settings: ScoringSettings,
    resampling: Resampling | None = None,
    track: Track = _silently,
) -> EvaluationReport:
    """Score cases, one in memory at a time; one that cannot be scored becomes a failure, the others go on."""
    scores: dict[str, CaseScore] = {}
    values: dict[str, LesionValues] = {}
    failures: list[Failure] = []
    for source in track(sources, "Scoring"):
        try:
            score, own_values = _score(source, settings)
            scores[source.name] = score
            if own_values is not None:
                values[source.name] = own_values
        except CASE_FAULTS as error:
            failures.append(Failure(case=source.name, reason=" ".join(fault_reason(error).split())))
    scored = [source for source in sources if source.name in scores]
    cases = without_hollow_confidence([scores[source.name] for source in scored])
    return EvaluationReport(
        settings=settings,
        cases=cases,
        failures=tuple(failures),
        warnings=doubts_of_confidence(cases, settings.threshold),
        voxel_wins=_voxel_wins(scored, values, settings, track),
        resampling=resampling or Resampling(),
    )


def _score(source: CaseSource, settings: ScoringSettings) -> tuple[CaseScore, LesionValues | None]:
    """A function of its own, so that a case's images are gone before those of the next one are read."""
    case = source.load()
    score = score_case(case, source.facts, settings)
    with_voxels = probability_of(case, settings)
    return score, None if with_voxels is None else LesionValues.of(*with_voxels)


def _voxel_wins(
    sources: Sequence[CaseSource], values: dict[str, LesionValues], settings: ScoringSettings, track: Track
) -> NDArray[np.float64] | None:
    """Second pass over the images, for the ROC curve of all voxels; see `metrics.voxel_auc`."""
    known = [index for index, source in enumerate(sources) if source.name in values]
    if not known or not any(own.n_voxels for own in values.values()):
        return None
    wins = np.full((len(sources), len(sources)), np.nan)
    lesions = [values[sources[index].name] for index in known]
    position = {sources[index].name: index for index in known}
    for source in track([sources[index] for index in known], "Comparing voxels of all cases"):
        with_voxels = probability_of(source.load(), settings)
        assert with_voxels is not None
        wins[known, position[source.name]] = count_wins(lesions, *with_voxels)
    return wins


def evaluate_folder(
    predicted: Path,
    reference: Path,
    settings: ScoringSettings,
    inputs: InputSettings | None = None,
    resampling: Resampling | None = None,
    track: Track = _silently,
) -> EvaluationReport:
    """Score every reference of one folder or list that has, or should have, a prediction in the other.

    Returns:
        The report; a reference without prediction and a case that cannot be scored are its failures.

    Raises:
        InputError: see `find_predictions`.
    """
    predictions = find_predictions(predicted, reference, inputs or InputSettings())
    return evaluate_predictions(predictions, settings, resampling, track)


def evaluate_predictions(
    predictions: Predictions, settings: ScoringSettings, resampling: Resampling | None = None, track: Track = _silently
) -> EvaluationReport:
    """Score what `find_predictions` found."""
    report = evaluate_cases(predictions.sources, settings, resampling, track)
    failures = sorted((*predictions.failures, *report.failures), key=lambda failure: failure.case)
    return replace(report, failures=tuple(failures), warnings=(*predictions.warnings, *report.warnings))


def find_predictions(predicted: Path, reference: Path, inputs: InputSettings) -> Predictions:
    """Pair predictions and references, and put together what is known of each case; reads no image but one pair.

    Raises:
        InputError: a folder or list holds nothing to score, no case is on both sides, the sides look swapped, a case
            has two masks in one folder, or a table speaks of none of the cases.
    """
    found = find_cases(predicted, reference, inputs.predicted_kind, inputs.reference_kind, inputs.regions)
    if found.cases and inputs.reference_kind is None:
        refuse_swapped_values(found.cases[0])
    sources, told = _sources(found, predicted, inputs)
    failures = tuple(Failure(case=case, reason=reason, is_missing=True) for case, reason in found.failures.items())
    with_voxels = [case for case in found.cases if case.predicted.kind == case.reference.kind == "mask"]
    told += doubts_of_box_labels([case.reference.path for case in with_voxels])
    told += doubts_of_grids(found.cases, inputs.lists)
    return Predictions(sources, failures, (*found.warnings, *told), found.cases, inputs.lists)


def _sources(
    found: FoundCases, predicted: Path, inputs: InputSettings
) -> tuple[tuple[CaseSource, ...], tuple[str, ...]]:
    names = [files.name for files in found.cases]
    headers = {
        files.name: header_columns(files.reference.path) for files in found.cases if files.reference.kind == "mask"
    }
    described, warnings = described_cases(names, inputs.table, headers)
    seconds = seconds_of_run(predicted) if inputs.seconds is None else read_seconds(inputs.seconds, names)
    sources = tuple(
        CaseSource(
            files.name,
            _loader(files, inputs.lists),
            CaseFacts(case.subject, case.columns, seconds.get(files.name)),
        )
        for files, case in zip(found.cases, described, strict=True)
    )
    return sources, warnings


def _loader(files: CaseFiles, lists: ListSettings) -> Callable[[], LoadedCase]:
    return lambda: load_case(files, lists)
