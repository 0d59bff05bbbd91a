"""Made-up scores: counts that are set by hand, as if a model had been judged."""

import numpy as np
import pytest

from cmb_autoseg.comparison.case_scores import CellScores, ScoredView, ScoreRow, TrainingFacts
from cmb_autoseg.comparison.cells import Cell, Comparison
from cmb_autoseg.evaluation.metrics.voxel_histogram import N_BINS, VoxelHistogram
from cmb_autoseg.inference.operating_points import SWEEP_THRESHOLDS, Sweep

N_THRESHOLDS = len(SWEEP_THRESHOLDS)
FACTS = TrainingFacts(
    steps=10,
    n_parameters=1234,
    n_training_cases=8,
    n_training_subjects=6,
    n_unlabelled_cases=0,
    encoder=None,
    checkpoint="sha256:0",
)


@pytest.fixture(name="make_view")
def make_view_fixture():
    return make_view


def make_view(case, hits, false, n_lesions, *, subject=None, sequences="swi", view=None, histogram=None):
    """A case that has the same counts at every threshold, or a list of one count a threshold."""
    hits, false = (np.broadcast_to(np.asarray(n, np.int64), N_THRESHOLDS).copy() for n in (hits, false))
    counts = Sweep(1, n_lesions, hits, hits, false, 3 * hits, 2 * false, 5 * n_lesions, 1000 - 5 * n_lesions)
    row = ScoreRow(case=case, subject=subject or f"c/{case}", sequences=sequences, view=view or sequences)
    return ScoredView(row, counts, histogram)


def make_histogram(lesion, other):
    """From {bin: count}."""
    arrays = np.zeros((2, N_BINS), np.int64)
    for array, counts in zip(arrays, (lesion, other), strict=True):
        for position, count in counts.items():
            array[position] = count
    return VoxelHistogram(*arrays)


def as_scores(cell, views):
    rows = tuple(view.row for view in views)
    return CellScores(cell=cell, made_of={}, training=FACTS, rows=rows, arrays="sha256:0")


@pytest.fixture(scope="session")
def made_up():
    """Two recipes, two seeds, two budgets, two folds of 6 subjects; a sequence t1 with swi and qsm in every case.

    The second recipe finds more; dropping qsm costs the first more.
    """
    rng = np.random.default_rng(0)
    truth = {f"p{n:02d}": int(rng.integers(0, 5)) for n in range(12)}
    cells, scores, kept = [], {}, {}
    for recipe, skill in (("plain", 0.5), ("better", 0.9)):
        for budget in (1.0, 0.25):
            for seed in (1, 2):
                for fold in (0, 1):
                    cell = Cell(recipe=recipe, seed=seed, budget=budget, fold=fold)
                    views = []
                    for case, n in list(truth.items())[fold::2]:
                        for view, loss in (("swi+qsm+t1", 0), ("swi", 0.1), ("qsm", 0.3), ("swi+t1", 0.2)):
                            chance = max(0.05, skill * (0.6 + 0.4 * budget) - loss * (1.5 - skill))
                            found = int(rng.binomial(n, chance))
                            lesion, other = {9000: 5 * n - found, 12000: found}, {100: 900, 10000: 20}
                            views.append(
                                make_view(
                                    case,
                                    found,
                                    int(rng.poisson(1.2 - skill)),
                                    n,
                                    sequences="swi+qsm+t1",
                                    view=view,
                                    histogram=make_histogram(lesion, other) if view != "swi+t1" else None,
                                )
                            )
                    cells.append(cell)
                    scores[cell.name], kept[cell.name] = as_scores(cell, views), views
    comparison = Comparison(
        dataset="Dataset501_Made",
        plan="sha256:1",
        channels=("swi", "qsm", "t1"),
        reference="plain",
        recipes={"plain": "sha256:2", "better": "sha256:3"},
        steps={"plain": 10, "better": 10},
        cells=tuple(cells),
        subsets=True,
        data="simulated",
    )
    return comparison, scores, kept.__getitem__
