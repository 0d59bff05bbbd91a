"""The training stage: one fold of one recipe on one preprocessed dataset."""

from pathlib import Path
from typing import Any

from cmb_autoseg._nnunet import CONFIGURATION, dataset_json, nnunet_environment, nnunet_plans, preprocessed_folder
from cmb_autoseg.errors import InputError
from cmb_autoseg.files import file_digest, read_json
from cmb_autoseg.progress import Meter, log
from cmb_autoseg.raw_dataset import RawDataset
from cmb_autoseg.records import FoldModel, Plan
from cmb_autoseg.trainers.recipe import Recipe

__all__ = ["fold_folder", "train_fold"]

WORKERS_WITH_CUDA = 12


def fold_folder(model: Path, fold: int) -> Path:
    return model / f"fold_{fold}"


def train_fold(
    raw: RawDataset, plan: Plan, recipe: Recipe, model: Path, fold: int, device: str, seed: int
) -> FoldModel:
    """Train one fold, or go on with it, or return the record of the finished one.

    Args:
        raw: the dataset, for subjects and folds.
        plan: its plan.
        recipe: schedule, loss, sampling and augmentation.
        model: the results folder of this recipe.
        fold: from 0.
        device: `cuda` or `cpu`.
        seed: of the first weights and of all patches.

    Raises:
        InputError: the folder holds folds of another plan, recipe or seed; no lesion to train on.
    """
    settings: dict[str, object] = {
        "recipe": recipe.model_dump(mode="json"),
        "seed": seed,
        "plan": plan.model_dump(mode="json"),
    }
    _refuse_mixture(model, settings)
    folder = fold_folder(model, fold)
    record_path = folder / "fold.json"
    if record_path.is_file() and (folder / "checkpoint_final.pth").is_file():
        log(f"fold {fold}: finished already, left as it is")
        return FoldModel.read(record_path)
    split = read_json(raw.folders.raw / "splits_final.json")[fold]
    plans = nnunet_plans(_with_recipe(plan, recipe), model.name.split("__")[1], settings)
    content = dataset_json(plan.channels, len(split["train"]) + len(split["val"]), plan.dataset)
    _run(raw, plan, plans, content, folder, fold, device)
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
        checkpoint=file_digest(folder / "checkpoint_final.pth"),
        parents=(plan.digest, recipe.digest),
    )
    record.write(record_path)
    return record


def _with_recipe(plan: Plan, recipe: Recipe) -> Plan:
    """The plan with the batch size and the features that the recipe insists on."""
    topology = plan.topology
    if recipe.network.features is not None:
        topology = topology.with_features(recipe.network.features)
    return plan.model_copy(update={"topology": topology, "batch_size": recipe.batch_size or plan.batch_size})


def _refuse_mixture(model: Path, settings: dict[str, object]) -> None:
    if not (model / "plans.json").is_file():
        return
    trained = read_json(model / "plans.json")["cmb_autoseg"]
    for key, name in (("plan", "plan"), ("recipe", "recipe or schedule"), ("seed", "seed")):
        if trained[key] != settings[key]:
            raise InputError(
                f"{model}: holds folds trained with another {name}; folds of one model must share it: "
                "move that folder away, or use the same settings as before"
            )


def _run(
    raw: RawDataset, plan: Plan, plans: dict[str, Any], content: dict[str, object], folder: Path, fold: int, device: str
) -> None:
    with nnunet_environment(raw.folders, WORKERS_WITH_CUDA if device == "cuda" else 0):
        import torch

        from cmb_autoseg.trainers.cmb_trainer import CMBTrainer

        if not preprocessed_folder(raw.folders, plan.preset).is_dir():
            raise InputError(f"{plan.dataset}: not preprocessed; run cmb_plan_preprocess -d {raw.folders.number}")
        # nnU-Net's constructor takes this key out of the plans.
        trainer = CMBTrainer({**plans, "continue_training": False}, CONFIGURATION, fold, content, torch.device(device))
        trainer.plans_manager.plans.pop("continue_training", None)
        latest, final = folder / "checkpoint_latest.pth", folder / "checkpoint_final.pth"
        if final.is_file():
            return
        if latest.is_file():
            trainer.load_checkpoint(str(latest))
            log(f"fold {fold}: goes on after epoch {trainer.current_epoch} of {trainer.num_epochs}")
        steps = trainer.num_iterations_per_epoch
        with Meter(f"Training fold {fold}", trainer.num_epochs * steps, trainer.current_epoch * steps) as meter:
            trainer.on_step = meter.advance
            trainer.run_training()


def _subjects(raw: RawDataset, names: list[str]) -> tuple[str, ...]:
    subject_of = {case.name: f"{case.cohort}/{case.subject}" for case in raw.cases}
    return tuple(sorted({subject_of[name] for name in names}))
