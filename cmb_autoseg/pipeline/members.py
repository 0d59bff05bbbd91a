"""The finished models that a recipe is built on: beside its own, trained on the same folds."""

import difflib
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path

from cmb_autoseg.errors import InputError
from cmb_autoseg.inference.model_folder import trained_plan, trained_settings
from cmb_autoseg.locking import LONGEST_WAIT_S, own_folder
from cmb_autoseg.pipeline.out_of_fold import fold_records, out_of_fold_maps
from cmb_autoseg.raw_dataset import RawDataset
from cmb_autoseg.records import SUSCEPTIBILITY_ROLES, FoldModel, Plan, Role
from cmb_autoseg.trainers.fold_cases import trained_sequences
from cmb_autoseg.trainers.members import Member
from cmb_autoseg.trainers.recipe import Recipe, list_recipes, read_recipe
from cmb_autoseg.workspace import model_folder_name

__all__ = ["find_members", "known_recipes", "member_folder", "refuse_circles", "sees", "sequences_seen"]


def member_folder(model: Path, recipe: Recipe, member: str) -> Path:
    """The model of another recipe that stands beside this one: same dataset, plan, and in comparisons seed and budget.

    Args:
        model: folder of the recipe's own model, `CMBTrainer__<recipe>...__3d`.
        recipe: whose model it is.
        member: name of the other recipe.
    """
    own = model.name.split("__")[1]
    return model.with_name(model_folder_name(member + own.removeprefix(recipe.name)))


def sequences_seen(recipe: Recipe, plan: Plan, model: Path) -> frozenset[Role]:
    """Every sequence that a model predicts from: its own, and those of the models that it is built on.

    Args:
        recipe: whose model it is.
        plan: of the dataset.
        model: its folder; those of its members stand beside it.
    """
    inner = [sequences_seen(_recipe_of(folder), plan, folder) for folder in _folders(recipe, model)]
    return frozenset(trained_sequences(plan, recipe)).union(*inner)


def sees(recipe: Recipe, plan: Plan, model: Path, roles: Collection[Role]) -> bool:
    """Whether a model predicts from these sequences: both stages have to see one, or any member of a mixture.

    Other arguments as of `sequences_seen`.
    """
    own = bool(set(trained_sequences(plan, recipe)) & set(roles) & set(SUSCEPTIBILITY_ROLES))
    inner = [sees(_recipe_of(folder), plan, folder, roles) for folder in _folders(recipe, model)]
    return own and (all(inner) if recipe.family == "two_stage" else any(inner) or not inner)


def find_members(raw: RawDataset, plan: Plan, recipe: Recipe, model: Path, device: str) -> tuple[Member, ...]:
    """The models that a recipe is built on, with what they say of cases that they have not learned from.

    Raises:
        InputError: one is not trained in all folds, or by another plan or deal of the cases; it is no recipe; or
            recipes are built on each other in a circle.
    """
    refuse_circles(recipe, _readable_members)
    checked = [_checked(raw, plan, recipe, model, name) for name in recipe.members]  # all, before hours of prediction
    return tuple(
        _member(raw, folder, records, name, device)
        for name, (folder, records) in zip(recipe.members, checked, strict=True)
    )


def _recipe_of(model: Path) -> Recipe:
    return Recipe.model_validate(trained_settings(model).get("recipe"))


def _folders(recipe: Recipe, model: Path) -> list[Path]:
    return [member_folder(model, recipe, name) for name in recipe.members]


def _checked(raw: RawDataset, plan: Plan, recipe: Recipe, model: Path, name: str) -> tuple[Path, tuple[FoldModel, ...]]:
    """The folder of a member and what its folds say of themselves."""
    folder = member_folder(model, recipe, name)
    if not (folder / "plans.json").is_file():
        raise InputError(
            f"recipe {recipe.name}: is built on {name}, which is not trained on {raw.folders.name}; "
            f"{_cure(raw, plan, recipe, name)}"
        )
    if trained_plan(folder).digest != plan.digest:
        raise InputError(
            f"{folder}: trained by another plan of {plan.dataset} than {recipe.name} is; move that folder away and "
            f"{_cure(raw, plan, recipe, name)}"
        )
    return folder, tuple(fold_records(raw.folders, folder, plan, known_recipes(recipe).get(name), recipe.name))


def _member(raw: RawDataset, folder: Path, records: tuple[FoldModel, ...], name: str, device: str) -> Member:
    with own_folder(folder, f"out-of-fold prediction of {name}", wait_s=LONGEST_WAIT_S):
        maps = dict(out_of_fold_maps(raw, records, folder, device, f"Out-of-fold prediction of {name}"))
    return Member(name, folder, records, maps)


def _cure(raw: RawDataset, plan: Plan, recipe: Recipe, name: str) -> str:
    """How to get a member that is not there."""
    known = known_recipes(recipe)
    command = f"cmb_train -d {raw.folders.number} -r {{}} -p {plan.preset} -f all"
    if name in known:
        return f"run {command.format(known[name])}"
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}? Else " if near else ""
    return f"{hint}name some of {', '.join(list_recipes())}, or train your own first ({command.format('FILE')})"


def known_recipes(recipe: Recipe) -> dict[str, str]:
    """What to type for each recipe that can be read, by its name: shipped ones, and files beside the recipe's own."""
    known = {name: name for name in list_recipes()}
    own = Path(recipe.given or "")
    if own.suffix and own.is_file():
        files = {path: _read(str(path)) for path in sorted(own.parent.glob(f"*{own.suffix}"))}
        known.update({read.name: str(path) for path, read in files.items() if read is not None})
    return known


def refuse_circles(
    recipe: Recipe, known: Callable[[Recipe], Mapping[str, Recipe]], above: tuple[str, ...] = ()
) -> None:
    """Refuse recipes that are built on each other, which nobody can train.

    Args:
        recipe: whose members are gone through, as far as they are known.
        known: gives recipes by name, at least those members of a recipe that can be looked into.
        above: names of recipes, from the outermost to the one that is built on this one.

    Raises:
        InputError: names the circle.
    """
    way, inner = (*above, recipe.name), known(recipe)
    for name in recipe.members:
        if name in way:
            circle = " on ".join((*way[way.index(name) :], name))
            raise InputError(f"recipe {way[0]}: is built in a circle, {circle}; take {name} out of {recipe.name}")
        if name in inner:
            refuse_circles(inner[name], known, way)


def _readable_members(recipe: Recipe) -> dict[str, Recipe]:
    known = known_recipes(recipe)
    read = {name: _read(known[name]) for name in recipe.members if name in known}
    return {name: inner for name, inner in read.items() if inner is not None}


def _read(path: str) -> Recipe | None:
    """None of a file that is no recipe: whether a model of that name is trained is asked for elsewhere."""
    with suppress(InputError):
        return read_recipe(path)
    return None
