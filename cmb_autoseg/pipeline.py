"""The stages in a row: what the commands run, each skipping what is there already."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg._nnunet import (
    NETWORK_INPUT_ENDS,
    dataset_json,
    nnunet_environment,
    nnunet_plans,
    preprocessed_folder,
)
from cmb_autoseg.errors import InputError, OutputError
from cmb_autoseg.evaluation.evaluate import evaluate_cases
from cmb_autoseg.evaluation.protocols import PROTOCOLS
from cmb_autoseg.files import read_json, write_json, write_text, write_tsv
from cmb_autoseg.geometry import Volume, read_volume, write_volume
from cmb_autoseg.inference.ensemble import Ensemble
from cmb_autoseg.inference.model_folder import trained_plan
from cmb_autoseg.inference.operating_points import (
    SWEEP_COLUMNS,
    ScoredCase,
    points_of,
    resolve_operating_point,
    sweep_thresholds,
    weakness,
)
from cmb_autoseg.lesions import label_components, lesion_mask
from cmb_autoseg.locking import is_owned, own_folder
from cmb_autoseg.planners import (
    N_FOLDS,
    PlanSettings,
    current_fingerprint,
    explain,
    fingerprint,
    fingerprint_path,
    plan_dataset,
    split_folds,
)
from cmb_autoseg.progress import Meter, log, track
from cmb_autoseg.raw_dataset import (
    Fold,
    RawCase,
    RawDataset,
    check_folds,
    folds_file,
    parse_folds,
    read_raw_dataset,
)
from cmb_autoseg.records import SUSCEPTIBILITY_ROLES, Fingerprint, FoldModel, Model, Plan, Role
from cmb_autoseg.run_log import open_log
from cmb_autoseg.trainers.recipe import Recipe
from cmb_autoseg.trainers.train import train_fold
from cmb_autoseg.workspace import PRESETS, DatasetFolders

__all__ = ["TrainSettings", "finalize", "plan_preprocess", "read_plan", "train"]


def plan_preprocess(folders: DatasetFolders, settings: PlanSettings, seed: int = 0) -> Plan:
    """Fingerprint, plan, split and preprocess one raw dataset.

    Writes `dataset_fingerprint.json`, `<preset>.json` (nnU-Net's plans), `<preset>_plan.json` (ours),
    `<preset>_plan.txt` (ours in plain words), `splits_final.json` and the network inputs. Nothing is
    written before the plan is sound.

    Raises:
        InputError: the dataset cannot be planned; see `plan_dataset` and `split_folds`.
        OutputError: another process works on this dataset's plans.
    """
    raw = read_raw_dataset(folders)
    measured = _fingerprint(raw)
    cases = {case.name: case for case in raw.cases}
    splits = _folds(raw, measured, seed)
    plan = plan_dataset(measured, lambda name: _lesions(cases[name]), settings)
    for warning in plan.warnings:
        log(f"{plan.dataset}: {warning}")
    base = folders.preprocessed
    with own_folder(folders.raw, "cmb_plan_preprocess"), own_folder(base, "cmb_plan_preprocess"):
        open_log(folders.workspace)
        for folder in (folders.raw, base):
            write_json(folder / "splits_final.json", splits)
        measured.write(fingerprint_path(folders))
        _preprocess(raw, plan)
        content: dict[str, object] = {"plan": plan.model_dump(mode="json")}
        write_json(base / f"{plan.preset}.json", nnunet_plans(plan, plan.preset, content))
        write_json(base / "dataset.json", dataset_json(plan.channels, len(raw.training_cases()), plan.dataset))
        write_text(folders.plan(plan.preset, ".txt"), explain(plan, measured, splits))
        plan.write(folders.plan(plan.preset))
    return plan


def _fingerprint(raw: RawDataset) -> Fingerprint:
    """The stored fingerprint when the raw dataset is still the one it measured, else a new one."""
    path = fingerprint_path(raw.folders)
    if path.is_file():
        try:
            stored = Fingerprint.read(path)
        except InputError:
            log(f"{path}: made by another version; measured anew")
        else:
            if stored.parents == (raw.digest,):
                return stored
    return fingerprint(raw, lambda cases: track(cases, "Fingerprinting", len(raw.training_cases())))


def _lesions(case: RawCase) -> NDArray[np.int32]:
    """Numbered lesions (z, y, x); numbered in file order, as the fingerprint does."""
    return label_components(read_volume(case.label, dtype="uint8").data > 0).transpose(2, 1, 0)


def _folds(raw: RawDataset, measured: Fingerprint, seed: int) -> list[Fold]:
    """The folds that are there, since trained folds depend on them; new ones where there are none."""
    path = folds_file(raw.folders)
    labelled = {case.case for case in measured.cases if case.labelled}
    if path.is_file():
        folds = parse_folds(raw.folders)
        if all({*fold["train"], *fold["val"]} == labelled for fold in folds):
            check_folds(raw, folds)
            return folds
        log(f"{path}: names other cases than the dataset has; folds are dealt anew")
    try:
        return split_folds(measured.cases, seed)
    except InputError as error:
        raise InputError(f"{measured.dataset}: {error}") from None


def _preprocess(raw: RawDataset, plan: Plan) -> None:
    """Write the network input of every training case, labelled or not; keep what this plan has made."""
    folder = preprocessed_folder(raw.folders, plan.preset)
    # Beside the folder, since nnU-Net takes every kind of file in it for a kind of data.
    made_by = folder.with_name(f"{folder.name}_made_by.json")
    if folder.is_dir() and _made_by(made_by) != {"plan": plan.digest}:
        _refuse_while_training(raw.folders)
        # Should this be interrupted, nobody may train by the old plan on inputs of the new one.
        for suffix in (".json", ".txt"):
            raw.folders.plan(plan.preset, suffix).unlink(missing_ok=True)
        shutil.rmtree(folder)
    write_json(made_by, {"plan": plan.digest})
    todo = [
        case
        for case in raw.training_cases()
        if not all((folder / f"{case.name}{end}").is_file() for end in NETWORK_INPUT_ENDS)
    ]
    with nnunet_environment(raw.folders):
        from cmb_autoseg.preprocessing.network_input import network_input, save_network_input, stack_channels

        plans = nnunet_plans(plan, plan.preset, {})
        content = dataset_json(plan.channels, len(raw.training_cases()), plan.dataset)
        for case in track(todo, "Preprocessing"):
            images = {
                role: read_volume(case.image(raw.roles.index(role))) for role in case.sequences if role in plan.channels
            }
            data, spacing = stack_channels(images, plan.channels)
            lesions = _lesions(case) if case.labelled else None
            result = network_input(data, spacing, plans, content, lesions, plan.preserve_lesions)
            unforeseen = [f"{case.name}#{n}" for n in result.lost if f"{case.name}#{n}" not in plan.lost_lesions]
            if unforeseen:
                raise InputError(f"{case.name}: lesions {', '.join(unforeseen)} vanish in preprocessing; plan again")
            save_network_input(result, folder, case.name, plan.patch_shape)


def _made_by(record: Path) -> dict[str, str]:
    """What a record says that results were made by; one that is missing or damaged says nothing."""
    try:
        content = read_json(record)
    except InputError:
        return {}
    return content if isinstance(content, dict) else {}


def _refuse_while_training(folders: DatasetFolders) -> None:
    for fold in sorted(folders.results.glob("*/fold_*")):
        doing = is_owned(fold)
        if doing:
            raise OutputError(
                f"{folders.name}: the plan changed, but {doing} reads the inputs of the old one; wait until it ends"
            )


def read_plan(folders: DatasetFolders, preset: str | None) -> Plan:
    """The plan of `preset`; without a name `adaptive` if there is one, else the only one.

    Raises:
        InputError: the dataset is not planned.
    """
    there = [name for name in PRESETS if folders.plan(name).is_file()]
    chosen = preset or (there[0] if there else "adaptive")
    if chosen not in there:
        raise InputError(
            f"{folders.name}: not planned with preset {chosen}; run cmb_plan_preprocess -d {folders.number} "
            f"--preset {chosen}"
        )
    try:
        return Plan.read(folders.plan(chosen))
    except InputError as error:
        problem = str(error).partition("; ")[0]
        raise InputError(f"{problem}; run cmb_plan_preprocess -d {folders.number} --preset {chosen} again") from None


def _refuse_stale_plan(raw: RawDataset, plan: Plan) -> None:
    """Refuse to work by a plan of what the raw dataset was before it was converted again."""
    if current_fingerprint(raw, plan) is None:
        raise InputError(
            f"{plan.dataset}: its cases changed since it was planned; run cmb_plan_preprocess -d {raw.folders.number} "
            f"--preset {plan.preset}, and train anew in an empty results folder"
        )


@dataclass(frozen=True)
class TrainSettings:
    """What the user chose for training."""

    device: str
    seed: int = 0
    preset: str | None = None
    checkpoint_steps: int | None = None
    """None: what the trainer thinks right."""


def train(
    folders: DatasetFolders, recipe: Recipe, folds: Sequence[int], settings: TrainSettings
) -> tuple[Path, list[FoldModel]]:
    """Train folds one after the other; finished ones are left as they are."""
    raw = read_raw_dataset(folders)
    plan = read_plan(folders, settings.preset)
    _refuse_stale_plan(raw, plan)
    model = folders.model(recipe.name, plan.preset)
    records = [
        train_fold(raw, plan, recipe, model, fold, settings.device, settings.seed, settings.checkpoint_steps)
        for fold in folds
    ]
    return model, records


def finalize(folders: DatasetFolders, model: Path, device: str) -> str:
    """Judge a model by the cases that each fold has not seen, and make it ready for use.

    Writes `crossvalidation/` (out-of-fold probabilities, metrics, threshold sweep),
    `operating_points.json` and, last, `model.json`.

    Returns:
        The cross-validation's table, as text.

    Raises:
        InputError: a fold is not trained.
        OutputError: another process finalizes this model.
    """
    raw = read_raw_dataset(folders)
    plan = trained_plan(model)
    _refuse_stale_plan(raw, plan)
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
    scored = _out_of_fold(raw, records, model, device, "Scoring at the point counting")
    masks = ((c.name, c.probability.with_data(lesion_mask(c.probability, counting)), c.reference) for c in scored)
    report = evaluate_cases(masks, PROTOCOLS["valdo"])
    report.write(folder)
    _model_card(records, plan).write(model / "model.json")
    warning = weakness(counting)
    if warning is not None:
        log(f"warning: {model.name}: {warning}")
    lines = [f"{point.name}: threshold {point.threshold:.2f} ({point.rule})" for point in points]
    return "\n".join(("cross-validation at the operating point counting", report.table(), *lines, f"model: {model}"))


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
    for record, fold in zip(records, parse_folds(folders), strict=True):
        if (set(record.training_cases), set(record.validation_cases)) != (set(fold["train"]), set(fold["val"])):
            raise InputError(
                f"{model / f'fold_{record.fold}'}: trained on another deal of the cases than "
                f"{folds_file(folders)} has now; move the folder {model.name} away and run {command} all"
            )
    return records


def _out_of_fold(
    raw: RawDataset, records: Sequence[FoldModel], model: Path, device: str, doing: str
) -> Iterator[ScoredCase]:
    """Every labelled training case with the probability of the fold that has not seen it.

    Maps are kept in `crossvalidation/` and predicted again only when the fold was trained anew.
    """
    cases = {case.name: case for case in raw.cases}
    total = sum(len(record.validation_cases) for record in records)
    made_by_path = model / "crossvalidation" / "made_by.json"
    made_by = _made_by(made_by_path)
    with Meter(doing, total) as meter:
        for record in records:
            ensemble: Ensemble | None = None
            for name in record.validation_cases:
                path = model / "crossvalidation" / f"{name}_prob.nii.gz"
                if made_by.get(name) != record.checkpoint or not path.is_file():
                    ensemble = ensemble or Ensemble(model, (record.fold,), device)
                    write_volume(path, ensemble.probability(_images(cases[name], raw, ensemble.channels)), "float32")
                    made_by[name] = record.checkpoint
                    write_json(made_by_path, made_by)
                reference = read_volume(cases[name].label, dtype="uint8")
                yield ScoredCase(name, read_volume(path), reference, _brain(cases[name], raw))
                meter.advance()


def _images(case: RawCase, raw: RawDataset, channels: Sequence[Role]) -> dict[Role, Volume]:
    return {role: read_volume(case.image(raw.roles.index(role))) for role in case.sequences if role in channels}


def _brain(case: RawCase, raw: RawDataset) -> NDArray[np.bool_]:
    image = next(iter(_images(case, raw, SUSCEPTIBILITY_ROLES).values()))
    return np.asarray(image.data != 0)


def _model_card(records: Sequence[FoldModel], plan: Plan) -> Model:
    return Model(
        dataset=plan.dataset,
        recipe=records[0].recipe,
        channels=plan.channels,
        folds={record.fold: record.checkpoint for record in records},
        seed=records[0].seed,
        n_cases=sum(len(record.validation_cases) for record in records),
        n_subjects=len({subject for record in records for subject in record.validation_subjects}),
        n_lesions=plan.lesions_before,
        training_range=plan.training_range,
        parents=records[0].parents,
    )
