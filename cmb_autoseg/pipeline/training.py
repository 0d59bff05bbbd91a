"""Folds of a recipe, one after the other."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cmb_autoseg.pipeline.members import find_members
from cmb_autoseg.pipeline.stored import read_plan, refuse_stale_plan
from cmb_autoseg.raw_dataset import read_raw_dataset
from cmb_autoseg.records import FoldModel
from cmb_autoseg.trainers.encoder_choice import refuse_mixed_encoders
from cmb_autoseg.trainers.recipe import Recipe
from cmb_autoseg.trainers.train import FoldSettings, check_fold, finished_fold, train_fold
from cmb_autoseg.workspace import DatasetFolders

__all__ = ["TrainSettings", "train"]


@dataclass(frozen=True)
class TrainSettings:
    """What the user chose for training."""

    device: str
    seed: int = 0
    preset: str | None = None
    checkpoint_steps: int | None = None
    """None: what the trainer thinks right."""
    encoder: str | Path | None = None
    """See `FoldSettings`."""
    budget: float = 1.0
    """Share of each fold's labelled training subjects that it is trained on."""


def train(
    folders: DatasetFolders, recipe: Recipe, folds: Sequence[int], settings: TrainSettings
) -> tuple[Path, list[FoldModel]]:
    """Train folds one after the other; finished ones are left as they are."""
    raw = read_raw_dataset(folders)
    plan = read_plan(folders, settings.preset)
    refuse_stale_plan(raw, plan)
    model = folders.model(recipe.name, plan.preset)
    chosen = FoldSettings(settings.device, settings.seed, settings.checkpoint_steps, settings.encoder, settings.budget)
    encoders = {fold: check_fold(raw, plan, recipe, fold, chosen)[2] for fold in folds}
    refuse_mixed_encoders(encoders)
    for fold, encoder in encoders.items():
        finished_fold(model, fold, encoder)
    members = find_members(raw, plan, recipe, model, settings.device)
    records = [train_fold(raw, plan, recipe, model, fold, chosen, members) for fold in folds]
    return model, records
