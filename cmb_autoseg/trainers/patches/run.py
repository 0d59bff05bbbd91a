"""One fold of a network that sees 3D patches, trained by nnU-Net's loop with our hooks."""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from cmb_autoseg._nnunet import (
    CONFIGURATION,
    NETWORK_INPUT_ENDS,
    dataset_json,
    nnunet_environment,
    nnunet_plans,
    refuse_unusable_logger,
)
from cmb_autoseg.errors import CMBError, InputError
from cmb_autoseg.files import write_json
from cmb_autoseg.interruption import hold_back_stops
from cmb_autoseg.locking import own_folder
from cmb_autoseg.progress import Meter, log, telling
from cmb_autoseg.raw_dataset import RawDataset
from cmb_autoseg.records import Plan
from cmb_autoseg.run_log import open_log
from cmb_autoseg.trainers.fold_run import FoldRun
from cmb_autoseg.trainers.fold_settings import refuse_mixture
from cmb_autoseg.workspace import LATEST_CHECKPOINT

__all__ = ["refuse_missing_inputs", "train_patches"]

WORKERS_WITH_CUDA = 12


def train_patches(run: FoldRun) -> None:
    """Train a network that sees 3D patches, or go on with it; `checkpoint_final.pth` says that it is done.

    Raises:
        InputError: a network input is missing or damaged, there is no lesion to train on, or a checkpoint is damaged.
        Stopped: the process was asked to end, and the checkpoint is written.
    """
    raw, model, fold, cases, settings = run.raw, run.model, run.fold, run.cases, run.settings
    refuse_missing_inputs(raw, run.plan)
    refuse_unusable_logger()
    plan, shared, latest = run.recipe.applied_to(run.plan), dict(run.shared), run.folder / LATEST_CHECKPOINT
    content = dataset_json(plan.channels, len(cases.training) + len(cases.validation), plan.dataset)
    plans = nnunet_plans(plan, model.name.split("__")[1], shared)
    workers = WORKERS_WITH_CUDA if settings.device == "cuda" else 0
    with nnunet_environment(raw.folders, workers, results=model.parents[1]):
        with telling("loading nnU-Net ..."):
            import torch

            from cmb_autoseg.trainers.patches.cmb_trainer import CHECKPOINT_STEPS, CMBTrainer

        # nnU-Net's constructor takes this key out of the plans; its W&B logger goes on with the same run by it.
        ours = {**plans, "continue_training": latest.is_file()}
        trainer = CMBTrainer(ours, CONFIGURATION, fold, content, torch.device(settings.device))
        trainer.plans_manager.plans.pop("continue_training", None)
        trainer.cases, trainer.encoder = cases, run.encoder
        trainer.checkpoint_steps = settings.checkpoint_steps or CHECKPOINT_STEPS
        if latest.exists():
            _go_on(trainer, latest)
        trainer.prepare()
        with own_folder(model, "a fold that begins", wait_s=60, nested=False):
            # Several folds may begin at a time, on several machines.
            refuse_mixture(model, shared, run.folder)
            write_json(model / "plans.json", trainer.plans_manager.plans)
            write_json(model / "dataset.json", content)
        steps, done = trainer.num_epochs * trainer.num_iterations_per_epoch, trainer.steps_done
        open_log(raw.folders.workspace)
        with hold_back_stops() as trainer.stop, Meter(f"Training fold {fold}", steps, done, slow=True) as meter:
            trainer.on_step = meter.advance
            trainer.run_training()


def refuse_missing_inputs(raw: RawDataset, plan: Plan) -> None:
    """Refuse to learn from cases that are not preprocessed by this plan.

    Raises:
        InputError: names the first that is missing.
    """
    folder, made = raw.folders.inputs(plan.preset), raw.folders.plan(plan.preset)
    cure = f"run cmb_plan_preprocess -d {raw.folders.number} --preset {plan.preset}"
    if not folder.is_dir():
        raise InputError(f"{plan.dataset}: not preprocessed; {cure}")
    if not made.is_file() or Plan.read(made).digest != plan.digest:
        raise InputError(f"{made}: changes at this moment; wait until cmb_plan_preprocess has ended, or {cure}")
    for case in raw.training_cases():
        files = [folder / f"{case.name}{end}" for end in NETWORK_INPUT_ENDS]
        gone = next((path for path in files if not path.is_file()), None)
        if gone is not None:
            raise InputError(f"{gone}: no such file, so {case.name} is not preprocessed; {cure}")


def _go_on(trainer: Any, checkpoint: Path) -> None:
    try:
        trainer.load_checkpoint(str(checkpoint))
    except CMBError:
        raise
    except (AttributeError, EOFError, KeyError, OSError, RuntimeError, TypeError, UnpicklingError, ValueError) as error:
        raise InputError(
            f"{checkpoint}: training cannot go on from it ({type(error).__name__}); "
            "delete it to train this fold from the start"
        ) from None
    log(f"fold {trainer.fold}: goes on after step {trainer.steps_done}, in epoch {trainer.current_epoch + 1}")
