"""What the benchmark of second stages computes, on counts that are worked out by hand."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from cmb_autoseg.evaluation.statistics.intervals import Resampling
from cmb_autoseg.evaluation.statistics.paired import compare
from cmb_autoseg.geometry import Volume


@pytest.fixture(scope="module")
def script():
    path = Path(__file__).parents[2] / "benchmarks" / "second_stage.py"
    spec = importlib.util.spec_from_file_location("benchmark_second_stage", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def contest(script):
    """Two cases of 2 lesions and one without; at 0.5 the first finds 3 of 4 at 4 false positives."""
    thresholds, n_lesions = np.array([0.2, 0.5, 0.8]), np.array([2.0, 2.0, 0.0])
    first = script.Counts(
        thresholds,
        np.array([[2.0, 2, 1], [2, 1, 0], [0, 0, 0]]),
        np.array([[6.0, 2, 0], [6, 1, 0], [3, 1, 0]]),
        n_lesions,
    )
    second = script.Counts(
        thresholds,
        np.array([[2.0, 2, 2], [2, 1, 0], [0, 0, 0]]),
        np.array([[5.0, 1, 0], [4, 1, 0], [1, 0, 0]]),
        n_lesions,
    )
    return script.Contest(first, second, 0.5)


def test_both_are_cut_where_they_reach_the_sensitivity_of_the_first(contest):
    one, everyone = np.ones((1, 3)), np.ones(3, dtype=bool)
    assert contest.target(one) == pytest.approx([0.75])
    assert contest.statistic(contest.first, everyone).value() == pytest.approx(4 / 3)
    assert contest.statistic(contest.second, everyone).value() == pytest.approx(2 / 3)
    free = np.array([False, False, True])
    assert contest.statistic(contest.first, free).value() == 1.0
    assert contest.statistic(contest.second, free).value() == 0.0


def test_a_second_stage_that_never_gets_there_is_compared_at_its_best(script, contest):
    lossy = script.Counts(
        contest.second.thresholds,
        np.array([[1.0, 1, 1], [1, 1, 0], [0, 0, 0]]),
        contest.second.false,
        np.array([2.0, 2, 0]),
    )
    lower = script.Contest(contest.first, lossy, 0.5)
    assert lower.target(np.ones((1, 3))) == pytest.approx([0.5])
    assert lower.statistic(contest.first, np.ones(3, dtype=bool)).value() == pytest.approx(4 / 3)


def test_thresholds_are_chosen_anew_in_every_draw(contest):
    statistic = contest.statistic(contest.second, np.ones(3, dtype=bool))
    # Without the second case the first stage finds all at 0.5; the second one does so at 0.8, without a false positive.
    assert statistic.of(np.array([[1.0, 0, 1]])) == pytest.approx([0.0])
    assert np.isnan(statistic.of(np.array([[0.0, 0, 1]]))).all()


def test_the_difference_of_a_system_to_itself_is_nothing(contest):
    statistic = contest.statistic(contest.first, np.ones(3, dtype=bool))
    difference = compare(statistic, statistic, ["a", "b", "c"], Resampling(n_resamples=50))
    assert difference.value == 0.0


def test_counts_of_maps_by_components_and_by_peaks(script):
    """Two lesions whose prediction merges below 0.3, and a false one; 10 voxels of 10 mm in a row."""
    affine = np.diag([10.0, 1, 1, 1])
    row = np.array([0, 0.9, 0.25, 0.6, 0, 0, 0, 0, 0.4, 0], dtype=np.float32).reshape(-1, 1, 1)
    reading = np.zeros(row.shape, dtype=np.uint8)
    reading[1], reading[3] = 1, 1
    maps = [(Volume(row, affine), Volume(reading, affine))]
    peaks = script.counts_of_peaks(maps)
    assert peaks.thresholds.tolist() == pytest.approx([0.4, 0.6, 0.9, 1.0])
    assert peaks.hits.tolist() == [[2, 2, 1, 0]]
    assert peaks.false.tolist() == [[1, 0, 0, 0]]
    components = script.counts_of_components(maps)
    at = components.thresholds.tolist().index(0.5)
    assert (components.hits[0, at], components.false[0, at]) == (2, 0)
    low = components.thresholds.tolist().index(0.2)
    assert (components.hits[0, low], components.false[0, low]) == (0, 2)  # one component, its middle far from both
