"""From the raw dataset to the plan and the network inputs."""

from collections.abc import Sequence

from cmb_autoseg._nnunet import dataset_json, nnunet_plans
from cmb_autoseg.errors import InputError
from cmb_autoseg.files import read_json, write_json, write_text
from cmb_autoseg.kept_volumes import KeptVolumes
from cmb_autoseg.locking import own_folder
from cmb_autoseg.pipeline.network_inputs import numbered_lesions, refuse_while_read, threads_for, write_network_inputs
from cmb_autoseg.planners import (
    N_FOLDS,
    PlanSettings,
    explain,
    fingerprint,
    fingerprint_path,
    plan_dataset,
    split_folds,
)
from cmb_autoseg.progress import log, track
from cmb_autoseg.raw_dataset import (
    LEGAL_N_FOLDS,
    Fold,
    RawDataset,
    check_folds,
    folds_file,
    parse_folds,
    read_raw_dataset,
)
from cmb_autoseg.records import Fingerprint, Plan
from cmb_autoseg.run_log import open_log
from cmb_autoseg.workspace import DatasetFolders

__all__ = ["plan_preprocess"]


def plan_preprocess(folders: DatasetFolders, settings: PlanSettings, seed: int = 0, n_folds: int | None = None) -> Plan:
    """Fingerprint, plan, split and preprocess one raw dataset.

    Writes `dataset_fingerprint.json`, `<preset>.json` (nnU-Net's plans), `<preset>_plan.json` (ours),
    `<preset>_plan.txt` (ours in plain words), `splits_final.json` and the network inputs. Nothing is
    written before the plan is sound.

    Args:
        folders: of the dataset.
        settings: of the plan.
        seed: of the deal of the subjects to folds.
        n_folds: None for as many as the dataset has, or `N_FOLDS` of one that has none yet.

    Raises:
        InputError: the dataset cannot be planned, or has another number of folds already; see
            `plan_dataset` and `split_folds`.
        OutputError: another process works on this dataset's plans.
    """
    raw = read_raw_dataset(folders)
    kept = KeptVolumes()  # measured first, then preprocessed
    measured = _fingerprint(raw, kept)
    cases = {case.name: case for case in raw.cases}
    splits = _folds(raw, measured, seed, n_folds)
    plan = plan_dataset(measured, lambda name: numbered_lesions(cases[name], kept.read), settings)
    for warning in plan.warnings:
        log(f"{plan.dataset}: {warning}")
    base = folders.preprocessed
    with own_folder(folders.raw, "cmb_plan_preprocess"), own_folder(base, "cmb_plan_preprocess"):
        open_log(folders.workspace)
        for folder in (folders.raw, base):
            write_json(folder / "splits_final.json", splits)
        measured.write(fingerprint_path(folders))
        _preprocess(raw, plan, kept)
        content: dict[str, object] = {"plan": plan.model_dump(mode="json")}
        write_json(base / f"{plan.preset}.json", nnunet_plans(plan, plan.preset, content))
        write_json(base / "dataset.json", dataset_json(plan.channels, len(raw.training_cases()), plan.dataset))
        write_text(folders.plan(plan.preset, ".txt"), explain(plan, measured, splits))
        plan.write(folders.plan(plan.preset))
    return plan


def _fingerprint(raw: RawDataset, kept: KeptVolumes) -> Fingerprint:
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
    cases = raw.training_cases()
    return fingerprint(
        raw, lambda measured: track(measured, "Fingerprinting", len(cases)), threads_for(raw, cases), kept.read
    )


def _folds(raw: RawDataset, measured: Fingerprint, seed: int, n_folds: int | None) -> list[Fold]:
    """The folds that are there, since trained folds depend on them; new ones where there are none."""
    path = folds_file(raw.folders)
    labelled = {case.case for case in measured.cases if case.labelled}
    if path.is_file():
        folds = parse_folds(raw.folders)
        if all({*fold["train"], *fold["val"]} == labelled for fold in folds):
            check_folds(raw, folds)
            _refuse_other_number(raw, folds, n_folds)
            return folds
        log(f"{path}: names other cases than the dataset has; folds are dealt anew")
    try:
        return split_folds(measured.cases, seed, n_folds or _earlier_number(raw))
    except InputError as error:
        raise InputError(f"{measured.dataset}: {error}") from None


def _earlier_number(raw: RawDataset) -> int:
    """How many folds there were before the cases changed, as the copy beside the plans still says."""
    try:
        earlier = read_json(raw.folders.preprocessed / "splits_final.json")
    except InputError:
        return N_FOLDS
    return len(earlier) if isinstance(earlier, list) and len(earlier) in LEGAL_N_FOLDS else N_FOLDS


def _refuse_other_number(raw: RawDataset, folds: Sequence[Fold], n_folds: int | None) -> None:
    if n_folds in (None, len(folds)):
        return
    folders = raw.folders
    models = f", move {folders.results} away" if folders.results.is_dir() else ""
    raise InputError(
        f"--folds {n_folds}: {folders.name} is dealt into {len(folds)} folds already, and models and encoders hang on "
        f"that deal; leave the option out to keep it, or delete {folds_file(folders)}{models} and run this again"
    )


def _preprocess(raw: RawDataset, plan: Plan, kept: KeptVolumes) -> None:
    """Write the network input of every training case, labelled or not; keep what this plan has made."""

    def drop_old_plan() -> None:
        refuse_while_read(raw.folders)
        # Should this be interrupted, nobody may train by the old plan on inputs of the new one.
        for suffix in (".json", ".txt"):
            raw.folders.plan(plan.preset, suffix).unlink(missing_ok=True)

    folder = raw.folders.inputs(plan.preset)
    write_network_inputs(raw, plan, raw.training_cases(), folder, {"plan": plan.digest}, drop_old_plan, kept.read)
