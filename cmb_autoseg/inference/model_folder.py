"""Find a trained model and read what it says of itself, without loading weights."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cmb_autoseg._nnunet import FINAL_CHECKPOINT
from cmb_autoseg.errors import InputError
from cmb_autoseg.files import read_json
from cmb_autoseg.inference.operating_points import is_number, resolve_operating_point
from cmb_autoseg.records import OperatingPoint, Plan, Role
from cmb_autoseg.trainers.recipe import is_recipe_file, read_recipe
from cmb_autoseg.workspace import PRESETS, DatasetFolders, Workspace, model_folder_name

__all__ = [
    "available_folds",
    "find_model",
    "operating_point",
    "trained_channels",
    "trained_plan",
    "trained_settings",
]

LEAST_ALIKE = 0.8
"""A name that is mistyped, and not one of another model."""


def find_model(
    folder: Path | None,
    dataset: str | None,
    recipe: str,
    preset: str | None,
    workspace: Path | None,
    folds: Sequence[str] | None = None,
) -> Path:
    """The model folder that the user means: `-m`, or `-d` with a recipe.

    Without a preset it is the adaptive plan's model, else that of the other preset, as in training.

    Args:
        folder: as the user gave it, and so are the others.
        dataset: by number or name.
        recipe: its name, or the path of its file.
        preset: of the plan.
        workspace: where the dataset is.
        folds: which the user is after; None for all. They are not asked for here, but the cure names them.

    Raises:
        InputError: neither or both are given, or there is no such model or file of a recipe.
    """
    if folder is not None and dataset is not None:
        raise InputError("-m and -d: found both; name the model folder or the dataset, not both")
    if folder is not None:
        if not (folder / "plans.json").is_file():
            found = "no such folder" if not folder.is_dir() else "no plans.json, so this is no model folder"
            raise InputError(
                f"-m {folder}: {found}; give a folder like .../results/Dataset501_NAME/{model_folder_name('RECIPE')}"
            )
        return folder
    if dataset is None:
        raise InputError("no model given; name one with -m MODEL_DIR, or with -d DATASET and -r RECIPE")
    folders = Workspace.find(workspace).dataset(dataset)
    own = read_recipe(recipe).name if is_recipe_file(recipe) else recipe
    models = [folders.model(own, name) for name in ((preset,) if preset else PRESETS)]
    model = next((path for path in models if (path / "plans.json").is_file()), None)
    if model is None:
        finished = (path for path in folders.results.glob(model_folder_name("*")) if available_folds(path))
        there = sorted(path.name.split("__")[1] for path in finished)
        mistyped = [name for name in there if not name.startswith(f"{own}_")]  # not by another preset
        near = difflib.get_close_matches(own, mistyped, n=1, cutoff=LEAST_ALIKE)
        other = f"did you mean -r {near[0]}? Else " if near else ""
        chosen = f"-r {recipe}{f' -p {preset}' if preset else ''} -f {' '.join(folds or ('all',))}"
        raise InputError(
            f"-r {recipe}: not trained on {folders.name} (trained: {', '.join(there) or 'none'}); "
            f"{other}run cmb_train -d {folders.number} {chosen}"
        )
    return model


def available_folds(folder: Path) -> tuple[int, ...]:
    """Folds of a model folder whose training has finished, sorted."""
    found = (path.parent.name.removeprefix("fold_") for path in folder.glob(f"fold_*/{FINAL_CHECKPOINT}"))
    return tuple(sorted(int(name) for name in found if name.isdecimal()))


def trained_settings(folder: Path) -> dict[str, Any]:
    """What a model was trained by: plan, recipe and seed, as its `plans.json` holds them.

    Raises:
        InputError: they are not in it.
    """
    plans = read_json(folder / "plans.json")
    settings = plans.get("cmb_autoseg") if isinstance(plans, dict) else None
    if not isinstance(settings, dict) or "plan" not in settings:
        raise InputError(
            f"{folder}/plans.json: lacks the key cmb_autoseg.plan; the folder was not made by cmb_train, or the file "
            "is damaged: restore it, or move the folder away and train anew"
        )
    return settings


def trained_plan(folder: Path) -> Plan:
    """The plan that a model was trained by, as its `plans.json` holds it.

    Raises:
        InputError: there is none in it, or one of another version.
    """
    return Plan.parse(trained_settings(folder)["plan"], f"{folder}/plans.json: cmb_autoseg.plan")


def trained_channels(folder: Path) -> tuple[Role, ...]:
    """The sequences that a model has learned from: the plan's, without those that its recipe leaves blank.

    Raises:
        InputError: the folder holds no plan.
    """
    channels, recipe = trained_plan(folder).channels, trained_settings(folder).get("recipe")
    chosen = recipe.get("sequences") if isinstance(recipe, dict) else None
    return channels if chosen is None else tuple(role for role in channels if role in chosen)


def operating_point(folder: Path, wanted: str) -> OperatingPoint:
    """An operating point of the model by name, or a threshold given as a number.

    Raises:
        InputError: no such point, or a name while the model is not finalized.
    """
    path = folder / "operating_points.json"
    if path.is_file():
        content = read_json(path)
        if not isinstance(content, list):
            raise InputError(f"{path}: holds no list of operating points; {_finalizing(folder)}")
        return resolve_operating_point([OperatingPoint.parse(point, str(path)) for point in content], wanted)
    if is_number(wanted):
        return resolve_operating_point((), wanted)
    raise InputError(
        f"--operating-point {wanted}: {folder} has no operating points yet; {_finalizing(folder, number=True)}"
    )


def _finalizing(folder: Path, number: bool = False) -> str:
    """How to get along without a model's operating points.

    Args:
        folder: the model's; `cmb_finalize` finds none of a comparison.
        number: say that a threshold will do even there.
    """
    instead = "give a probability like 0.5"
    if any((parent / "comparison.json").is_file() for parent in folder.resolve().parents[:3]):
        return f"{instead}: it is a model of a comparison, for which none are chosen"
    plan = trained_plan(folder)
    recipe = read_json(folder / "plans.json").get("plans_name", "RECIPE")
    name = recipe.removesuffix(f"_{plan.preset}")
    preset = "" if plan.preset == "adaptive" else f" -p {plan.preset}"
    command = f"run cmb_finalize -d {DatasetFolders(folder, plan.dataset).number} -r {name}{preset}"
    return f"{command} once all folds are trained, or {instead}" if number else command
