"""The training stage: one fold of one recipe on one preprocessed dataset."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cmb_autoseg.errors import InputError
from cmb_autoseg.files import file_digest, read_json
from cmb_autoseg.leakage import subject_of
from cmb_autoseg.locking import own_folder
from cmb_autoseg.progress import log
from cmb_autoseg.raw_dataset import Fold, RawDataset, check_folds, folds_digest, folds_file, kind_of_data, parse_folds
from cmb_autoseg.records import DataKind, Encoder, FoldModel, Plan, joined_kinds
from cmb_autoseg.trainers.encoder_choice import NO_ENCODER, choose_encoder
from cmb_autoseg.trainers.fold_cases import FoldCases, fold_cases
from cmb_autoseg.trainers.fold_run import FoldRun
from cmb_autoseg.trainers.fold_settings import FoldSettings, refuse_mixture
from cmb_autoseg.trainers.members import Member
from cmb_autoseg.trainers.pretrained_encoder import PretrainedEncoder, encoder_identity, option_for
from cmb_autoseg.trainers.recipe import Recipe
from cmb_autoseg.workspace import FINAL_CHECKPOINT, LATEST_CHECKPOINT

__all__ = ["FoldSettings", "check_fold", "finished_fold", "fold_folder", "train_fold"]

RECORD = "fold.json"


def fold_folder(model: Path, fold: int) -> Path:
    return model / f"fold_{fold}"


def train_fold(
    raw: RawDataset,
    plan: Plan,
    recipe: Recipe,
    model: Path,
    fold: int,
    settings: FoldSettings,
    members: Sequence[Member] = (),
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
        members: models that the recipe is built on, in the order of `recipe.members`; see
            `pipeline.members.find_members`.

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
        "members": {member.recipe: member.identity for member in members} or None,
    }
    cases = _without_unseen(cases, recipe, members)
    refuse_mixture(model, shared)
    folder = fold_folder(model, fold)
    finished = finished_fold(model, fold, encoder)
    if finished is not None:
        log(f"fold {fold}: finished already, left as it is")
        return finished
    with own_folder(folder, f"the training of fold {fold}"):
        if not (folder / FINAL_CHECKPOINT).is_file():
            _train(FoldRun(raw, plan, recipe, model, fold, cases, settings, shared, encoder, tuple(members)))
        (folder / LATEST_CHECKPOINT).unlink(missing_ok=True)
        checkpoint = file_digest(folder / FINAL_CHECKPOINT)
        record = _record(raw, plan, recipe, fold, settings, cases, encoder, members, checkpoint)
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
            f"({_in_words(chosen)}); move {model} away to train it anew, or begin as before: cmb_train "
            f"{option_for(None if began is None else encoder_identity(began))}"
        )
    return record


def _in_words(record: Encoder | None) -> str:
    if record is None:
        return "random weights"
    return f"{'model' if record.method == 'segmentation' else 'encoder'} {record.name} of weights {record.weights[:15]}"


def check_fold(
    raw: RawDataset, plan: Plan, recipe: Recipe, fold: int, settings: FoldSettings
) -> tuple[list[Fold], FoldCases, PretrainedEncoder | None]:
    """What a fold is made of; quick, so that a later fold is refused before an earlier one has trained for hours.

    Returns:
        All folds of the dataset, the cases of this one, and its encoder.

    Raises:
        InputError, LeakageError: as `train_fold`, but for what only training shows.
    """
    if recipe.family != "patches" and str(settings.encoder or NO_ENCODER) != NO_ENCODER:
        raise InputError(
            f"--encoder {settings.encoder}: recipe {recipe.name} sees no 3D patches, for which encoders are made; "
            "leave the option out"
        )
    folds = _folds(raw)
    cases = fold_cases(raw, plan, folds, fold, recipe, settings.budget, settings.seed)
    return folds, cases, choose_encoder(raw, folds, fold, recipe, settings.encoder)


def _without_unseen(cases: FoldCases, recipe: Recipe, members: Sequence[Member]) -> FoldCases:
    """The cases of a fold without those of validation that no member sees, so that the model cannot predict them.

    Raises:
        InputError: none is left.
    """
    if not members:
        return cases
    validation = tuple(case for case in cases.validation if any(case.name in member.maps for member in members))
    if not validation:
        names = " or ".join(member.recipe for member in members)
        raise InputError(
            f"recipe {recipe.name}: none of the fold's {len(cases.validation)} validation cases has a sequence that "
            f"{names} has learned from; build it on a recipe of all sequences"
        )
    return replace(cases, validation=validation)


def _record(
    raw: RawDataset,
    plan: Plan,
    recipe: Recipe,
    fold: int,
    settings: FoldSettings,
    cases: FoldCases,
    encoder: PretrainedEncoder | None,
    members: Sequence[Member],
    checkpoint: str,
) -> FoldModel:
    parent = encoder.record if encoder is not None else None
    seen = {*cases.learned_from, *(parent.subjects if parent is not None else ())}
    seen.update(subject for member in members for subject in member.records[fold].training_subjects)
    kinds: list[DataKind | None] = [kind_of_data((raw, case) for case in (*cases.training, *cases.unlabelled))]
    kinds += [parent.data] if parent is not None else []
    kinds += [member.records[fold].data for member in members]
    kinds += [""] if recipe.boxes is not None and recipe.boxes.weights is not None else []  # photographs
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
        data=joined_kinds(kinds),
        checkpoint=checkpoint,
        parents=(
            plan.digest,
            recipe.digest,
            *((parent.weights,) if parent is not None else ()),
            *(member.records[fold].checkpoint for member in members),
        ),
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


def _train(run: FoldRun) -> None:
    """Train by the kind of system that the recipe is; each kind's module is imported when it is needed."""
    _tell_set_aside(run)
    family = run.recipe.family
    if family == "patches":
        from cmb_autoseg.trainers.patches.run import train_patches

        return train_patches(run)
    if family == "slices":
        from cmb_autoseg.trainers.slices.run import train_slices

        return train_slices(run)
    if family == "boxes":
        from cmb_autoseg.trainers.boxes.run import train_boxes

        return train_boxes(run)
    if family == "two_stage":
        from cmb_autoseg.trainers.candidates.run import train_second_stage

        return train_second_stage(run)
    from cmb_autoseg.trainers.mixture.run import train_mixture

    return train_mixture(run)


def _tell_set_aside(run: FoldRun) -> None:
    aside = {subject_of(case) for case in run.cases.set_aside}
    everyone = {subject_of(case) for case in run.cases.training}
    if not aside:
        return
    if aside == everyone:
        log(
            f"fold {run.fold}: fewer than two of its {len(everyone)} training subjects have microbleeds, so that "
            "the schedule decides by the subjects that are learned from; schedule: {keep: last} needs none"
        )
        return
    log(
        f"fold {run.fold}: the schedule decides by {len(aside)} of {len(everyone)} training subjects, who are not "
        f"trained on: {', '.join(sorted(aside))}"
    )
