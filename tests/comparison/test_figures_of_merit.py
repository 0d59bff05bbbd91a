"""Figures of weighted cases, and thresholds that no case chooses for itself, by hand."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cmb_autoseg.comparison.figures_of_merit import chosen_thresholds, measure
from cmb_autoseg.evaluation.metrics.voxel_histogram import count_probabilities
from cmb_autoseg.inference.operating_points import SWEEP_THRESHOLDS, points_of

N = len(SWEEP_THRESHOLDS)
HALF = SWEEP_THRESHOLDS.index(0.5)


def peak(index, height, elsewhere=0):
    counts = np.full(N, elsewhere)
    counts[index] = height
    return counts


def test_a_subject_does_not_choose_its_own_threshold(make_view):
    """`a` is best at 10, `b` and `c` at 20, `c` weaker: each gets what the two others like."""
    views = [
        make_view("a", peak(10, 4), 0, 4),
        make_view("b", peak(20, 3), 0, 4),
        make_view("c", peak(20, 2), 0, 4),
    ]
    assert chosen_thresholds(views) == {"c/a": 20, "c/b": 10, "c/c": 10}


def test_scans_of_a_subject_are_left_out_together(make_view):
    views = [make_view(name, peak(10, 4), 0, 4, subject="c/a") for name in ("a1", "a2")]
    views.append(make_view("b", peak(30, 1), 0, 4))
    assert chosen_thresholds(views) == {"c/a": 30, "c/b": 10}


def test_of_thresholds_with_the_same_f1_it_is_the_one_that_counting_would_be(make_view):
    """The middle of the longest run: 7 to 9, not 3, nor the highest."""
    run = peak(3, 2) + peak(7, 2) + peak(8, 2) + peak(9, 2)
    even = [make_view("a", run, 0, 4), make_view("b", 0, 0, 0)]
    assert chosen_thresholds(even) == {"c/a": HALF, "c/b": 8}, "b gives a nothing to choose from"
    points = {point.name: point for point in points_of(even[0].counts)}
    assert SWEEP_THRESHOLDS.index(points["counting"].threshold) == 8
    nothing = [make_view("a", 0, peak(3, 0, elsewhere=2), 4), make_view("b", 1, 0, 1)]
    assert chosen_thresholds(nothing)["c/b"] == HALF, "where nothing is found, 0.5"
    assert chosen_thresholds([], ["c/a"]) == {"c/a": HALF}


def test_who_gave_nothing_to_choose_by_gets_what_all_others_like(make_view):
    views = [make_view("a", peak(10, 4), 0, 4), make_view("b", peak(20, 3), 0, 4)]
    assert chosen_thresholds(views, ["c/new", "c/a"]) == {"c/new": 10, "c/a": 20, "c/b": 10}


def test_figures_by_hand(make_view):
    """3 of 4 lesions, 2 false positives, one of these on a lesion-free scan; a draw may hold a case twice."""
    cases = measure([make_view("b", 0, 1, 0), make_view("a", 3, 1, 4)], {"c/a": HALF, "c/b": HALF})
    assert cases.cases == ("a", "b")
    assert cases.value("sensitivity") == 3 / 4
    assert cases.value("precision") == 3 / 5
    assert cases.value("f1") == pytest.approx(2 * 0.75 * 0.6 / 1.35)
    assert cases.value("fp_per_scan") == 1
    assert cases.value("fp_per_negative_scan") == 1
    assert cases.value("voxel_sensitivity") == 9 / 20
    assert cases.value("voxel_specificity") == 1 - 4 / 1980
    weights = np.array([[1, 2], [0, 1], [2, 0]])
    assert cases.draws("fp_per_scan", weights).tolist() == [1, 1, 1]
    assert cases.draws("precision", weights).tolist() == [3 / 6, 0, 3 / 4]
    assert np.isnan(cases.draws("f1", weights)).tolist() == [False, True, False]
    assert np.isnan(cases.value("auc"))
    assert cases.f1_of_subjects() == {"c/a": pytest.approx(0.75)}


def test_nothing_predicted_is_f1_zero(make_view):
    cases = measure([make_view("a", 0, 0, 4)], {"c/a": HALF})
    assert (cases.value("f1"), cases.value("sensitivity")) == (0, 0)
    assert np.isnan(cases.value("precision"))


def test_auc_of_a_draw_is_that_of_its_voxels(make_view):
    rng = np.random.default_rng(0)
    maps = [((rng.integers(0, 65, 400) / 64), rng.random(400) < 0.2) for _ in range(3)]
    views = [
        make_view(f"p{n}", 0, 0, 0, histogram=count_probabilities(probability, lesion))
        for n, (probability, lesion) in enumerate(maps)
    ]
    cases = measure(views, dict.fromkeys(("c/p0", "c/p1", "c/p2"), HALF))
    cases.counts["n_voxels"][:] = [lesion.sum() for _, lesion in maps]
    cases.counts["n_other_voxels"][:] = [(~lesion).sum() for _, lesion in maps]
    for draw in ([0, 1, 2], [0, 0, 2], [1, 1, 1]):
        pooled = [np.concatenate([maps[n][side] for n in draw]) for side in (1, 0)]
        weights = np.bincount(draw, minlength=3)[None]
        assert cases.draws("auc", weights)[0] == pytest.approx(roc_auc_score(*pooled), abs=1e-12)
