"""Which model folder the user means; imports next to nothing, so that what is wrong is said at once."""

import difflib
from collections.abc import Sequence
from pathlib import Path

from cmb_autoseg.errors import InputError
from cmb_autoseg.files import read_json
from cmb_autoseg.workspace import FINAL_CHECKPOINT, PRESETS, Workspace, model_folder_name

__all__ = [
    "DEFAULT_RECIPE",
    "STARTER_MODEL",
    "absent_folds",
    "available_folds",
    "find_model",
    "recipe_words",
]

STARTER_MODEL = Path(__file__).parents[1] / "starter" / "model"
"""The model that comes with the package; see `cmb_autoseg.starter`."""
DEFAULT_RECIPE = "supervised"

LEAST_ALIKE = 0.8
"""A name that is mistyped, and not one of another model; where one model is there, it is proposed in any case."""


def find_model(
    folder: Path | None,
    dataset: str | None,
    recipe: str | None,
    preset: str | None,
    workspace: Path | None,
    folds: Sequence[str] | None = None,
) -> Path:
    """The model folder that the user means: `-m`, or `-d` with a recipe, or else the one in the package.

    Without a preset it is the model of the first of `PRESETS` that has one, as in training.

    Args:
        folder: as the user gave it, and so are the others.
        dataset: by number or name.
        recipe: its name, or the path of its file; None for `supervised`.
        preset: of the plan.
        workspace: where the dataset is.
        folds: which the user is after; None for all. They are not asked for here, but the cure names them.

    Raises:
        InputError: both are given, a recipe or preset is given without a dataset or with a folder, or there is no such
            model or file of a recipe.
    """
    if folder is not None and dataset is not None:
        raise InputError("-m and -d: found both; name the model folder or the dataset, not both")
    if folder is not None:
        alone = _given(("-r", recipe), ("-p", preset))
        if alone is not None:
            raise InputError(f"-m and {alone}: found both; a model folder has its own, so leave one of them out")
        if str(folder) == "starter" and not folder.exists():
            raise InputError("-m starter: the starter model is taken where there is neither -m nor -d; leave it out")
        if not (folder / "plans.json").is_file():
            missing = "a file" if folder.is_file() else "no such folder"
            found = "no plans.json, so this is no model folder" if folder.is_dir() else missing
            raise InputError(
                f"-m {folder}: {found}; give a folder like .../results/Dataset501_NAME/{model_folder_name('RECIPE')}"
            )
        return folder
    if dataset is None:
        alone = _given(("-r", recipe), ("-p", preset))
        if alone is not None:
            raise InputError(f"{alone}: found without -d; say with -d DATASET which dataset's model is meant")
        if not (STARTER_MODEL / "plans.json").is_file():
            raise InputError("no model given; name one with -m MODEL_DIR, or with -d DATASET and -r RECIPE")
        return STARTER_MODEL
    recipe = recipe or DEFAULT_RECIPE
    folders = Workspace.find(workspace).dataset(dataset)
    from cmb_autoseg.trainers.recipe import is_recipe_file, read_recipe

    own = read_recipe(recipe).name if is_recipe_file(recipe) else recipe
    models = [folders.model(own, name) for name in ((preset,) if preset else PRESETS)]
    model = next((path for path in models if (path / "plans.json").is_file()), None)
    if model is None:
        finished = (path for path in folders.results.glob(model_folder_name("*")) if available_folds(path))
        there = sorted(path.name.split("__")[1] for path in finished)
        mistyped = [name for name in there if not name.startswith(f"{own}_")]  # not by another preset
        near = mistyped if len(there) == 1 else difflib.get_close_matches(own, mistyped, n=1, cutoff=LEAST_ALIKE)
        other = f"did you mean {recipe_words(near[0])}? Else " if near else ""
        by = [name for name in PRESETS if available_folds(folders.model(own, name))]
        if by:
            other = f"did you mean -p {' or -p '.join(by)}? Else "
        chosen = f"-r {recipe}{f' -p {preset}' if preset else ''}"
        raise InputError(
            f"{chosen}: not trained on {folders.name} (trained: {', '.join(there) or 'none'}); "
            f"{other}run cmb_train -d {folders.number} {chosen} -f {' '.join(folds or ('all',))}"
        )
    return model


def recipe_words(name: str) -> str:
    """The options that name a recipe and a preset, from the name of a model."""
    preset = next((preset for preset in PRESETS[1:] if name.endswith(f"_{preset}")), None)
    return f"-r {name}" if preset is None else f"-r {name.removesuffix(f'_{preset}')} -p {preset}"


def _given(*options: tuple[str, str | None]) -> str | None:
    """The first of the options that the user gave."""
    return next((f"{flag} {text}" for flag, text in options if text), None)


def absent_folds(folder: Path) -> tuple[int, ...]:
    """Folds that a model folder speaks of and has no finished weights of: not trained to the end, or not copied.

    It speaks of those in its model card, of those with a folder, and of every number below the highest.
    """
    there = set(available_folds(folder))
    try:
        card = read_json(folder / "model.json") if (folder / "model.json").is_file() else {}
    except InputError:  # a damaged card keeps nobody from predicting
        card = {}
    named = card.get("folds") if isinstance(card, dict) else None
    numbers = [*(named if isinstance(named, dict) else ()), *(path.name[5:] for path in folder.glob("fold_*"))]
    known = there | {int(number) for number in numbers if number.isdecimal()}
    return tuple(sorted(set(range(max(known, default=-1) + 1)) - there))


def available_folds(folder: Path) -> tuple[int, ...]:
    """Folds of a model folder whose training has finished, sorted."""
    found = (path.parent.name.removeprefix("fold_") for path in folder.glob(f"fold_*/{FINAL_CHECKPOINT}"))
    return tuple(sorted(int(name) for name in found if name.isdecimal()))
