"""Plans that are on disk: which are still of the raw dataset as it is."""

from pathlib import Path

from cmb_autoseg.errors import InputError
from cmb_autoseg.planners.explain import explain
from cmb_autoseg.raw_dataset import RawDataset, check_folds, parse_folds, read_raw_dataset
from cmb_autoseg.records import Fingerprint, Plan
from cmb_autoseg.workspace import DatasetFolders

__all__ = ["current_fingerprint", "fingerprint_path", "stored_explanation"]


def fingerprint_path(folders: DatasetFolders) -> Path:
    return folders.preprocessed / "dataset_fingerprint.json"


def current_fingerprint(raw: RawDataset, plan: Plan) -> Fingerprint | None:
    """The stored fingerprint, if it is of the raw dataset as it is and the plan was made from it."""
    path = fingerprint_path(raw.folders)
    if not path.is_file():
        return None
    measured = Fingerprint.read(path)
    return measured if measured.parents == (raw.digest,) and plan.parents == (measured.digest,) else None


def stored_explanation(
    folders: DatasetFolders,
    preset: str,
    device: str | None = None,
    memory_gb: float | None = None,
    n_folds: int | None = None,
) -> str | None:
    """The explanation of the plan that is there, without any work; None where one has to be made.

    Args:
        folders: the dataset's.
        preset: which plan.
        device: what the user asked for, if anything; a plan for another device does not count.
        memory_gb: likewise.
        n_folds: likewise.

    Raises:
        InputError: no finished raw dataset, or folds that were edited into something unusable.
        LeakageError: a subject stands on both sides of a fold.
    """
    raw = read_raw_dataset(folders)
    if not folders.plan(preset).is_file():
        return None
    try:
        plan = Plan.read(folders.plan(preset))
        measured = current_fingerprint(raw, plan)
        folds = parse_folds(folders)
    except InputError:  # of another version, or incomplete: planned anew
        return None
    if n_folds not in (None, len(folds)):
        return None
    if measured is None or device not in (None, plan.device) or memory_gb not in (None, plan.memory_target_gb):
        return None
    check_folds(raw, folds)
    return explain(plan, measured, folds)
