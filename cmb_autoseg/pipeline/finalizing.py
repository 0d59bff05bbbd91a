"""Out-of-fold predictions, operating points and the model card."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from cmb_autoseg.evaluation.evaluate import CaseSource, evaluate_cases
from cmb_autoseg.evaluation.inputs.box_labels import doubts_of_box_labels
from cmb_autoseg.evaluation.matching.protocols import PROTOCOLS
from cmb_autoseg.evaluation.reporting.metrics_file import summary
from cmb_autoseg.evaluation.reporting.report_files import Provenance, write_report
from cmb_autoseg.evaluation.scoring import ScoringSettings
from cmb_autoseg.files import write_json, write_tsv
from cmb_autoseg.geometry import Volume, read_volume
from cmb_autoseg.inference.model_folder import trained_channels, trained_plan
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
from cmb_autoseg.pipeline.out_of_fold import fold_records, map_path, out_of_fold_maps
from cmb_autoseg.pipeline.stored import brain_of, refuse_stale_plan
from cmb_autoseg.progress import log, track
from cmb_autoseg.raw_dataset import RawDataset, kind_of_data, read_raw_dataset
from cmb_autoseg.records import FoldModel, Model, OperatingPoint, Plan, Role, intended_use_after, joined_kinds
from cmb_autoseg.run_log import open_log
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
    records = fold_records(folders, model, plan)
    with own_folder(model, "cmb_finalize"):
        open_log(folders.workspace)
        return _finalize(raw, model, plan, records, device)


def _finalize(raw: RawDataset, model: Path, plan: Plan, records: Sequence[FoldModel], device: str) -> str:
    maps = out_of_fold_maps(raw, records, model, device)
    sweep = sweep_thresholds(_scored(raw, maps), PROTOCOLS["valdo"])
    points = points_of(sweep)
    folder = model / "crossvalidation"
    write_tsv(folder / "thresholds.tsv", SWEEP_COLUMNS, sweep.rows())
    write_json(model / "operating_points.json", [point.model_dump(mode="json") for point in points])
    counting = resolve_operating_point(points, "counting")
    report = evaluate_cases(_judged(raw, records, model, counting), ScoringSettings(), track=track)
    drawn_as_boxes = doubts_of_box_labels(_labels(raw, records))
    report = replace(report, point=counting, warnings=(SAME_CASES, *drawn_as_boxes))
    write_report(report, folder, Provenance(kind_of_data((raw, case) for case in raw.cases if case.labelled)))
    _model_card(records, plan, trained_channels(model)).write(model / "model.json")
    weak = weakness(counting)
    for warning in (*([weak] if weak is not None else []), *drawn_as_boxes):
        log(f"warning: {model.name}: {warning}")
    lines = [f"{point.name}: threshold {point.threshold:.2f} ({point.rule})" for point in points]
    return "\n".join(("cross-validation at the operating point counting", summary(report), *lines, f"model: {model}"))


def _scored(raw: RawDataset, maps: Iterable[tuple[str, Path]]) -> Iterator[ScoredCase]:
    """Every labelled training case with the probability of the fold that has not seen it."""
    cases = {case.name: case for case in raw.cases}
    for name, path in maps:
        reference = read_volume(cases[name].label, dtype="uint8")
        yield ScoredCase(name, read_volume(path), reference, brain_of(cases[name], raw))


def _judged(raw: RawDataset, records: Sequence[FoldModel], model: Path, point: OperatingPoint) -> list[CaseSource]:
    """Every case that a fold has not seen, cut at the operating point; read from what `_out_of_fold` has stored."""
    cases = {case.name: case for case in raw.cases}

    def source(name: str) -> CaseSource:
        def load() -> tuple[Volume, Volume, Volume]:
            probability = read_volume(map_path(model, name))
            reference = read_volume(cases[name].label, dtype="uint8")
            return probability.with_data(lesion_mask(probability, point)), reference, probability

        return CaseSource.of_volumes(name, subject_of(cases[name]), load)

    return [source(name) for record in records for name in record.validation_cases]


def _labels(raw: RawDataset, records: Sequence[FoldModel]) -> list[Path]:
    """Of every case that a fold is judged on."""
    judged = {name for record in records for name in record.validation_cases}
    return [case.label for case in raw.cases if case.name in judged]


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
        intended_use=intended_use_after(joined_kinds(record.data for record in records)),
        parents=records[0].parents,
    )
