"""A whole evaluation: files found, threshold chosen on validation data, cases scored, systems compared, all written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.confidence import doubts_of_counts
from cmb_autoseg.evaluation.evaluate import InputSettings, Predictions, Track, evaluate_predictions, find_predictions
from cmb_autoseg.evaluation.evaluation_report import EvaluationReport, Failure, on_common_cases
from cmb_autoseg.evaluation.inputs.leakage import refuse_training_subjects
from cmb_autoseg.evaluation.inputs.subgroups import SubgroupSpec, split
from cmb_autoseg.evaluation.inputs.validation import refuse_judged_cases
from cmb_autoseg.evaluation.needs import refuse_undefined, refuse_without_voxels
from cmb_autoseg.evaluation.operating_point import ThresholdRule, choose_threshold, refuse_no_validation
from cmb_autoseg.evaluation.readers.reader_study import ReaderStudy, Verdict, doubts, reader_study
from cmb_autoseg.evaluation.scoring import ScoringSettings
from cmb_autoseg.evaluation.statistics.intervals import Resampling
from cmb_autoseg.records import OperatingPoint

__all__ = ["THIS_SYSTEM", "EvaluationRequest", "Planned", "plan", "run"]

THIS_SYSTEM = "this system"
MOST_TOLD = 10
"""Failures of another system that are warnings each."""


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
    name: str = THIS_SYSTEM
    """What the system is called beside others."""
    against: Mapping[str, Path] = field(default_factory=dict)
    """Other systems' predictions, by name."""
    subgroups: tuple[SubgroupSpec, ...] = ()
    verdicts: Sequence[Verdict] = ()
    needs: tuple[str, ...] = ()
    """Figures without which there is to be no report, see `known_needs`."""


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
            references of the test, or without prediction; a subgroup of no column; a figure that is needed and that
            these files cannot give.
        LeakageError: a scored subject has been learned from by the model that predicted.
    """
    if request.rule is not None and request.validation is None:
        refuse_no_validation(request.rule)
    predictions = find_predictions(request.predicted, request.reference, request.inputs)
    predictions = _unlearned(predictions, request.predicted, "-p")
    refuse_without_voxels(request.needs, predictions)
    columns = [source.facts.columns for source in predictions.sources]
    subjects = [source.facts.subject for source in predictions.sources]
    for spec in request.subgroups:
        split(columns, [0] * len(columns), subjects, spec)
    validation = None
    if request.validation is not None:
        validation = _find_more("--validation", *request.validation, request.inputs)
        validation = _unlearned(validation, request.validation[0], "--validation")
        refuse_judged_cases(validation.files, predictions.files, _subjects(validation), _subjects(predictions))
        _refuse_failed_validation(validation.failures)
    others = {
        name: _find_more(f"--against {name}", folder, request.reference, request.inputs)
        for name, folder in request.against.items()
    }
    others = {name: _unlearned(others[name], folder, "--against") for name, folder in request.against.items()}
    return Planned(request, predictions, validation, others)


def _find_more(option: str, predicted: Path, reference: Path, inputs: InputSettings) -> Predictions:
    """As `find_predictions`, for another option than -p, which errors then name."""
    try:
        return find_predictions(predicted, reference, replace(inputs, seconds=None))
    except InputError as error:
        told = str(error).replace("-p and --reference", "predictions and references")
        raise type(error)(f"{option}: {told}") from None


def _unlearned(predictions: Predictions, place: Path, flag: str) -> Predictions:
    """With warnings where it could not be checked whom the model has learned from."""
    doubts = refuse_training_subjects(place, _subjects(predictions), flag)
    return replace(predictions, warnings=(*predictions.warnings, *doubts))


def run(planned: Planned, track: Track) -> tuple[EvaluationReport, ReaderStudy | None]:
    """Score all systems and work out what depends on them.

    Raises:
        InputError: no case can be scored, no threshold can be chosen on the validation data or a case of it cannot be
            scored, no case is common to all systems, or a figure that is needed is undefined.
    """
    request = planned.request
    settings, point = request.settings, None
    told: tuple[str, ...] = ()
    if planned.validation is not None and request.rule is not None:
        point, told = _chosen(planned.validation, request, track)
        settings = replace(settings, threshold=point.threshold)
    elif settings.threshold is not None:
        point = OperatingPoint(name="given", threshold=settings.threshold, rule="threshold given by the user")
    report = evaluate_predictions(planned.predictions, settings, request.resampling, track)
    _refuse_nothing_scored(report)
    if settings.threshold is None:
        told = (*told, *doubts_of_counts(report.cases))
    refuse_undefined(request.needs, report)
    n_lesions = [len(case.reference) for case in report.cases]
    columns = [case.columns for case in report.cases]
    subjects = [case.subject for case in report.cases]
    specs = request.subgroups if report.cases else ()
    groups = [group for spec in specs for group in split(columns, n_lesions, subjects, spec)]
    report = replace(report, point=point, subgroups=tuple(groups), warnings=(*report.warnings, *told))
    if planned.others and report.cases:
        reports = {request.name: report}
        # A threshold is of one system's confidences: the others are scored as they were delivered.
        as_delivered = replace(settings, threshold=None)
        for name, predictions in planned.others.items():
            reports[name] = evaluate_predictions(predictions, as_delivered, request.resampling, track)
        systems, warnings = on_common_cases(reports)
        report = replace(report, systems=systems, warnings=(*report.warnings, *warnings))
        report = _with_troubles(report, {name: reports[name] for name in planned.others})
    readers = reader_study(request.verdicts, request.resampling) if request.verdicts else None
    doubted = doubts(request.verdicts, [case.case for case in report.cases])
    report = replace(report, warnings=(*report.warnings, *doubted))
    return report, readers


def _refuse_nothing_scored(report: EvaluationReport) -> None:
    if not report.cases and report.failures:
        reasons = list(dict.fromkeys(failure.reason for failure in report.failures))
        more = f" (and {len(reasons) - 1} other reasons)" if len(reasons) > 1 else ""
        raise InputError(f"none of the {len(report.failures)} cases could be scored: {reasons[0]}{more}")


def _with_troubles(report: EvaluationReport, others: Mapping[str, EvaluationReport]) -> EvaluationReport:
    """With the other systems' failures and warnings; those that this system has, too, are told already."""
    own = {(failure.case, failure.reason) for failure in report.failures}
    failures: list[Failure] = []
    warnings: list[str] = []
    for name, other in others.items():
        failed = [failure for failure in other.failures if (failure.case, failure.reason) not in own]
        failures += [Failure(case=failure.case, reason=f"{name}: {failure.reason}") for failure in failed]
        warnings += [f"{name}: {failure.case} could not be scored: {failure.reason}" for failure in failed[:MOST_TOLD]]
        if len(failed) > MOST_TOLD:
            warnings.append(f"{name}: {len(failed) - MOST_TOLD} more cases could not be scored; see failures.tsv")
        warnings += [f"{name}: {warning}" for warning in other.warnings if warning not in report.warnings]
    return replace(report, other_failures=tuple(failures), warnings=(*report.warnings, *warnings))


def _chosen(
    validation: Predictions, request: EvaluationRequest, track: Track
) -> tuple[OperatingPoint, tuple[str, ...]]:
    """The threshold, and what is to be said of the cases that it comes from."""
    assert request.rule is not None
    judged = evaluate_predictions(validation, request.settings, Resampling(n_resamples=0), track)
    _refuse_failed_validation(judged.failures)
    point = choose_threshold(request.rule, judged.cases, request.settings.protocol)
    return point, tuple(f"validation: {warning}" for warning in judged.warnings)


def _refuse_failed_validation(failures: Sequence[Failure]) -> None:
    """A threshold of the cases that happen to be legible would be another one than that of all."""
    if failures:
        more = f" ({len(failures)} such cases in all)" if len(failures) > 1 else ""
        raise InputError(
            f"--validation: {failures[0].case} cannot be scored{more}: {failures[0].reason}; mend it or remove it from "
            "the validation folder"
        )


def _subjects(predictions: Predictions) -> dict[str, str]:
    return {source.name: source.facts.subject for source in predictions.sources}
