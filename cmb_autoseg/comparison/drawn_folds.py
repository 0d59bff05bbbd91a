"""Which folds tables are drawn of: the scans that recipes are set side by side on must be the same."""

from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from itertools import product

from cmb_autoseg.comparison.cells import Cell, Comparison

__all__ = ["drawn_of", "folds_shown", "folds_told"]


def drawn_of(comparison: Comparison, folds: Sequence[int] | None) -> Comparison:
    """The comparison as it is drawn.

    Args:
        comparison: all that was ever asked for.
        folds: the cells of these folds, those that nobody has asked for too, so that a recipe without them is said
            to be unfinished; None for the folds that every recipe, seed and budget has. Where they have none in
            common, all cells are drawn.
    """
    if folds is not None:
        return comparison.model_copy(update={"cells": _of_folds(comparison.cells, folds)})
    plain = [cell for cell in comparison.cells if cell.trained_on is None]
    matrix = [cell for cell in comparison.cells if cell.trained_on is not None]
    shared = _shared(plain, lambda cell: (cell.recipe, cell.budget, cell.seed))
    if not shared:
        return comparison
    # A fold without a case of a sequence is left out of its cells alone.
    common = shared & _shared(matrix, lambda cell: (cell.recipe, cell.seed)) or shared
    kept = (cell for cell in comparison.cells if cell.fold in (shared if cell.trained_on is None else common))
    return comparison.model_copy(update={"cells": tuple(kept)})


def folds_shown(comparison: Comparison) -> str:
    """Which folds the plain cells have, as `folds 0, 3` or `fold 3`."""
    return _listed(cell.fold for cell in comparison.cells if cell.trained_on is None)


def folds_told(drawn: Comparison, whole: Comparison) -> str:
    """Sentences on the folds of the tables, and on what is not in them.

    Args:
        drawn: as `drawn_of` gives it.
        whole: all that was ever asked for.
    """
    of_recipes = {
        recipe: frozenset(cell.fold for cell in drawn.cells if cell.recipe == recipe and cell.trained_on is None)
        for recipe in drawn.recipes
    }
    if len({*of_recipes.values()}) > 1:
        listed = "; ".join(f"{recipe} {_listed(folds)}" for recipe, folds in of_recipes.items())
        return (
            f"No fold is shared by all recipes, seeds and budgets, so rows are judged on different scans and not to be "
            f"set against each other: {listed} of 0 to {drawn.n_folds - 1}."
        )
    told = f"{_capital(folds_shown(drawn))} of 0 to {drawn.n_folds - 1}, the same for all."
    kept = {*drawn.cells}
    left = {
        recipe: {cell.fold for cell in whole.cells if cell.recipe == recipe and cell not in kept}
        for recipe in whole.recipes
    }
    if any(left.values()):
        listed = "; ".join(f"{recipe} {_listed(folds)}" for recipe, folds in left.items() if folds)
        told += (
            f" **Left out**, so that all are judged on the same scans: {listed}. `--tables-only -f` draws the folds "
            "that it names."
        )
    return told


def _of_folds(cells: Sequence[Cell], folds: Sequence[int]) -> tuple[Cell, ...]:
    """Every plain model in each of the folds, and what of the matrix was asked for in them."""
    plain = dict.fromkeys((cell.recipe, cell.budget, cell.seed) for cell in cells if cell.trained_on is None)
    wanted = [
        Cell(recipe=recipe, budget=budget, seed=seed, fold=fold)
        for (recipe, budget, seed), fold in product(plain, sorted(folds))
    ]
    return (*wanted, *(cell for cell in cells if cell.trained_on is not None and cell.fold in folds))


def _shared(cells: Sequence[Cell], key: Callable[[Cell], Hashable]) -> frozenset[int]:
    """The folds that every group of cells has."""
    of_groups: dict[Hashable, set[int]] = {}
    for cell in cells:
        of_groups.setdefault(key(cell), set()).add(cell.fold)
    return frozenset(set.intersection(*of_groups.values())) if of_groups else frozenset()


def _listed(folds: Iterable[int]) -> str:
    numbers: Collection[int] = sorted({*folds})
    return f"fold{'s' * (len(numbers) != 1)} {', '.join(map(str, numbers))}"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
