"""Which cases a fold learns from and which it is watched on."""

from collections.abc import Sequence
from dataclasses import dataclass

from cmb_autoseg.errors import InputError
from cmb_autoseg.leakage import subject_of, unlabelled_cases
from cmb_autoseg.raw_dataset import Fold, RawCase, RawDataset
from cmb_autoseg.records import SUSCEPTIBILITY_ROLES, Plan, Role
from cmb_autoseg.trainers.budget import cases_in_budget
from cmb_autoseg.trainers.recipe import Recipe
from cmb_autoseg.trainers.set_aside import decides_by_figures, set_aside

__all__ = ["FoldCases", "fold_cases", "trained_sequences"]


@dataclass(frozen=True)
class FoldCases:
    """The cases of one fold."""

    training: tuple[RawCase, ...]
    """Labelled ones."""
    validation: tuple[RawCase, ...]
    """They judge the fold, and nothing in its training hangs on them."""
    unlabelled: tuple[RawCase, ...] = ()
    """Of semi-supervised training."""
    set_aside: tuple[RawCase, ...] = ()
    """Of `training`, where the schedule decides by figures: those that the figures are taken of."""

    @property
    def drawn_from(self) -> tuple[RawCase, ...]:
        """Labelled cases of which batches are made: none that is set aside, unless all are."""
        return tuple(case for case in self.training if case not in self.set_aside) or self.training

    @property
    def watched(self) -> tuple[RawCase, ...]:
        """Cases of the curves: those that are set aside, or else the validation cases, by which nothing is decided."""
        return self.set_aside or self.validation

    @property
    def learned_from(self) -> tuple[str, ...]:
        """`cohort/subject` of everyone in training, sorted."""
        return _subjects((*self.training, *self.unlabelled))


def fold_cases(
    raw: RawDataset, plan: Plan, folds: Sequence[Fold], fold: int, recipe: Recipe, budget: float, seed: int
) -> FoldCases:
    """The cases of a fold that a recipe can use.

    A case in which all sequences of the recipe are missing teaches nothing and is left out. Labelled
    subjects over the budget are not used at all.

    Raises:
        InputError: the recipe's sequences are none of the plan's; no case is left; the recipe learns from
            unlabelled cases and there are none.
    """
    usable = set(trained_sequences(plan, recipe)) & set(SUSCEPTIBILITY_ROLES)
    cases = {case.name: case for case in raw.cases}
    training, validation = (
        tuple(cases[name] for name in folds[fold][part] if usable & set(cases[name].sequences))
        for part in ("train", "val")
    )
    for part, found in (("training", training), ("validation", validation)):
        if not found:
            raise InputError(
                f"fold {fold}: none of its {part} cases has {' or '.join(sorted(usable))}; add sequences to the "
                f"recipe {recipe.name}, or cases to the dataset"
            )
    unlabelled = _unlabelled(raw, folds, fold, recipe, usable)
    labelled = cases_in_budget(training, budget, (seed, fold))
    aside = set_aside(labelled, (seed, fold)) if decides_by_figures(recipe) else ()
    return FoldCases(labelled, validation, unlabelled, aside)


def trained_sequences(plan: Plan, recipe: Recipe) -> tuple[Role, ...]:
    """Channels of the plan that the recipe does not leave blank, in the plan's order.

    Raises:
        InputError: a sequence that the plan does not have, or none in which microbleeds show.
    """
    if recipe.sequences is None:
        return plan.channels
    listed = ", ".join(plan.channels)
    strange = next((role for role in recipe.sequences if role not in plan.channels), None)
    if strange is not None:
        raise InputError(
            f"recipe {recipe.name}: sequences: found {strange}, but the plan of {plan.dataset} has {listed}; "
            "name some of these"
        )
    if not set(recipe.sequences) & set(SUSCEPTIBILITY_ROLES):
        needed = ", ".join(role for role in plan.channels if role in SUSCEPTIBILITY_ROLES)
        raise InputError(
            f"recipe {recipe.name}: sequences: found {', '.join(recipe.sequences) or 'none'}, in which no microbleed "
            f"shows; name at least one of {needed}"
        )
    return tuple(role for role in plan.channels if role in recipe.sequences)


def _unlabelled(
    raw: RawDataset, folds: Sequence[Fold], fold: int, recipe: Recipe, usable: set[Role]
) -> tuple[RawCase, ...]:
    if recipe.semi_supervised is None:
        return ()
    allowed = unlabelled_cases(raw, folds, fold)
    found = tuple(case for case in allowed if usable & set(case.sequences))
    if not allowed:
        raise InputError(
            f"recipe {recipe.name}: learns from unlabelled cases, and {raw.folders.name} has none that fold {fold} may "
            "see; add a cohort without labels to the dataset (cmb_convert CARD...), or train -r supervised"
        )
    if not found:
        raise InputError(
            f"recipe {recipe.name}: learns from unlabelled cases, and none of the {len(allowed)} that fold {fold} may "
            f"see has {' or '.join(sorted(usable))}, which it is to be trained on; add unlabelled cases that have it "
            "(cmb_convert CARD...), or take another recipe"
        )
    return found


def _subjects(cases: Sequence[RawCase]) -> tuple[str, ...]:
    return tuple(sorted({subject_of(case) for case in cases}))
