"""What a trained model says of itself, without loading weights."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from cmb_autoseg.errors import InputError
from cmb_autoseg.files import read_json
from cmb_autoseg.inference.model_choice import available_folds
from cmb_autoseg.inference.operating_points import is_number, resolve_operating_point
from cmb_autoseg.records import FoldModel, Model, OperatingPoint, Plan, Role, intended_use_after, joined_kinds
from cmb_autoseg.workspace import DatasetFolders

__all__ = [
    "fold_models",
    "intended_use",
    "operating_point",
    "operating_points",
    "trained_channels",
    "trained_plan",
    "trained_settings",
]


def trained_settings(folder: Path) -> dict[str, Any]:
    """What a model was trained by: plan, recipe and seed, as its `plans.json` holds them.

    Raises:
        InputError: they are not in it.
    """
    plans = _read(folder / "plans.json")
    settings = plans.get("cmb_autoseg") if isinstance(plans, dict) else None
    if not isinstance(settings, dict) or "plan" not in settings:
        raise InputError(
            f"{folder}/plans.json: lacks the key cmb_autoseg.plan; the folder was not made by cmb_train, or the file "
            "is damaged: restore it, or move the folder away and train anew"
        )
    return settings


def _read(path: Path) -> Any:
    """A JSON file of a model folder; of one that is damaged the cure is that of the folder."""
    try:
        return read_json(path)
    except InputError as error:
        problem = str(error).rpartition("; ")[0]
        raise InputError(f"{problem}; copy the model folder again, whole") from None


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


def intended_use(folder: Path) -> str:
    """What a model is for, as its card says or, of one that is not finalized, its folds.

    A damaged record keeps nobody from predicting.
    """
    with suppress(InputError):
        return Model.read(folder / "model.json").intended_use
    return intended_use_after(joined_kinds(None if fold is None else fold.data for fold in fold_models(folder)))


def fold_models(folder: Path) -> list[FoldModel | None]:
    """The records of a model's finished folds; None for one without a legible record."""
    return [_fold_model(folder / f"fold_{fold}" / "fold.json") for fold in available_folds(folder)]


def _fold_model(path: Path) -> FoldModel | None:
    with suppress(InputError):
        return FoldModel.read(path)
    return None


def operating_point(folder: Path, wanted: str) -> OperatingPoint:
    """An operating point of the model by name, or a threshold given as a number.

    Raises:
        InputError: no such point, or a name while the model is not finalized.
    """
    points = operating_points(folder)
    if points is None and not is_number(wanted):
        raise InputError(
            f"--operating-point {wanted}: {folder} has no operating points yet; {_finalizing(folder, number=True)}"
        )
    return resolve_operating_point(points or (), wanted)


def operating_points(folder: Path) -> list[OperatingPoint] | None:
    """The operating points of a model; None while it is not finalized.

    Raises:
        InputError: their file is damaged.
    """
    path = folder / "operating_points.json"
    if not path.is_file():
        return None
    content = _read(path)
    if not isinstance(content, list):
        raise InputError(f"{path}: holds no list of operating points; {_finalizing(folder)}")
    return [OperatingPoint.parse(point, str(path)) for point in content]


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
