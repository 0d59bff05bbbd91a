"""Rows of tables: a recipe over its seeds and folds, with intervals, and tests against the reference."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.comparison.case_scores import CellScores, ScoredView
from cmb_autoseg.comparison.cells import Cell
from cmb_autoseg.comparison.figures_of_merit import Measured, chosen_thresholds, measure
from cmb_autoseg.evaluation.metrics.figure import Figure
from cmb_autoseg.evaluation.statistics.bootstrap import (
    MIN_SUBJECTS,
    N_RESAMPLES,
    percentile_interval,
    subject_weights,
    two_sided_p,
)
from cmb_autoseg.evaluation.statistics.paired import wilcoxon_p as paired_wilcoxon_p
from cmb_autoseg.records import Role

__all__ = ["Contrast", "Group", "Judge", "PickView", "Side", "all_sequences", "just", "wilcoxon_p"]

PickView = Callable[[Mapping[str, ScoredView]], ScoredView | None]
"""Of all views of one case, by name, the one to judge; None where the case has none that fits."""

Side = Sequence[Measured]
"""The seeds of one group in one view."""

GROUPS_IN_MEMORY = 2


def all_sequences(views: Mapping[str, ScoredView]) -> ScoredView | None:
    """The view from everything that the case has."""
    first = next(iter(views.values()), None)
    return None if first is None else views.get(first.row.sequences)


@cache
def just(view: str) -> PickView:
    """The view from these sequences and no other."""
    return lambda views: views.get(view)


@dataclass(frozen=True)
class Group:
    """What one row of a table is about: all seeds and folds of a recipe at a budget."""

    recipe: str
    budget: float
    trained_on: Role | None = None


@dataclass(frozen=True)
class Contrast:
    """A difference between two groups, or between two views of one, on the same draws."""

    difference: Figure
    p: float | None
    n_cases: int


@dataclass(frozen=True)
class Judge:
    """Scores of finished cells, and what they say of groups.

    Args:
        cells: all that were asked for.
        scores: of those that are finished, by the cell's name.
        views: reads the views of a finished cell; they are large, so that few groups are kept at a time.
        seed: of the bootstrap.
        n_resamples: draws.
    """

    cells: Sequence[Cell]
    scores: Mapping[str, CellScores]
    views: Callable[[str], Sequence[ScoredView]]
    seed: int = 0
    n_resamples: int = N_RESAMPLES
    _weights: dict[tuple[str, ...], NDArray[np.float64]] = field(default_factory=dict, repr=False)
    _measured: dict[tuple[Group, PickView], list[Measured]] = field(default_factory=dict, repr=False)
    _cases: dict[Group, list[list[Mapping[str, ScoredView]]]] = field(default_factory=dict, repr=False)

    def cells_of(self, group: Group) -> list[Cell]:
        return [
            cell
            for cell in self.cells
            if (cell.recipe, cell.budget, cell.trained_on) == (group.recipe, group.budget, group.trained_on)
        ]

    def finished(self, group: Group) -> list[CellScores]:
        return [self.scores[cell.name] for cell in self.cells_of(group) if cell.name in self.scores]

    def state(self, group: Group) -> str | None:
        """Why a group cannot be judged yet; None where all its cells are finished, on the same folds for every seed."""
        asked, done = self.cells_of(group), self.finished(group)
        if len(done) < len(asked) or not asked:
            return f"not run yet ({len(done)} of {len(asked)} cells)"
        folds = {tuple(sorted(c.fold for c in asked if c.seed == seed)) for seed in {c.seed for c in asked}}
        return None if len(folds) == 1 else "seeds have different folds"

    def _of_seeds(self, group: Group) -> list[list[Mapping[str, ScoredView]]]:
        """For each seed the views of every case, by name."""
        if group not in self._cases:
            while len(self._cases) >= GROUPS_IN_MEMORY:
                del self._cases[next(iter(self._cases))]
            found: dict[int, list[Mapping[str, ScoredView]]] = {}
            for cell in self.cells_of(group):
                by_case: dict[str, dict[str, ScoredView]] = {}
                for view in self.views(cell.name):
                    by_case.setdefault(view.row.case, {})[view.row.view] = view
                found.setdefault(cell.seed, []).extend(by_case.values())
            self._cases[group] = list(found.values())
        return self._cases[group]

    def measured(self, group: Group, pick: PickView = all_sequences) -> list[Measured]:
        """The cases of each seed, at the threshold that the model's other subjects chose on all their sequences.

        Args:
            group: all its cells are finished.
            pick: one of the functions of this module and of `tables.py`, which are the same object every time.
        """
        if (group, pick) not in self._measured:
            self._measured[group, pick] = [found for seed in self._of_seeds(group) if (found := _measure(seed, pick))]
        return self._measured[group, pick]

    def views_of(self, group: Group, pick: PickView = all_sequences) -> list[list[ScoredView]]:
        """For each seed the cases that have such a view, in the order of `Measured.cases`.

        Args:
            group: all its cells are finished.
            pick: as for `measured`.
        """
        of_seeds = ([view for case in seed if (view := pick(case)) is not None] for seed in self._of_seeds(group))
        return [sorted(views, key=lambda view: view.row.case) for views in of_seeds]

    def weights(self, subjects: tuple[str, ...]) -> NDArray[np.float64]:
        """The draws of these cases' subjects; the same cases always get the same draws."""
        if subjects not in self._weights:
            rng = np.random.default_rng(self.seed)
            self._weights[subjects] = subject_weights(subjects, self.n_resamples, rng).astype(np.float64)
        return self._weights[subjects]

    def figure(self, seeds: Sequence[Measured], name: str) -> Figure:
        """Mean over seeds of the pooled figure, with the interval of the same mean over draws of subjects.

        There is no interval where a single subject defines the figure.
        """
        if not seeds:
            return Figure(value=None, why="no case")
        value = float(np.mean([cases.value(name) for cases in seeds]))
        if np.isnan(value):
            return Figure(value=None, why="undefined for these cases")
        return Figure(value=value, ci=percentile_interval(self._mean_draws(seeds, name)))

    def _mean_draws(self, seeds: Sequence[Measured], name: str) -> NDArray[np.float64]:
        """One a draw; all undefined where fewer than `MIN_SUBJECTS` define the figure."""
        if min(cases.n_defining(name) for cases in seeds) < MIN_SUBJECTS:
            return np.full(self.n_resamples, np.nan)
        draws = [cases.draws(name, self.weights(cases.subjects)) for cases in seeds]
        mean: NDArray[np.float64] = np.mean(draws, axis=0)
        return mean

    def contrast(self, name: str, plus: Sequence[Side], minus: Sequence[Side]) -> Contrast | None:
        """Sum of one figure over `plus` less its sum over `minus`, each the mean of its seeds.

        None where a side has no case, or not the same cases as the others. There is neither interval nor p where a
        single subject defines the figure.
        """
        sides = (*plus, *minus)
        cases = {measured.cases for side in sides for measured in side}
        if len(cases) != 1 or not all(sides):
            return None
        signs = np.array([1.0] * len(plus) + [-1.0] * len(minus))
        values = signs @ [float(np.mean([measured.value(name) for measured in side])) for side in sides]
        n_cases = len(next(iter(cases)))
        if np.isnan(values):
            return Contrast(Figure(value=None, why="undefined for these cases"), None, n_cases)
        draws = signs @ np.stack([self._mean_draws(side, name) for side in sides])
        return Contrast(Figure(value=float(values), ci=percentile_interval(draws)), two_sided_p(draws), n_cases)


def _measure(cases: Sequence[Mapping[str, ScoredView]], pick: PickView) -> Measured | None:
    whole = [view for case in cases if (view := all_sequences(case)) is not None]
    picked = [view for case in cases if (view := pick(case)) is not None]
    return measure(picked, chosen_thresholds(whole, [view.row.subject for view in picked])) if picked else None


def wilcoxon_p(ours: Iterable[Measured], theirs: Iterable[Measured]) -> tuple[float | None, int]:
    """Wilcoxon's signed-rank test of the subjects' lesion F1, averaged over seeds; two-sided, and how many subjects.

    None with fewer than six subjects that have lesions, or where no subject differs.
    """
    first, second = _mean_f1(ours), _mean_f1(theirs)
    shared = sorted(first.keys() & second.keys())
    pairs = [[values[subject] for subject in shared] for values in (first, second)]
    return paired_wilcoxon_p(*pairs), len(shared)


def _mean_f1(seeds: Iterable[Measured]) -> dict[str, float]:
    collected: dict[str, list[float]] = {}
    for measured in seeds:
        for subject, value in measured.f1_of_subjects().items():
            collected.setdefault(subject, []).append(value)
    return {subject: float(np.mean(values)) for subject, values in collected.items()}
