"""One fold of a network that segments axial slices."""

from cmb_autoseg.trainers.fold_run import FoldRun
from cmb_autoseg.trainers.loop import train_task
from cmb_autoseg.trainers.slices.fold_pictures import open_fold
from cmb_autoseg.trainers.slices.task import SliceTask

__all__ = ["train_slices"]


def train_slices(run: FoldRun) -> None:
    """Train a network of slices, or go on with it; `checkpoint_final.pth` says that it is done.

    Raises:
        InputError: a scan is damaged, no training slice has a microbleed, or a checkpoint is damaged.
        OutputError: the pictures cannot be written (a full disk).
        Stopped: the process was asked to end, and the checkpoint is written.
    """
    settings = run.recipe.slices
    assert settings is not None
    training, validation = open_fold(run, settings.pictures, settings.pictures.size, settings.lesion_diameter_mm)
    roles = run.plan.channels
    train_task(run, lambda: SliceTask(run.recipe, roles, training, validation, run.settings.device))
