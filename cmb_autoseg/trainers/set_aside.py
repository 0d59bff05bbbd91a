"""Training cases that a fold is watched on while it learns, where the schedule decides by what it sees.

The fold's validation cases judge it afterwards. A learning rate, an end or weights that were chosen by them would make
the judgement too good, so the figures that choose come from a few of the training subjects.
"""

from collections.abc import Sequence

from cmb_autoseg.raw_dataset import RawCase
from cmb_autoseg.trainers.budget import order_of_subjects
from cmb_autoseg.trainers.recipe import Recipe

__all__ = ["decides_by_figures", "set_aside"]

SHARE = 0.1
"""Of the training subjects."""


def decides_by_figures(recipe: Recipe) -> bool:
    """Whether the figure of the watched cases changes the training: its learning rate, its end, or what is kept."""
    schedule = recipe.schedule
    return schedule.decay == "plateau" or schedule.stop_after_epochs is not None or schedule.keep == "best"


def set_aside(training: Sequence[RawCase], seed: Sequence[int]) -> tuple[RawCase, ...]:
    """The cases of about a tenth of the subjects, those with lesions in their share and at least one of them.

    Args:
        training: labelled training cases of one fold.
        seed: of the choice.

    Returns:
        All cases of the chosen subjects, in order; where fewer than two subjects have lesions, all cases: one subject
        with lesions has to be left to learn from, and what is learned by heart tells less, but flatters no judgement.
    """
    bearing = {(case.cohort, case.subject) for case in training if case.n_lesions}
    if len(bearing) < 2:
        return tuple(training)
    order = order_of_subjects(training, seed)
    chosen = set(order[: max(1, round(SHARE * len(order)))])
    if bearing <= chosen:
        chosen = {order[0]}
    return tuple(case for case in training if (case.cohort, case.subject) in chosen)
