"""Models inside the folder of another model, so that this one can be copied elsewhere as a whole."""

import os
import shutil
from pathlib import Path

from cmb_autoseg.files import atomic_path
from cmb_autoseg.workspace import FINAL_CHECKPOINT

__all__ = ["copy_fold"]

MODEL_FILES = ("plans.json", "dataset.json")


def copy_fold(source: Path, target: Path, fold: int) -> None:
    """Copy what it takes to predict by one fold of a model, and of the models inside its folder.

    Checkpoints are hard links where the file system has them, since nothing ever changes one in place.

    Args:
        source: folder of a model.
        target: becomes a folder of the same model, with the folds that were copied so far.
        fold: from 0.

    Raises:
        OutputError: it cannot be written (a full disk).
    """
    for plans in sorted(source.rglob("plans.json")):
        folder = target / plans.parent.relative_to(source)
        for name in MODEL_FILES:
            with atomic_path(folder / name) as temporary:
                shutil.copyfile(plans.parent / name, temporary)
        checkpoint = Path(f"fold_{fold}", FINAL_CHECKPOINT)
        if (plans.parent / checkpoint).is_file():
            _link(plans.parent / checkpoint, folder / checkpoint)


def _link(source: Path, target: Path) -> None:
    with atomic_path(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
