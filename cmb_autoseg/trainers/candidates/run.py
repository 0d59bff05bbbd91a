"""Train the second stage of one fold."""

import numpy as np

from cmb_autoseg.locking import own_folder
from cmb_autoseg.progress import log, telling
from cmb_autoseg.trainers.candidates.pool import Pool, gather
from cmb_autoseg.trainers.candidates.tasks import CandidateTask, judged_precision, make_task
from cmb_autoseg.trainers.fold_run import FoldRun
from cmb_autoseg.trainers.loop import train_task
from cmb_autoseg.trainers.model_copy import copy_fold
from cmb_autoseg.trainers.recipe import TwoStageSettings
from cmb_autoseg.workspace import FIRST_STAGE

__all__ = ["train_second_stage"]

FEW_CANDIDATES = 20
"""Fewer are warned of: a second stage that has seen hardly any candidate has learned from misses and random places."""


def train_second_stage(run: FoldRun) -> None:
    """Train what confirms or vetoes the candidates of the recipe's first stage, or go on with it.

    The first stage's fold is copied into the model's folder, so that this predicts wherever it is.

    Raises:
        InputError: no microbleed or nothing wrong to learn from, no map of the training cases, or a checkpoint that
            cannot be gone on from.
        Stopped: the process was asked to end, and the checkpoint is written.
    """
    settings = run.recipe.two_stage
    assert settings is not None
    with telling("looking for candidates ..."):
        training = gather(run, settings, run.cases.drawn_from, for_training=True)
        validation = gather(run, settings, run.cases.watched, for_training=False)
    log(f"fold {run.fold}: {_told(run, training, validation)}")
    _warn_of_few(run, settings, training)

    def build() -> CandidateTask:
        task = make_task(run, settings, training, validation)
        with own_folder(run.model, "a fold that begins", wait_s=60, nested=False):
            copy_fold(run.members[0].folder, run.model / FIRST_STAGE, run.fold)
        return task

    train_task(run, build)


def _warn_of_few(run: FoldRun, settings: TwoStageSettings, training: Pool) -> None:
    """A first stage that hardly proposes anything leaves nothing to confirm or veto, in training as in use."""
    if training.n_candidates < FEW_CANDIDATES:
        log(
            f"fold {run.fold}: warning: {run.members[0].recipe} proposes {training.n_candidates} candidates in "
            f"{training.n_cases} cases to learn from; with so few {run.recipe.name} can hardly change what it says: "
            f"lower two_stage.threshold ({settings.threshold:g}), or train {run.members[0].recipe} longer first"
        )


def _told(run: FoldRun, training: Pool, validation: Pool) -> str:
    """What there is to learn from, and how good the first stage is by itself."""
    first = np.array([place.first for place in validation.places])
    is_right = np.array([place.is_right for place in validation.places], dtype=bool)
    alone = f"average precision by {run.members[0].recipe} alone {judged_precision(first, is_right):.3f}"
    return (
        f"{len(training.places)} places of {training.n_cases} cases to learn from, {len(training.right)} of them right "
        f"({training.n_missed} microbleeds that {run.members[0].recipe} missed); "
        f"{len(validation.places)} candidates in {validation.n_cases} cases to watch, {int(is_right.sum())} of them "
        "right"
        f"{', ' + alone if is_right.any() else ''}"
    )
