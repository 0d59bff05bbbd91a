"""The training stage: one fold of one recipe on one preprocessed dataset."""

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
    refuse_unusable_logger,
)
from cmb_autoseg.errors import CMBError, InputError
from cmb_autoseg.files import file_digest, read_json, write_json
from cmb_autoseg.interruption import hold_back_stops
from cmb_autoseg.leakage import subject_of
from cmb_autoseg.locking import own_folder
from cmb_autoseg.progress import Meter, log, telling
from cmb_autoseg.raw_dataset import Fold, RawDataset, check_folds, folds_digest, folds_file, parse_folds
from cmb_autoseg.records import Encoder, FoldModel, Plan
from cmb_autoseg.run_log import open_log
from cmb_autoseg.trainers.encoder_choice import PretrainedEncoder, choose_encoder
from cmb_autoseg.trainers.fold_cases import FoldCases, fold_cases
from cmb_autoseg.trainers.fold_settings import FoldSettings, refuse_mixture
from cmb_autoseg.trainers.recipe import Recipe

__all__ = ["FoldSettings", "check_fold", "finished_fold", "fold_folder", "refuse_missing_inputs", "train_fold"]

WORKERS_WITH_CUDA = 12
RECORD = "fold.json"


def fold_folder(model: Path, fold: int) -> Path:
    return model / f"fold_{fold}"


def train_fold(
    raw: RawDataset, plan: Plan, recipe: Recipe, model: Path, fold: int, settings: FoldSettings
) -> FoldModel:
    """Train one fold, or go on with it, or return the record of the finished one.

    A checkpoint is written every so many steps, after every epoch, and when the process is asked to end
    (Ctrl-C, SIGTERM, SIGHUP); a repeated call goes on from it.

    Args:
        raw: the dataset, for subjects and folds.
        plan: its plan.
        recipe: schedule, loss, sampling and augmentation.
        model: the results folder of this recipe, `.../DATASET/CMBTrainer__NAME__3d`; nnU-Net finds it by that name.
        fold: from 0.
        settings: device, seed, encoder, budget.

    Raises:
        InputError: the folder holds folds of another plan, recipe, seed, budget or encoder; the fold is finished
            and began with other weights; no lesion to
            train on; a checkpoint that cannot be read; an encoder that is missing or does not fit; a
            recipe that needs unlabelled cases or sequences that are not there.
        LeakageError: the encoder has seen a subject that the fold is judged on.
        OutputError: another process trains this fold.
        Stopped: the process was asked to end, and the checkpoint is written.
    """
    if model.parent.name != plan.dataset or len(model.name.split("__")) != 3:
        raise ValueError(f"{model}: not of the form .../{plan.dataset}/CMBTrainer__NAME__3d")
    folds, cases, encoder = check_fold(raw, plan, recipe, fold, settings)
    shared: dict[str, object] = {
        "recipe": recipe.model_dump(mode="json"),
        "seed": settings.seed,
        "plan": plan.model_dump(mode="json"),
        "folds": folds_digest(folds),
        "budget": settings.budget,
        "encoder": encoder.identity if encoder is not None else None,
    }
    refuse_mixture(model, shared)
    folder = fold_folder(model, fold)
    finished = finished_fold(model, fold, encoder)
    if finished is not None:
        log(f"fold {fold}: finished already, left as it is")
        return finished
    with own_folder(folder, f"the training of fold {fold}"):
        if not (folder / FINAL_CHECKPOINT).is_file():
            refuse_missing_inputs(raw, plan)
            refuse_unusable_logger()
            _run(raw, recipe.applied_to(plan), shared, folder, fold, cases, encoder, settings)
        (folder / LATEST_CHECKPOINT).unlink(missing_ok=True)
        record = _record(plan, recipe, fold, settings, cases, encoder, file_digest(folder / FINAL_CHECKPOINT))
        record.write(folder / RECORD)
    return record


def finished_fold(model: Path, fold: int, encoder: PretrainedEncoder | None) -> FoldModel | None:
    """The record of a fold that is trained already; None of one that is not.

    Raises:
        InputError: it began with other weights than the encoder's that is chosen now.
    """
    folder = fold_folder(model, fold)
    if not (folder / RECORD).is_file() or not (folder / FINAL_CHECKPOINT).is_file():
        return None
    record = FoldModel.read(folder / RECORD)
    began, chosen = record.encoder, encoder.record if encoder is not None else None
    if (began and began.weights) != (chosen and chosen.weights):
        where = encoder.path if encoder is not None else "none"
        raise InputError(
            f"{folder}: is finished and began with {_in_words(began)}, while now {where} is chosen "
            f"({_in_words(chosen)}); move {model} away to train it anew, or begin with the former file again "
            "(cmb_train --encoder FILE)"
        )
    return record


def _in_words(record: Encoder | None) -> str:
    return f"encoder {record.name} of weights {record.weights[:15]}" if record is not None else "random weights"


def check_fold(
    raw: RawDataset, plan: Plan, recipe: Recipe, fold: int, settings: FoldSettings
) -> tuple[list[Fold], FoldCases, PretrainedEncoder | None]:
    """What a fold is made of; quick, so that a later fold is refused before an earlier one has trained for hours.

    Returns:
        All folds of the dataset, the cases of this one, and its encoder.

    Raises:
        InputError, LeakageError: as `train_fold`, but for what only training shows.
    """
    folds = _folds(raw)
    cases = fold_cases(raw, plan, folds, fold, recipe, settings.budget, settings.seed)
    return folds, cases, choose_encoder(raw, folds, fold, recipe, settings.encoder)


def _record(
    plan: Plan,
    recipe: Recipe,
    fold: int,
    settings: FoldSettings,
    cases: FoldCases,
    encoder: PretrainedEncoder | None,
    checkpoint: str,
) -> FoldModel:
    parent = encoder.record if encoder is not None else None
    seen = {*cases.learned_from, *(parent.subjects if parent is not None else ())}
    return FoldModel(
        dataset=plan.dataset,
        recipe=recipe.name,
        fold=fold,
        seed=settings.seed,
        epochs=recipe.epochs,
        steps_per_epoch=recipe.steps_per_epoch,
        training_cases=tuple(case.name for case in cases.training),
        validation_cases=tuple(case.name for case in cases.validation),
        training_subjects=tuple(sorted(seen)),
        unlabelled_cases=tuple(case.name for case in cases.unlabelled),
        encoder=parent,
        budget=settings.budget,
        validation_subjects=tuple(sorted({subject_of(case) for case in cases.validation})),
        checkpoint=checkpoint,
        parents=(plan.digest, recipe.digest, *((parent.weights,) if parent is not None else ())),
    )


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


def _run(
    raw: RawDataset,
    plan: Plan,
    shared: dict[str, object],
    folder: Path,
    fold: int,
    cases: FoldCases,
    encoder: PretrainedEncoder | None,
    settings: FoldSettings,
) -> None:
    model, latest = folder.parent, folder / LATEST_CHECKPOINT
    content = dataset_json(plan.channels, len(cases.training) + len(cases.validation), plan.dataset)
    plans = nnunet_plans(plan, model.name.split("__")[1], shared)
    workers = WORKERS_WITH_CUDA if settings.device == "cuda" else 0
    with nnunet_environment(raw.folders, workers, results=model.parents[1]):
        with telling("loading nnU-Net ..."):
            import torch

            from cmb_autoseg.trainers.cmb_trainer import CHECKPOINT_STEPS, CMBTrainer

        # nnU-Net's constructor takes this key out of the plans; its W&B logger goes on with the same run by it.
        ours = {**plans, "continue_training": latest.is_file()}
        trainer = CMBTrainer(ours, CONFIGURATION, fold, content, torch.device(settings.device))
        trainer.plans_manager.plans.pop("continue_training", None)
        trainer.cases, trainer.encoder = cases, encoder
        trainer.checkpoint_steps = settings.checkpoint_steps or CHECKPOINT_STEPS
        if latest.exists():
            _go_on(trainer, latest)
        trainer.prepare()
        with own_folder(model, "a fold that begins", wait_s=60, nested=False):
            # Several folds may begin at a time, on several machines.
            refuse_mixture(model, shared)
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
