"""A whole evaluation: files found, threshold chosen on validation data, cases scored, systems compared, all written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cmb_autoseg.evaluation.evaluate import InputSettings, Predictions, Track, evaluate_predictions, find_predictions
from cmb_autoseg.evaluation.evaluation_report import EvaluationReport, on_common_cases
from cmb_autoseg.evaluation.inputs.leakage import refuse_training_subjects
from cmb_autoseg.evaluation.inputs.subgroups import SubgroupSpec, split
from cmb_autoseg.evaluation.inputs.validation import refuse_judged_cases
from cmb_autoseg.evaluation.operating_point import ThresholdRule, choose_threshold, refuse_no_validation
from cmb_autoseg.evaluation.reader_study import ReaderStudy, Verdict, reader_study
from cmb_autoseg.evaluation.scoring import ScoringSettings
from cmb_autoseg.evaluation.statistics.intervals import Resampling
from cmb_autoseg.records import OperatingPoint

__all__ = ["EvaluationRequest", "Planned", "plan", "run"]

OURS = "this system"


@dataclass(frozen=True)
class EvaluationRequest:
    """What is to be evaluated, and how."""

    predicted: Path
    reference: Path
    settings: ScoringSettings = field(default_factory=ScoringSettings)
    inputs: InputSettings = field(default_factory=InputSettings)
    resampling: Resampling = field(default_factory=Resampling)
    rule: ThresholdRule | None = None
    """How a threshold is chosen; needs `validation`."""
    validation: tuple[Path, Path] | None = None
    """Predictions and references of other cases."""
    against: Mapping[str, Path] = field(default_factory=dict)
    """Other systems' predictions, by name."""
    subgroups: tuple[SubgroupSpec, ...] = ()
    verdicts: Sequence[Verdict] = ()


@dataclass(frozen=True)
class Planned:
    """A request whose files are found and checked; nothing is scored yet."""

    request: EvaluationRequest
    predictions: Predictions
    validation: Predictions | None
    others: Mapping[str, Predictions]


def plan(request: EvaluationRequest) -> Planned:
    """Find all files, and refuse what cannot be judged fairly, before anything is scored or written.

    Raises:
        InputError: as `find_predictions`; a rule for the threshold without validation data, or with cases, subjects or
            references of the test; a subgroup of no column.
        LeakageError: a scored subject has been learned from by the model that predicted.
    """
    if request.rule is not None and request.validation is None:
        refuse_no_validation(request.rule)
    predictions = find_predictions(request.predicted, request.reference, request.inputs)
    refuse_training_subjects(request.predicted, {source.facts.subject for source in predictions.sources})
    columns = [source.facts.columns for source in predictions.sources]
    for spec in request.subgroups:
        split(columns, [0] * len(columns), spec)
    validation = None
    if request.validation is not None:
        validation = find_predictions(*request.validation, replace(request.inputs, seconds=None))
        refuse_training_subjects(
            request.validation[0], {source.facts.subject for source in validation.sources}, "--validation"
        )
        refuse_judged_cases(validation.files, predictions.files, _subjects(validation), _subjects(predictions))
    others = {
        name: find_predictions(folder, request.reference, replace(request.inputs, seconds=None))
        for name, folder in request.against.items()
    }
    for name, folder in request.against.items():
        refuse_training_subjects(folder, {source.facts.subject for source in others[name].sources}, "--against")
    return Planned(request, predictions, validation, others)


def run(planned: Planned, track: Track) -> tuple[EvaluationReport, ReaderStudy | None]:
    """Score all systems and work out what depends on them.

    Raises:
        InputError: no threshold can be chosen on the validation data, or no case is common to all systems.
    """
    request = planned.request
    settings, point = request.settings, None
    if planned.validation is not None and request.rule is not None:
        point = _chosen(planned.validation, request, track)
        settings = replace(settings, threshold=point.threshold)
    elif settings.threshold is not None:
        point = OperatingPoint(name="given", threshold=settings.threshold, rule="threshold given by the user")
    report = evaluate_predictions(planned.predictions, settings, request.resampling, track)
    n_lesions = [len(case.reference) for case in report.cases]
    columns = [case.columns for case in report.cases]
    groups = [group for spec in request.subgroups for group in split(columns, n_lesions, spec)] if report.cases else []
    report = replace(report, point=point, subgroups=tuple(groups))
    if planned.others and report.cases:
        reports = {OURS: report}
        for name, predictions in planned.others.items():
            reports[name] = evaluate_predictions(predictions, settings, request.resampling, track)
        systems, warnings = on_common_cases(reports)
        report = replace(report, systems=systems, warnings=(*report.warnings, *warnings))
    readers = reader_study(request.verdicts, request.resampling) if request.verdicts else None
    return report, readers


def _chosen(validation: Predictions, request: EvaluationRequest, track: Track) -> OperatingPoint:
    assert request.rule is not None
    judged = evaluate_predictions(validation, request.settings, Resampling(n_resamples=0), track)
    return choose_threshold(request.rule, judged.cases, request.settings.protocol)


def _subjects(predictions: Predictions) -> dict[str, str]:
    return {source.name: source.facts.subject for source in predictions.sources}
