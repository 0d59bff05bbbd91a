"""Nobody is judged by who was learned from: subjects of the training of a model that predicted."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from cmb_autoseg.errors import LeakageError
from cmb_autoseg.evaluation.inputs.run_times import run_records
from cmb_autoseg.files import read_json

__all__ = ["refuse_training_subjects"]

SUBJECTS_NAMED = 5


def refuse_training_subjects(predicted: Path, subjects: Collection[str], flag: str = "-p") -> None:
    """Refuse predictions of subjects that their own model has learned from.

    Only what the records know can be refused: the run's record in the folder of the predictions names the model and
    its folds, whose `fold.json` lists the subjects; where one of these is not there any more, nothing is said.

    Args:
        predicted: folder of the predictions.
        subjects: of the scored cases, `cohort/subject`.
        flag: by which the folder was given: predictions of validation must not be of the training either.

    Raises:
        LeakageError: names the subjects, the model and the fold.
    """
    for run in run_records(predicted):
        for fold, path in _folds(run).items():
            seen = sorted(_learned_from(path) & {*subjects})
            if seen:
                more = f" and {len(seen) - SUBJECTS_NAMED} more" if len(seen) > SUBJECTS_NAMED else ""
                raise LeakageError(
                    f"{flag} {predicted}: fold {fold} of {path.parents[1]} predicted, which has learned from "
                    f"{', '.join(seen[:SUBJECTS_NAMED])}{more}; score subjects that it has not seen, or use the "
                    "out-of-fold predictions of cmb_finalize"
                )


def _learned_from(path: Path) -> frozenset[str]:
    """Subjects of a fold's record, also of one that another version wrote."""
    record = read_json(path)
    subjects = record.get("training_subjects") if isinstance(record, dict) else None
    return frozenset(map(str, subjects)) if isinstance(subjects, list) else frozenset()


def _folds(run: Mapping[str, Any]) -> dict[int, Path]:
    """Records of the folds that predicted, as far as they are still there."""
    model = run.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("folder"), str):
        return {}
    folds = model.get("folds")
    folder = Path(model["folder"])
    paths = {fold: folder / f"fold_{fold}" / "fold.json" for fold in folds} if isinstance(folds, list) else {}
    return {fold: path for fold, path in paths.items() if path.is_file()}
