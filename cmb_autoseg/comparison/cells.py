"""What a comparison is made of: one cell is one trained fold of one recipe, seed and label budget."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, product
from pathlib import Path
from typing import Annotated

from pydantic import Field

from cmb_autoseg.errors import InputError
from cmb_autoseg.records import SUSCEPTIBILITY_ROLES, Record, Role

__all__ = ["MAX_SUBSETS", "Cell", "Comparison", "grid_of_cells", "read_comparison", "subsets_of", "view_name"]

MAX_SUBSETS = 15


class Cell(Record):
    """One training, judged on the cases that its fold holds back."""

    recipe: str
    seed: int
    budget: Annotated[float, Field(gt=0, le=1)]
    """Share of the fold's labelled training subjects."""
    fold: int
    trained_on: Role | None = None
    """Of the cross-sequence matrix: the only sequence that it learns from; None for the recipe's own."""

    @property
    def model(self) -> str:
        """What its folds share, as the name of a folder; recipes have no hyphen in theirs."""
        only = f"-{self.trained_on.value}" if self.trained_on else ""
        return f"{self.recipe}-seed{self.seed}-budget{self.budget:g}{only}"

    @property
    def name(self) -> str:
        return f"{self.model}-fold{self.fold}"


class Comparison(Record):
    """All that was asked for in a folder so far: `comparison.json`."""

    dataset: str
    plan: str
    """Digest; all cells share it."""
    channels: tuple[Role, ...]
    reference: str
    """The recipe that the others are tested against."""
    recipes: dict[str, str]
    """Name to digest, in the order of the tables."""
    steps: dict[str, int]
    """Optimisation steps by recipe."""
    cells: tuple[Cell, ...]
    n_folds: int = 5
    """Of the dataset."""
    subsets: bool = False
    """Whether every cell is judged on subsets of sequences, too."""
    data: str = ""
    """What kind of data it is, where the dataset says so: `simulated`."""

    def joined_to(self, earlier: "Comparison") -> "Comparison":
        """What is asked for now and what was asked for before, in the order of recipes, budgets, seeds and folds."""
        recipes = {**earlier.recipes, **self.recipes}
        rank = {name: number for number, name in enumerate(recipes)}

        def place(cell: Cell) -> tuple[object, ...]:
            only = cell.trained_on
            matrix = -1 if only is None else self.channels.index(only)
            return (only is not None, rank[cell.recipe], matrix, -cell.budget, cell.seed, cell.fold)

        return self.model_copy(
            update={
                "recipes": recipes,
                "steps": {**earlier.steps, **self.steps},
                "cells": tuple(sorted({*earlier.cells, *self.cells}, key=place)),
                "subsets": self.subsets or earlier.subsets,
            }
        )


def grid_of_cells(
    recipes: Sequence[str],
    seeds: Sequence[int],
    budgets: Sequence[float],
    folds: Sequence[int],
    trained_on: Sequence[Role] = (),
) -> tuple[Cell, ...]:
    """Every combination, recipes slowest; then, at the largest budget, one for each sequence of `trained_on`."""
    plain = [
        Cell(recipe=recipe, seed=seed, budget=budget, fold=fold)
        for recipe, budget, seed, fold in product(recipes, sorted(budgets, reverse=True), seeds, folds)
    ]
    single = [
        Cell(recipe=recipe, seed=seed, budget=max(budgets), fold=fold, trained_on=role)
        for recipe, role, seed, fold in product(recipes, trained_on, seeds, folds)
    ]
    return (*plain, *single)


def view_name(roles: Iterable[Role]) -> str:
    """What tables and files call a set of sequences: `swi+t1`."""
    return "+".join(role.value for role in roles)


def subsets_of(roles: Sequence[Role]) -> Iterator[tuple[Role, ...]]:
    """Every subset with a sequence in which microbleeds show, the largest first.

    Of more than `MAX_SUBSETS` only those with all sequences, all but one, and one.
    """
    sizes = range(len(roles), 0, -1)
    legal = [s for size in sizes for s in combinations(roles, size) if set(s) & set(SUSCEPTIBILITY_ROLES)]
    few = (len(roles), len(roles) - 1, 1)
    yield from (subset for subset in legal if len(legal) <= MAX_SUBSETS or len(subset) in few)


def read_comparison(out: Path) -> Comparison | None:
    """What was asked for in a folder so far; None where nothing was.

    Raises:
        InputError: the file is damaged.
    """
    path = out / "comparison.json"
    if not path.is_file():
        return None
    try:
        return Comparison.read(path)
    except InputError as error:
        raise InputError(
            f"{str(error).partition('; ')[0]}; delete it and repeat the calls of cmb_compare that wrote into {out}: "
            "finished cells are kept"
        ) from None
