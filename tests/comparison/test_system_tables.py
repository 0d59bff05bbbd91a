"""FROC curves and what recipes take, of made-up scores."""

import numpy as np
import pytest

from cmb_autoseg.comparison.cells import Cell
from cmb_autoseg.comparison.froc import froc_curve
from cmb_autoseg.comparison.judging import Group, Judge
from cmb_autoseg.comparison.table_files import as_markdown, write_page
from cmb_autoseg.comparison.tables import all_tables
from cmb_autoseg.evaluation.metrics.curves import FROC_GRID
from cmb_autoseg.files import read_tsv
from cmb_autoseg.inference.operating_points import SWEEP_THRESHOLDS

N_THRESHOLDS = len(SWEEP_THRESHOLDS)


def falling(*steps):
    """Counts from the lowest threshold on: pairs of how many thresholds, and the count there; then 0."""
    values = [count for n, count in steps for _ in range(n)]
    return np.array(values + [0] * (N_THRESHOLDS - len(values)))


def judge_of(seeds):
    """A recipe of one fold; for each seed its views."""
    cells = [Cell(recipe="plain", seed=seed, budget=1, fold=0) for seed in range(len(seeds))]
    kept = {cell.name: views for cell, views in zip(cells, seeds, strict=True)}
    return Judge(cells, {}, kept.__getitem__, 0, 300)


def at(curve, rate):
    return curve[np.abs(FROC_GRID - rate).argmin()]


def test_the_curve_is_the_best_threshold_at_each_rate(make_view):
    """Four lesions in two of four scans. Of the lowest thresholds 8 false positives find all, of the next 2 find 3,
    then 4 find 2 (parts of what is one lesion below), then none finds 1."""
    lesions = make_view("a", falling((10, 2), (10, 2), (10, 1), (10, 1)), falling((10, 4), (10, 1), (10, 2)), 2)
    others = make_view("b", falling((10, 2), (10, 1), (10, 1)), falling((10, 2), (10, 1), (10, 2)), 2)
    free = [make_view(name, 0, falling((10, 1)), 0) for name in "cd"]
    curve = froc_curve(judge_of([[others, lesions, *free]]), Group("plain", 1.0))
    found = curve.mean
    assert at(found, 0.125) == 1 / 4
    assert at(found, 0.25) == 1 / 4
    assert at(found, 0.5) == 3 / 4
    assert at(found, 1) == 3 / 4, "not 2 of 4, as at a higher threshold"
    assert at(found, 2) == at(found, 8) == 1
    assert (np.diff(found) >= 0).all()
    points = {rate: figure.value for rate, figure in curve.at_points().items()}
    assert points == {0.125: 0.25, 0.25: 0.25, 0.5: 0.75, 1: 0.75, 2: 1, 4: 1, 8: 1}
    assert curve.score().value == pytest.approx(np.mean([0.25, 0.25, 0.75, 0.75, 1, 1, 1]))


def test_seeds_are_averaged_and_subjects_drawn_alike(make_view):
    seeds = [[make_view(f"p{n}", hits if n % 2 else 2, 0, 2) for n in range(8)] for hits in (0, 1)]
    judge = judge_of(seeds)
    curve = froc_curve(judge, Group("plain", 1.0))
    assert [list({*seed}) for seed in curve.of_seeds] == [[0.5], [0.75]]
    assert {*curve.mean} == {0.625}
    weights = judge.weights(tuple(f"c/p{n}" for n in range(8)))
    expected = (weights @ ([1.0, 0.25] * 4)) / 8  # of an odd subject the mean over seeds is a quarter
    assert curve.draws[:, 0] == pytest.approx(expected)
    low, high = curve.score().ci
    assert (low, high) == pytest.approx(curve.band[:, 5])
    assert low < 0.625 < high


def test_one_subject_with_lesions_gives_no_band_and_none_gives_no_curve(make_view):
    some, none = make_view("a", 1, 0, 2), [make_view(name, 0, 0, 0) for name in "bc"]
    curve = froc_curve(judge_of([[some, *none]]), Group("plain", 1.0))
    assert curve.band is None
    assert curve.score().value == 0.5
    assert curve.score().ci is None
    assert froc_curve(judge_of([none]), Group("plain", 1.0)) is None


@pytest.fixture
def asked(made_up):
    """The made-up comparison at the largest budget, its scores as if cells had been timed."""
    comparison, scores, views_of = made_up
    cells = tuple(cell for cell in comparison.cells if cell.budget == 1.0)
    comparison = comparison.model_copy(update={"cells": cells, "subsets": False})
    timed = {
        cell.name: scores[cell.name].model_copy(
            update={
                "training": scores[cell.name].training.model_copy(
                    update={"training_seconds": 100.0 + cell.fold + cell.seed, "seconds_per_case": 0.25 * cell.seed}
                )
            }
        )
        for cell in cells
    }
    return comparison, scores, timed, views_of


def test_costs_are_means_over_folds_and_seeds(asked, tmp_path):
    comparison, _, timed, views_of = asked
    tables = all_tables(Judge(comparison.cells, timed, views_of, 0, 200), comparison)
    table = next(table for table in tables if table.name == "costs")
    assert [(row["parameters"], row["training_s"], row["seconds_per_case"]) for row in table.rows] == [
        (1234, 102, 0.375)
    ] * 2
    shown = as_markdown(table)
    assert (
        "| recipe | scans | parameters | steps | training, s | seconds per case | lesion F1 | FP per lesion-free scan |"
        in shown
    )
    assert "| plain | 12 | 1,234 | 10 | 102 | 0.375 |" in shown
    write_page(tables, comparison, tmp_path)
    assert read_tsv(tmp_path / "tables" / "froc.tsv")[0].keys() > {"froc_0.125", "froc_8_low", "froc_score_high"}
    assert all((tmp_path / "figures" / f"{name}.png").is_file() for name in ("froc", "costs"))


def test_scores_of_earlier_versions_have_no_times(asked):
    comparison, scores, _, views_of = asked
    tables = all_tables(Judge(comparison.cells, scores, views_of, 0, 200), comparison)
    table = next(table for table in tables if table.name == "costs")
    assert "| recipe | scans | parameters | steps | lesion F1 | FP per lesion-free scan |" in as_markdown(table)
    assert not any("Training: seconds" in note for note in table.notes)
