"""The training stage: one fold of one recipe on one preprocessed dataset."""

import json
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from cmb_autoseg._nnunet import (
    CONFIGURATION,
    FINAL_CHECKPOINT,
    LATEST_CHECKPOINT,
    NETWORK_INPUT_ENDS,
    dataset_json,
    nnunet_environment,
    nnunet_plans,
    preprocessed_folder,
    refuse_unusable_logger,
)
from cmb_autoseg.errors import CMBError, InputError
from cmb_autoseg.files import file_digest, read_json, text_digest, write_json
from cmb_autoseg.inference.model_folder import trained_settings
from cmb_autoseg.interruption import hold_back_stops
from cmb_autoseg.locking import own_folder
from cmb_autoseg.progress import Meter, log
from cmb_autoseg.raw_dataset import Fold, RawDataset, check_folds, folds_file, parse_folds
from cmb_autoseg.records import FoldModel, Plan
from cmb_autoseg.run_log import open_log
from cmb_autoseg.trainers.recipe import Recipe

__all__ = ["fold_folder", "train_fold"]

WORKERS_WITH_CUDA = 12
MIXTURES = {
    "plan": "plan",
    "recipe": "recipe or schedule",
    "seed": "seed",
    "folds": "deal of the cases to folds",
}
"""What the folds of one model must share, by key of its settings, and in words."""


def fold_folder(model: Path, fold: int) -> Path:
    return model / f"fold_{fold}"


def train_fold(
    raw: RawDataset,
    plan: Plan,
    recipe: Recipe,
    model: Path,
    fold: int,
    device: str,
    seed: int,
    checkpoint_steps: int | None = None,
) -> FoldModel:
    """Train one fold, or go on with it, or return the record of the finished one.

    A checkpoint is written every `checkpoint_steps` steps, after every epoch, and when the process is
    asked to end (Ctrl-C, SIGTERM, SIGHUP); a repeated call goes on from it.

    Args:
        raw: the dataset, for subjects and folds.
        plan: its plan.
        recipe: schedule, loss, sampling and augmentation.
        model: the results folder of this recipe.
        fold: from 0.
        device: `cuda` or `cpu`.
        seed: of the first weights and of all patches.
        checkpoint_steps: None for the trainer's own number.

    Raises:
        InputError: the folder holds folds of another plan, recipe or seed; no lesion to train on; a
            checkpoint that cannot be read.
        OutputError: another process trains this fold.
        Stopped: the process was asked to end, and the checkpoint is written.
    """
    folds = _folds(raw)
    settings: dict[str, object] = {
        "recipe": recipe.model_dump(mode="json"),
        "seed": seed,
        "plan": plan.model_dump(mode="json"),
        "folds": text_digest(json.dumps(folds)),
    }
    _refuse_mixture(model, settings)
    folder = fold_folder(model, fold)
    record_path = folder / "fold.json"
    if record_path.is_file() and (folder / FINAL_CHECKPOINT).is_file():
        log(f"fold {fold}: finished already, left as it is")
        return FoldModel.read(record_path)
    split = folds[fold]
    plans = nnunet_plans(_with_recipe(plan, recipe), model.name.split("__")[1], settings)
    content = dataset_json(plan.channels, len(split["train"]) + len(split["val"]), plan.dataset)
    with own_folder(folder, f"the training of fold {fold}"):
        _run(raw, plan, plans, content, folder, fold, device, checkpoint_steps)
        record = FoldModel(
            dataset=plan.dataset,
            recipe=recipe.name,
            fold=fold,
            seed=seed,
            epochs=recipe.epochs,
            steps_per_epoch=recipe.steps_per_epoch,
            training_cases=tuple(split["train"]),
            validation_cases=tuple(split["val"]),
            training_subjects=_subjects(raw, split["train"]),
            validation_subjects=_subjects(raw, split["val"]),
            checkpoint=file_digest(folder / FINAL_CHECKPOINT),
            parents=(plan.digest, recipe.digest),
        )
        record.write(record_path)
    return record


def _folds(raw: RawDataset) -> list[Fold]:
    """The folds; both copies of the folds must say the same, since nnU-Net reads the other one."""
    folds = parse_folds(raw.folders)
    check_folds(raw, folds)
    copy = raw.folders.preprocessed / "splits_final.json"
    if not copy.is_file() or read_json(copy) != folds:
        found = "differs from" if copy.is_file() else "is missing beside"
        raise InputError(
            f"{copy}: {found} {folds_file(raw.folders)}; run cmb_plan_preprocess -d {raw.folders.number} to copy it"
        )
    return folds


def _with_recipe(plan: Plan, recipe: Recipe) -> Plan:
    """The plan with the batch size and the features that the recipe insists on."""
    topology = plan.topology
    if recipe.network.features is not None:
        topology = topology.with_features(recipe.network.features)
    return plan.model_copy(update={"topology": topology, "batch_size": recipe.batch_size or plan.batch_size})


def _refuse_mixture(model: Path, settings: dict[str, object]) -> None:
    if not (model / "plans.json").is_file():
        return
    trained = trained_settings(model)
    for key, name in MIXTURES.items():
        if trained.get(key) != settings[key]:
            recipe = trained.get("recipe", {})
            raise InputError(
                f"{model}: holds folds trained with another {name}; folds of one model must share it: move that folder "
                f"away, or use the same settings as before ({recipe.get('epochs')} epochs of "
                f"{recipe.get('steps_per_epoch')} steps, seed {trained.get('seed')})"
            )


def _run(
    raw: RawDataset,
    plan: Plan,
    plans: dict[str, Any],
    content: dict[str, object],
    folder: Path,
    fold: int,
    device: str,
    checkpoint_steps: int | None,
) -> None:
    latest, final = folder / LATEST_CHECKPOINT, folder / FINAL_CHECKPOINT
    if final.is_file():
        latest.unlink(missing_ok=True)
        return
    _refuse_gaps(raw, plan)
    refuse_unusable_logger()
    with nnunet_environment(raw.folders, WORKERS_WITH_CUDA if device == "cuda" else 0):
        import torch

        from cmb_autoseg.trainers.cmb_trainer import CHECKPOINT_STEPS, CMBTrainer

        # nnU-Net's constructor takes this key out of the plans; its W&B logger goes on with the same run by it.
        ours = {**plans, "continue_training": latest.is_file()}
        trainer = CMBTrainer(ours, CONFIGURATION, fold, content, torch.device(device))
        trainer.plans_manager.plans.pop("continue_training", None)
        trainer.checkpoint_steps = checkpoint_steps or CHECKPOINT_STEPS
        if latest.exists():
            _go_on(trainer, latest)
        trainer.prepare()
        with own_folder(folder.parent, "a fold that begins", wait_s=60, nested=False):
            # Several folds may begin at a time, on several machines.
            _refuse_mixture(folder.parent, trainer.plans_manager.plans["cmb_autoseg"])
            write_json(folder.parent / "plans.json", trainer.plans_manager.plans)
            write_json(folder.parent / "dataset.json", content)
        steps, done = trainer.num_epochs * trainer.num_iterations_per_epoch, trainer.steps_done
        open_log(raw.folders.workspace)
        with hold_back_stops() as trainer.stop, Meter(f"Training fold {fold}", steps, done) as meter:
            trainer.on_step = meter.advance
            trainer.run_training()


def _refuse_gaps(raw: RawDataset, plan: Plan) -> None:
    folder, made = preprocessed_folder(raw.folders, plan.preset), raw.folders.plan(plan.preset)
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


def _subjects(raw: RawDataset, names: list[str]) -> tuple[str, ...]:
    subject_of = {case.name: f"{case.cohort}/{case.subject}" for case in raw.cases}
    return tuple(sorted({subject_of[name] for name in names}))
