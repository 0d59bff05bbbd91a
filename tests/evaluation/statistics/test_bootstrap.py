"""Draws of subjects, percentile and BCa intervals, p values: by hand and against scipy."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import bootstrap

from cmb_autoseg.evaluation.statistics.bootstrap import (
    acceleration,
    bca_interval,
    leave_out_weights,
    percentile_interval,
    single_subject_weights,
    subject_weights,
    two_sided_p,
)


def test_cases_of_a_subject_are_drawn_together():
    weights = subject_weights(["a", "b", "a", "c"], 200, np.random.default_rng(0))
    assert weights.shape == (200, 4)
    assert np.array_equal(weights[:, 0], weights[:, 2])
    # As many subjects as there are in every draw.
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()


def test_draws_have_the_probabilities_of_all_that_can_be_drawn():
    """Of 3 subjects 27 ordered draws are equally likely; one subject thrice comes once in 27."""
    counted = {}
    for draw in product(range(3), repeat=3):
        key = tuple(np.bincount(draw, minlength=3))
        counted[key] = counted.get(key, 0) + 1 / 27
    weights = subject_weights(["a", "b", "c"], 40_000, np.random.default_rng(1))
    keys, n = np.unique(weights, axis=0, return_counts=True)
    found = {tuple(key): count / 40_000 for key, count in zip(keys.tolist(), n, strict=True)}
    assert found == pytest.approx(counted, abs=0.01)


def test_the_interval_is_scipys():
    values = np.random.default_rng(2).gamma(2, size=25)
    weights = subject_weights(range(25), 20_000, np.random.default_rng(3))
    ours = percentile_interval(weights @ values / 25)
    theirs = bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=4).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.02)


def test_interval_by_hand():
    assert percentile_interval(np.arange(101.0), 0.9) == pytest.approx((5, 95))
    # Undefined draws are left out; where they are most, there is no interval.
    assert percentile_interval([np.nan, 1.0, 1.0]) == (1, 1)
    assert percentile_interval([np.nan, np.nan, 1.0]) is None


def test_p_by_hand():
    assert two_sided_p([1.0] * 99) == pytest.approx(2 / 100)
    assert two_sided_p([-1.0] * 9 + [1.0] * 90) == pytest.approx(2 * 10 / 100)
    assert two_sided_p([0.0] * 99) == 1.0
    assert two_sided_p([np.nan] * 3) is None
    shifted = np.random.default_rng(5).normal(2.1, 1, 1000)
    interval = percentile_interval(shifted)
    assert interval is not None
    assert (two_sided_p(shifted) < 0.05) == (interval[0] > 0)


def test_subjects_alone_and_left_out():
    alone = single_subject_weights(["b", "a", "b"])
    assert alone.tolist() == [[True, False, True], [False, True, False]]
    assert leave_out_weights(["b", "a", "b"]).tolist() == [[False, True, False], [True, False, True]]


def test_acceleration_by_hand():
    """Means without each of 0, 0, 3: 1.5, 1.5, 0; distances from their mean of 1: -0.5, -0.5, 1."""
    assert acceleration([1.5, 1.5, 0.0]) == pytest.approx(0.75 / (6 * 1.5**1.5))
    assert np.isnan(acceleration([0.3] * 7))
    assert np.isnan(acceleration([0.1, np.nan, 0.2]))
    assert np.isnan(acceleration([]))


@pytest.mark.parametrize("sample", ["skewed", "ties"])
def test_the_corrected_interval_is_scipys(sample):
    rng = np.random.default_rng(6)
    values = rng.gamma(0.7, size=30) if sample == "skewed" else rng.poisson(0.6, size=30).astype(float)
    weights = subject_weights(range(30), 40_000, rng)
    left_out = leave_out_weights(range(30)) @ values / 29
    ours = bca_interval(values.mean(), weights @ values / 30, left_out)
    theirs = bootstrap((values,), np.mean, n_resamples=40_000, method="BCa", rng=7).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.02)
    plain = percentile_interval(weights @ values / 30)
    assert ours[1] > plain[1] + 0.03  # the correction matters here


def test_the_corrected_interval_of_symmetric_draws_is_the_middle():
    draws, left_out = np.arange(-50.0, 51.0), [-1.0, 0.0, 1.0]
    assert bca_interval(0.0, draws, left_out) == pytest.approx(percentile_interval(draws))
    # Undefined draws are left out.
    assert bca_interval(0.0, [*draws, *[np.nan] * 50], left_out) == pytest.approx(percentile_interval(draws))


def test_where_the_corrected_interval_is_undefined():
    draws, left_out = np.arange(-50.0, 51.0), [-1.0, 0.0, 1.0]
    assert bca_interval(0.0, draws, [0.5, 0.5, 0.5]) is None
    assert bca_interval(60.0, draws, left_out) is None
    assert bca_interval(np.nan, draws, left_out) is None
    assert bca_interval(0.0, [np.nan, np.nan, 1.0], left_out) is None
