"""The cells of `--cross-sequence`: each recipe trained on each sequence alone."""

from collections.abc import Sequence

from cmb_autoseg.comparison.cells import Cell
from cmb_autoseg.errors import InputError
from cmb_autoseg.progress import log
from cmb_autoseg.raw_dataset import Fold, RawDataset
from cmb_autoseg.records import SUSCEPTIBILITY_ROLES, Plan, Role
from cmb_autoseg.trainers.recipe import Recipe

__all__ = ["matrix_sequences", "tell_unlabelled_left_out", "that_have_cases"]


def matrix_sequences(plan: Plan, recipes: Sequence[Recipe]) -> tuple[Role, ...]:
    """The sequences of the cross-sequence matrix.

    Raises:
        InputError: there is only one, or a recipe has sequences of its own or is built on other recipes.
    """
    visible = tuple(role for role in plan.channels if role in SUSCEPTIBILITY_ROLES)
    if len(visible) < 2:
        raise InputError(
            f"--cross-sequence: {plan.dataset} has {', '.join(visible)} alone of the sequences in which microbleeds "
            "show, and the matrix needs two; leave the option out"
        )
    own = next((recipe for recipe in recipes if recipe.sequences is not None), None)
    if own is not None:
        raise InputError(
            f"--cross-sequence: recipe {own.name} has sequences of its own, which this option replaces; leave one out"
        )
    built = next((recipe for recipe in recipes if recipe.members), None)
    if built is not None:
        raise InputError(
            f"--cross-sequence: recipe {built.name} is built on models of {', '.join(built.members)}, which have "
            "sequences of their own; compare it without this option"
        )
    return visible


def that_have_cases(cells: Sequence[Cell], raw: RawDataset, folds: Sequence[Fold]) -> tuple[Cell, ...]:
    """All cells but those of the matrix whose fold has no case of their sequence, which is told."""
    sequences = {case.name: case.sequences for case in raw.cases}
    empty: set[tuple[Role, int]] = set()
    for role, fold in dict.fromkeys((cell.trained_on, cell.fold) for cell in cells):
        parts = {"training": folds[fold]["train"], "validation": folds[fold]["val"]}
        lacks = [part for part, names in parts.items() if not any(role in sequences[name] for name in names)]
        if role is not None and lacks:
            empty.add((role, fold))
            log(
                f"warning: --cross-sequence: fold {fold} has no {' and no '.join(lacks)} case with {role}, so nothing "
                f"is trained on {role} there"
            )
    return tuple(cell for cell in cells if (cell.trained_on, cell.fold) not in empty)


def tell_unlabelled_left_out(raw: RawDataset, cells: Sequence[Cell], recipes: Sequence[Recipe]) -> None:
    """Say how many unlabelled cases teach nothing in the matrix, one line a sequence."""
    learners = ", ".join(recipe.name for recipe in recipes if recipe.semi_supervised is not None)
    unlabelled = [case for case in raw.training_cases() if not case.labelled]
    for role in dict.fromkeys(cell.trained_on for cell in cells):
        lacking = sum(role not in case.sequences for case in unlabelled)
        if role is not None and learners and lacking:
            log(
                f"--cross-sequence: {lacking} of {len(unlabelled)} unlabelled cases have no {role} and are left out "
                f"where {learners} is trained on {role} alone"
            )
