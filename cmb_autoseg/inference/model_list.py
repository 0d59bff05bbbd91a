"""Models that can be predicted with, and what each says of itself."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmb_autoseg.errors import InputError
from cmb_autoseg.inference.loading import family_of
from cmb_autoseg.inference.model_choice import STARTER_MODEL, available_folds, recipe_words
from cmb_autoseg.inference.model_folder import (
    fold_models,
    intended_use,
    operating_points,
    trained_channels,
    trained_plan,
)
from cmb_autoseg.records import Model, TrainingRange
from cmb_autoseg.workspace import DATASET_NAME, DatasetFolders, Workspace, model_folder_name

__all__ = ["KnownModel", "describe_model", "known_models"]


@dataclass(frozen=True)
class KnownModel:
    """One model folder with at least one finished fold."""

    name: str
    folder: Path
    choice: str
    """What to give `cmb_predict` for it; empty where it needs nothing."""
    init: str
    """What to give `cmb_train --init` to begin with it."""


def known_models(workspace: Path | None) -> Iterator[KnownModel]:
    """The model of the package, if it has one, and those of a workspace.

    Args:
        workspace: as the user named it; None for the usual one, which need not be there.

    Raises:
        InputError: there is no such folder.
    """
    if workspace is not None and not workspace.is_dir():
        raise InputError(f"--workspace {workspace}: no such folder; name the one that holds raw/ and results/")
    if available_folds(STARTER_MODEL):
        yield KnownModel("starter", STARTER_MODEL, "", "starter")
    results = Workspace.find(workspace).root / "results"
    where = "" if workspace is None else f" --workspace {shlex.quote(str(workspace))}"
    for folder in sorted(results.glob(f"Dataset*/{model_folder_name('*')}")):
        is_dataset = DATASET_NAME.fullmatch(folder.parent.name)
        if is_dataset and available_folds(folder) and (folder / "plans.json").is_file():
            dataset, name = DatasetFolders(results.parent, folder.parent.name), folder.name.split("__")[1]
            choice = f"-d {dataset.number} {recipe_words(name)}{where}"
            yield KnownModel(f"{dataset.name}, {name}", folder, choice, shlex.quote(str(folder)))


def describe_model(folder: Path) -> dict[str, Any]:
    """What a model has learned from and is for.

    Args:
        folder: of the model.

    Raises:
        InputError: its `plans.json` says nothing, or it or `operating_points.json` is damaged; or no fold is finished.
    """
    if not available_folds(folder):
        raise InputError(f"{folder}: none of its folds is trained to the end; train one, or copy the folder whole")
    plan, card = trained_plan(folder), _card(folder)
    begun = {fold.encoder.name for fold in fold_models(folder) if fold is not None and fold.encoder is not None}
    known = {} if card is None else {"subjects": card.n_subjects, "cases": card.n_cases, "lesions": card.n_lesions}
    return {
        "folder": str(folder),
        "family": family_of(folder),
        "folds": list(available_folds(folder)),
        "finalized": card is not None and bool(operating_points(folder)),
        "sequences": list(trained_channels(folder)),
        **_range(plan.training_range),
        "dataset": plan.dataset,
        "began_with": sorted(begun),
        "learned_from": known,
        "licence": None if card is None else card.licence,
        "intended_use": intended_use(folder),
    }


def _card(folder: Path) -> Model | None:
    try:
        return Model.read(folder / "model.json")
    except InputError:
        return None


def _range(seen: TrainingRange) -> dict[str, Any]:
    """In the order of axes that users know: x, y, z."""
    pairs = list(zip(seen.spacing_mm_min, seen.spacing_mm_max, strict=True))[::-1]
    return {
        "sequence_sets": [list(names) for names in seen.sequence_sets],
        "voxel_mm": [list(pair) for pair in pairs],
        "field_strength_t": list(seen.field_strength_t),
        "brain_volume_ml": list(seen.brain_volume_ml),
        "snr": None if seen.snr is None else list(seen.snr),
    }
