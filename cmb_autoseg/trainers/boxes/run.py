"""One fold of a detector of boxes in axial slices."""

from cmb_autoseg.trainers.boxes.networks import read_weights
from cmb_autoseg.trainers.boxes.task import BoxTask
from cmb_autoseg.trainers.fold_run import FoldRun
from cmb_autoseg.trainers.loop import train_task
from cmb_autoseg.trainers.slices.fold_pictures import open_fold

__all__ = ["train_boxes"]


def train_boxes(run: FoldRun) -> None:
    """Train a detector, or go on with it; `checkpoint_final.pth` says that it is done.

    Raises:
        InputError: a scan is damaged, no training slice has a microbleed, the file of weights does not fit, or a
            checkpoint is damaged.
        OutputError: the pictures cannot be written (a full disk).
        Stopped: the process was asked to end, and the checkpoint is written.
    """
    settings = run.recipe.boxes
    assert settings is not None
    weights = read_weights(settings)
    training, validation = open_fold(run, settings.pictures, (settings.size, settings.size))
    roles = run.plan.channels
    train_task(run, lambda: BoxTask(run.recipe, roles, training, validation, run.settings.device, weights))
