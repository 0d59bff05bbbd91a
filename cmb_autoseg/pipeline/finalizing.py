"""Out-of-fold predictions, operating points and the model card."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from cmb_autoseg.errors import InputError, LeakageError
from cmb_autoseg.evaluation.evaluate import CaseSource, evaluate_cases
from cmb_autoseg.evaluation.matching.protocols import PROTOCOLS
from cmb_autoseg.evaluation.reporting.metrics_file import summary
from cmb_autoseg.evaluation.reporting.report_files import Provenance, write_report
from cmb_autoseg.evaluation.scoring import ScoringSettings
from cmb_autoseg.files import write_json, write_tsv
from cmb_autoseg.geometry import Volume, read_volume, write_volume
from cmb_autoseg.inference.ensemble import Ensemble
from cmb_autoseg.inference.model_folder import trained_channels, trained_plan, trained_settings
from cmb_autoseg.inference.operating_points import (
    SWEEP_COLUMNS,
    ScoredCase,
    points_of,
    resolve_operating_point,
    sweep_thresholds,
    weakness,
)
from cmb_autoseg.leakage import subject_of
from cmb_autoseg.lesions import lesion_mask
from cmb_autoseg.locking import own_folder
from cmb_autoseg.pipeline.stored import brain_of, images_of, made_by, refuse_stale_plan
from cmb_autoseg.planners import N_FOLDS
from cmb_autoseg.progress import Meter, log, track
from cmb_autoseg.raw_dataset import RawDataset, folds_digest, folds_file, kind_of_data, parse_folds, read_raw_dataset
from cmb_autoseg.records import Encoder, FoldModel, Model, OperatingPoint, Plan, Role
from cmb_autoseg.run_log import open_log
from cmb_autoseg.trainers.encoder_choice import encoder_identity
from cmb_autoseg.workspace import DatasetFolders

__all__ = ["finalize"]

SAME_CASES = (
    "the threshold was chosen on these very cases, so figures at it flatter a little; curves do not hang on it, and "
    "test cases of other subjects judge it fairly"
)


def finalize(folders: DatasetFolders, model: Path, device: str) -> str:
    """Judge a model by the cases that each fold has not seen, and make it ready for use.

    Writes `crossvalidation/` (out-of-fold probabilities, metrics, threshold sweep),
    `operating_points.json` and, last, `model.json`.

    Returns:
        The cross-validation's table, as text.

    Raises:
        InputError: a fold is not trained, or folds began with encoders that were not made alike.
        OutputError: another process finalizes this model.
    """
    raw = read_raw_dataset(folders)
    plan = trained_plan(model)
    refuse_stale_plan(raw, plan)
    records = _fold_records(folders, model, plan)
    with own_folder(model, "cmb_finalize"):
        open_log(folders.workspace)
        return _finalize(raw, model, plan, records, device)


def _finalize(raw: RawDataset, model: Path, plan: Plan, records: Sequence[FoldModel], device: str) -> str:
    predicted = _out_of_fold(raw, records, model, device, "Out-of-fold prediction")
    sweep = sweep_thresholds(predicted, PROTOCOLS["valdo"])
    points = points_of(sweep)
    folder = model / "crossvalidation"
    write_tsv(folder / "thresholds.tsv", SWEEP_COLUMNS, sweep.rows())
    write_json(model / "operating_points.json", [point.model_dump(mode="json") for point in points])
    counting = resolve_operating_point(points, "counting")
    report = evaluate_cases(_judged(raw, records, model, counting), ScoringSettings(), track=track)
    report = replace(report, point=counting, warnings=(SAME_CASES,))
    write_report(report, folder, Provenance(kind_of_data((raw, case) for case in raw.cases if case.labelled)))
    _model_card(records, plan, trained_channels(model)).write(model / "model.json")
    warning = weakness(counting)
    if warning is not None:
        log(f"warning: {model.name}: {warning}")
    lines = [f"{point.name}: threshold {point.threshold:.2f} ({point.rule})" for point in points]
    return "\n".join(("cross-validation at the operating point counting", summary(report), *lines, f"model: {model}"))


def _fold_records(folders: DatasetFolders, model: Path, plan: Plan) -> list[FoldModel]:
    absent = [fold for fold in range(N_FOLDS) if not (model / f"fold_{fold}" / "fold.json").is_file()]
    recipe = model.name.split("__")[1].removesuffix(f"_{plan.preset}")
    command = f"cmb_train -d {folders.number} -r {recipe} -p {plan.preset} -f"
    if absent:
        listed = [str(fold) for fold in absent]
        raise InputError(f"{model}: folds {', '.join(listed)} are not trained; run {command} {' '.join(listed)}")
    try:
        records = [FoldModel.read(model / f"fold_{fold}" / "fold.json") for fold in range(N_FOLDS)]
    except InputError as error:
        problem = str(error).partition("; ")[0]
        raise InputError(f"{problem}; delete it and run {command} all") from None
    if trained_settings(model).get("folds") != folds_digest(parse_folds(folders)):
        raise InputError(
            f"{model}: trained on another deal of the cases than {folds_file(folders)} has now; move that folder away "
            f"and run {command} all"
        )
    for record in records:
        leaked = sorted({*record.training_subjects} & {*record.validation_subjects})
        if leaked:
            raise LeakageError(
                f"{model / f'fold_{record.fold}'}: has learned from {', '.join(leaked)}, on whom it would be judged; "
                f"move that folder away and run {command} {record.fold}"
            )
    _refuse_mixed_encoders(records, model, command)
    return records


def _refuse_mixed_encoders(records: Sequence[FoldModel], model: Path, command: str) -> None:
    """Refuse folds that cmb_train would not have let into one model, such as copied ones."""
    first, *others = (record.encoder and encoder_identity(record.encoder) for record in records)
    for fold, other in enumerate(others, start=1):
        if other != first:
            odd = fold if first == trained_settings(model).get("encoder") else 0
            raise InputError(
                f"{model}: fold 0 began with {_in_words(records[0].encoder)} and fold {fold} with "
                f"{_in_words(records[fold].encoder)}, which no one model does; move {model / f'fold_{odd}'} away and "
                f"run {command} {odd} with the encoder of the other folds"
            )


def _in_words(encoder: Encoder | None) -> str:
    if encoder is None:
        return "random weights"
    made_for = "all folds" if encoder.fold is None else f"fold {encoder.fold}"
    return f"encoder {encoder.name} of {encoder.method}, made for {made_for} ({encoder.weights[:15]})"


def _out_of_fold(
    raw: RawDataset, records: Sequence[FoldModel], model: Path, device: str, doing: str
) -> Iterator[ScoredCase]:
    """Every labelled training case with the probability of the fold that has not seen it.

    Maps are kept in `crossvalidation/` and predicted again only when the fold was trained anew.
    """
    cases = {case.name: case for case in raw.cases}
    total = sum(len(record.validation_cases) for record in records)
    made_by_path = model / "crossvalidation" / "made_by.json"
    known = made_by(made_by_path)
    with Meter(doing, total) as meter:
        for record in records:
            ensemble: Ensemble | None = None
            for name in record.validation_cases:
                path = model / "crossvalidation" / f"{name}_prob.nii.gz"
                if known.get(name) != record.checkpoint or not path.is_file():
                    ensemble = ensemble or Ensemble(model, (record.fold,), device)
                    write_volume(path, ensemble.probability(images_of(cases[name], raw, ensemble.channels)), "float32")
                    known[name] = record.checkpoint
                    write_json(made_by_path, known)
                reference = read_volume(cases[name].label, dtype="uint8")
                yield ScoredCase(name, read_volume(path), reference, brain_of(cases[name], raw))
                meter.advance()


def _judged(raw: RawDataset, records: Sequence[FoldModel], model: Path, point: OperatingPoint) -> list[CaseSource]:
    """Every case that a fold has not seen, cut at the operating point; read from what `_out_of_fold` has stored."""
    cases = {case.name: case for case in raw.cases}

    def source(name: str) -> CaseSource:
        def load() -> tuple[Volume, Volume, Volume]:
            probability = read_volume(model / "crossvalidation" / f"{name}_prob.nii.gz")
            reference = read_volume(cases[name].label, dtype="uint8")
            return probability.with_data(lesion_mask(probability, point)), reference, probability

        return CaseSource.of_volumes(name, subject_of(cases[name]), load)

    return [source(name) for record in records for name in record.validation_cases]


def _model_card(records: Sequence[FoldModel], plan: Plan, channels: tuple[Role, ...]) -> Model:
    return Model(
        dataset=plan.dataset,
        recipe=records[0].recipe,
        channels=channels,
        folds={record.fold: record.checkpoint for record in records},
        seed=records[0].seed,
        n_cases=sum(len(record.validation_cases) for record in records),
        n_subjects=len({subject for record in records for subject in record.validation_subjects}),
        n_lesions=plan.lesions_before,
        training_range=plan.training_range,
        parents=records[0].parents,
    )
