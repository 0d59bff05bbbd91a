"""From the raw dataset to the plan and the network inputs."""

import shutil

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg._nnunet import NETWORK_INPUT_ENDS, dataset_json, nnunet_environment, nnunet_plans, preprocessed_folder
from cmb_autoseg.errors import InputError, OutputError
from cmb_autoseg.files import write_json, write_text
from cmb_autoseg.geometry import read_volume
from cmb_autoseg.lesions import label_components
from cmb_autoseg.locking import is_owned, own_folder
from cmb_autoseg.pipeline.stored import made_by
from cmb_autoseg.planners import PlanSettings, explain, fingerprint, fingerprint_path, plan_dataset, split_folds
from cmb_autoseg.progress import log, track
from cmb_autoseg.raw_dataset import Fold, RawCase, RawDataset, check_folds, folds_file, parse_folds, read_raw_dataset
from cmb_autoseg.records import Fingerprint, Plan
from cmb_autoseg.run_log import open_log
from cmb_autoseg.workspace import DatasetFolders

__all__ = ["plan_preprocess"]


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
    record = folder.with_name(f"{folder.name}_made_by.json")
    if folder.is_dir() and made_by(record) != {"plan": plan.digest}:
        _refuse_while_training(raw.folders)
        # Should this be interrupted, nobody may train by the old plan on inputs of the new one.
        for suffix in (".json", ".txt"):
            raw.folders.plan(plan.preset, suffix).unlink(missing_ok=True)
        shutil.rmtree(folder)
    write_json(record, {"plan": plan.digest})
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


def _refuse_while_training(folders: DatasetFolders) -> None:
    for fold in sorted(folders.results.glob("*/fold_*")):
        doing = is_owned(fold)
        if doing:
            raise OutputError(
                f"{folders.name}: the plan changed, but {doing} reads the inputs of the old one; wait until it ends"
            )
