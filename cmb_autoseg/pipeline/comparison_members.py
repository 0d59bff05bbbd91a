"""Recipes of a comparison that are built on other recipes' models: in which order, and on which models."""

import shutil
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

from cmb_autoseg.comparison.cells import Cell
from cmb_autoseg.errors import InputError
from cmb_autoseg.inference.model_folder import trained_settings
from cmb_autoseg.locking import is_owned
from cmb_autoseg.pipeline.members import known_recipes, member_folder, refuse_circles
from cmb_autoseg.progress import log
from cmb_autoseg.records import FoldModel, Plan
from cmb_autoseg.trainers.members import Member
from cmb_autoseg.trainers.recipe import Recipe
from cmb_autoseg.workspace import FINAL_CHECKPOINT, model_folder_name

__all__ = ["cell_model", "depths", "forget_older", "identities", "is_trained", "refuse_missing_members"]


def cell_model(out: Path, dataset: str, cell: Cell) -> Path:
    """Folder of the model that a cell is a fold of."""
    return out / "models" / dataset / model_folder_name(cell.model)


def depths(recipes: Sequence[Recipe]) -> dict[str, int]:
    """By name, how many recipes must be trained before this one, one after the other: 0 where nothing is needed.

    Raises:
        InputError: recipes are built on each other in a circle.
    """
    known = {recipe.name: recipe for recipe in recipes}
    for recipe in recipes:
        refuse_circles(recipe, lambda _: known)

    def depth(name: str) -> int:
        inner = known[name].members if name in known else ()
        return 1 + max(map(depth, inner), default=-1)

    return {name: depth(name) for name in known}


def refuse_missing_members(
    plan: Plan,
    recipes: Sequence[Recipe],
    seeds: Sequence[int],
    budgets: Sequence[float],
    folds: Sequence[int],
    n_folds: int,
    out: Path,
) -> None:
    """Refuse recipes whose members neither this call trains in all folds nor an earlier one has.

    Args:
        plan: of the dataset.
        recipes: of this call.
        seeds: of this call.
        budgets: of this call.
        folds: of this call.
        n_folds: of the dataset.
        out: the comparison's folder.

    Raises:
        InputError: names recipe, member and folds, and the call that trains them.
    """
    asked = {recipe.name: recipe for recipe in recipes}
    for recipe, seed, budget in product(recipes, seeds, budgets):
        absent: dict[str, list[int]] = {}
        for name in recipe.members:
            model = cell_model(out, plan.dataset, Cell(recipe=name, seed=seed, budget=budget, fold=0))
            now = folds if name in asked else ()
            lacking = [fold for fold in range(n_folds) if fold not in now and not is_trained(model, fold)]
            absent |= {name: lacking} if lacking else {}
        if absent:
            known = {**known_recipes(recipe), **{name: one.given or name for name, one in asked.items()}}
            number = plan.dataset.removeprefix("Dataset").partition("_")[0]
            chosen = f"--seeds {' '.join(map(str, seeds))} --budgets {' '.join(f'{b:g}' for b in budgets)}"
            numbers = sorted({fold for lacking in absent.values() for fold in lacking})
            listed = f"fold{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))} {'are' if numbers[1:] else 'is'}"
            raise InputError(
                f"recipe {recipe.name}: is built on {', '.join(absent)}, of which {listed} neither asked for "
                f"nor trained in {out} with seed {seed} and budget {budget:g}; run cmb_compare -d {number} "
                f"-p {plan.preset} -r {' '.join(known.get(name, name) for name in absent)} -f all {chosen} -o {out}, "
                "then this call again"
            )


def identities(recipe: Recipe, model: Path, n_folds: int) -> dict[str, str] | None:
    """By name, the digest of each model that a recipe is built on; None as long as not all are trained.

    Args:
        recipe: may be built on none.
        model: folder of its own model.
        n_folds: of the dataset.
    """
    found: dict[str, str] = {}
    for name in recipe.members:
        folder = member_folder(model, recipe, name)
        if not all(is_trained(folder, fold) for fold in range(n_folds)):
            return None
        records = (FoldModel.read(folder / f"fold_{fold}" / "fold.json") for fold in range(n_folds))
        found[name] = Member(name, folder, tuple(records), {}).identity
    return found


def forget_older(cell: Cell, model: Path, built_on: Mapping[str, str], out: Path) -> None:
    """Delete a model of the comparison, and its scores, that was built on other models than there are now.

    Args:
        cell: one of its folds.
        model: its folder.
        built_on: digests of the models there are, as `identities` gives them.
        out: the comparison's folder.

    Raises:
        InputError: another run works on it.
    """
    if not (model / "plans.json").is_file() or trained_settings(model).get("members") == (dict(built_on) or None):
        return
    others = [path for path in (out / "running").glob(f"{cell.model}-fold*") if path.name != cell.name]
    if any(is_owned(path) for path in others):
        raise InputError(
            f"{model}: is built on other models of {', '.join(built_on)} than there are now, and another run trains "
            "it; wait until that has ended, and run cmb_compare again"
        )
    log(f"{cell.model}: was built on other models of {', '.join(built_on)} than there are now; made anew")
    for path in (out / "scores").glob(f"{cell.model}-fold*"):
        path.unlink()
    shutil.rmtree(model)


def is_trained(model: Path, fold: int) -> bool:
    """Whether a fold of a model is finished."""
    folder = model / f"fold_{fold}"
    return (folder / "fold.json").is_file() and (folder / FINAL_CHECKPOINT).is_file()
