"""What one fold is trained with, and what the folds of one model must share."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cmb_autoseg.errors import InputError
from cmb_autoseg.inference.model_folder import trained_settings
from cmb_autoseg.locking import is_owned
from cmb_autoseg.trainers.pretrained_encoder import option_for
from cmb_autoseg.trainers.recipe import Recipe

__all__ = ["FoldSettings", "of_one_model", "refuse_mixture", "same_training"]

MIXTURES = {
    "plan": "plan",
    "recipe": "recipe or schedule",
    "seed": "seed",
    "folds": "deal of the cases to folds",
    "budget": "share of the labelled subjects",
    "encoder": "encoder",
    "members": "model that it is built on",
}
"""What the folds of one model must share, by key of its settings, and in words."""

BEFORE_THERE_WAS_A_CHOICE: Mapping[str, object] = {"budget": 1.0, "encoder": None, "members": None}
"""What models were trained with whose settings do not speak of it."""


@dataclass(frozen=True)
class FoldSettings:
    """What is chosen beside the recipe.

    Attributes:
        device: `cuda` or `cpu`.
        seed: of the first weights, of all patches and of the budget's subjects.
        checkpoint_steps: steps between two checkpoints; None for the trainer's own number.
        encoder: pretrained encoder, by the name of its recipe or as a file, or the folder of a trained model, whose
            decoder is taken too (recipe: `Recipe.beginning_with` its levels); `none` for random weights;
            None for what the recipe's `transfer.encoder` says.
        budget: share of the fold's labelled training subjects that is trained on.
    """

    device: str
    seed: int = 0
    checkpoint_steps: int | None = None
    encoder: str | Path | None = None
    budget: float = 1.0


def of_one_model(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that the folds of a model share, those of an older version completed by their defaults."""
    complete = {**BEFORE_THERE_WAS_A_CHOICE, **settings}
    try:
        recipe: Any = Recipe.model_validate(settings.get("recipe")).model_dump(mode="json")
    except ValidationError:
        recipe = settings.get("recipe")
    return {key: recipe if key == "recipe" else complete.get(key) for key in MIXTURES}


def same_training(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two trainings are of one model."""
    return of_one_model(one) == of_one_model(other)


def refuse_mixture(model: Path, settings: Mapping[str, Any], own: Path | None = None) -> None:
    """Refuse to train a fold into a folder whose folds were trained otherwise.

    A folder in which nothing came of earlier attempts holds none.

    Args:
        model: the folder.
        settings: that the folds of the model are to share.
        own: folder of the fold that this process owns already.

    Raises:
        InputError: names what differs.
    """
    if not (model / "plans.json").is_file() or not _holds_folds(model, own):
        return
    trained, wanted = of_one_model(trained_settings(model)), of_one_model(settings)
    for key, name in MIXTURES.items():
        if trained[key] != wanted[key]:
            recipe = trained["recipe"] or {}
            raise InputError(
                f"{model}: holds folds trained with another {name}; folds of one model must share it: move that folder "
                f"away, or use the same settings as before ({_in_words(recipe, trained)})"
            )


def _holds_folds(model: Path, own: Path | None) -> bool:
    """Whether a fold is trained, or another process trains one now."""
    others = (folder for folder in model.glob("fold_*") if folder != own)
    return any(model.glob("fold_*/checkpoint_*.pth")) or any(is_owned(folder) is not None for folder in others)


def _in_words(recipe: Mapping[str, Any], trained: Mapping[str, Any]) -> str:
    words = f"{recipe.get('epochs')} epochs of {recipe.get('steps_per_epoch')} steps, seed {trained['seed']}"
    if trained["budget"] != 1.0:
        words += f", budget {trained['budget']:g}"
    return f"{words}, {option_for(trained['encoder'])}"
