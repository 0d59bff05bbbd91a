"""Kappa against scikit-learn, statsmodels and a published example."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import fleiss_kappa as published_fleiss

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.metrics.figure import Statistic
from cmb_autoseg.evaluation.statistics.agreement import (
    cohen_kappa,
    cohen_statistic,
    fleiss_kappa,
    fleiss_statistic,
)

FLEISS_1971_LIKE = [
    [0, 0, 0, 0, 14],
    [0, 2, 6, 4, 2],
    [0, 0, 3, 5, 6],
    [0, 3, 9, 2, 0],
    [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0],
    [3, 2, 6, 3, 0],
    [2, 5, 3, 2, 2],
    [6, 5, 2, 1, 0],
    [0, 2, 2, 3, 7],
]
"""The worked example of 14 raters and 10 items that is widely printed, with kappa 0.210."""


def ratings(seed, n=80, n_classes=4):
    rng = np.random.default_rng(seed)
    first = rng.integers(0, n_classes, n)
    second = np.where(rng.random(n) < 0.6, first, rng.integers(0, n_classes, n))
    return first.tolist(), second.tolist()


@pytest.mark.parametrize("weights", ["none", "linear", "quadratic"])
def test_cohens_kappa_is_that_of_scikit_learn(weights):
    for seed in range(10):
        first, second = ratings(seed)
        expected = cohen_kappa_score(first, second, weights=None if weights == "none" else weights)
        found = cohen_kappa(first, second, range(4), weights)
        assert found.value == pytest.approx(expected, abs=1e-12)
        assert found.ci[0] < expected < found.ci[1]
        # A class that nobody chose changes nothing.
        assert cohen_kappa(first, second, range(5), weights).ci == pytest.approx(found.ci)


def test_the_interval_of_cohens_kappa_covers():
    """200 pairs of raters who agree beyond chance in 60 %; the standard error of a share is 1.5 %."""
    covered = [found.ci[0] < 0.6 < found.ci[1] for found in (cohen_kappa(*ratings(s), range(4)) for s in range(200))]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.04)


@pytest.mark.parametrize("weights", ["none", "linear", "quadratic"])
def test_cohens_kappa_of_draws_is_that_of_scikit_learn(weights):
    first, second = map(np.array, ratings(1, n=60))
    groups, rng = np.arange(60) % 12, np.random.default_rng(2)
    tables = np.zeros((12, 4, 4))
    np.add.at(tables, (groups, first, second), 1)
    drawn = rng.multinomial(12, np.full(12, 1 / 12), size=20)
    expected = [
        cohen_kappa_score(
            first, second, weights=None if weights == "none" else weights, sample_weight=draw[groups], labels=range(4)
        )
        for draw in drawn
    ]
    assert cohen_statistic(tables, weights).of(drawn.astype(float)) == pytest.approx(expected, abs=1e-12)


def test_cohens_kappa_by_hand():
    """20 items: 15 agreed on, 10.2 by chance."""
    first = ["yes"] * 12 + ["no"] * 8
    second = ["yes"] * 9 + ["no"] * 3 + ["yes"] * 2 + ["no"] * 6
    found = cohen_kappa(first, second, ["yes", "no"])
    by_chance = (12 * 11 + 8 * 9) / 400
    assert found.value == pytest.approx((0.75 - by_chance) / (1 - by_chance))


def test_undefined_kappas():
    found = cohen_kappa(["a", "a"], ["a", "a"], ["a", "b"])
    assert (found.value, found.why) == (None, "all judgements are in one class")
    assert np.isnan(fleiss_kappa([[3, 0], [3, 0]]))
    assert np.isnan(fleiss_statistic([[3, 0], [3, 0]], [0, 1], 2).value())
    empty = fleiss_statistic(np.empty((0, 3)), [], 4)
    assert np.isnan(empty.value())
    assert empty.why_none == "no item was judged by all raters"


def test_raters_of_different_items():
    with pytest.raises(InputError, match="1 and 2 items"):
        cohen_kappa(["a"], ["a", "b"], ["a", "b"])
    with pytest.raises(InputError, match="class c; there are a, b"):
        cohen_kappa(["a"], ["c"], ["a", "b"])


def test_fleiss_kappa_of_the_printed_example():
    assert fleiss_kappa(FLEISS_1971_LIKE) == pytest.approx(0.210, abs=5e-4)


def test_fleiss_kappa_of_draws_is_that_of_statsmodels():
    rng = np.random.default_rng(3)
    counts = rng.multinomial(5, [0.6, 0.3, 0.1], size=40)
    groups = np.arange(40) % 9
    statistic = fleiss_statistic(counts, groups, 9)
    assert isinstance(statistic, Statistic)
    assert statistic.value() == pytest.approx(fleiss_kappa(counts), abs=1e-12)
    drawn = rng.multinomial(9, np.full(9, 1 / 9), size=20)
    expected = [published_fleiss(np.repeat(counts, draw[groups], axis=0)) for draw in drawn]
    assert statistic.of(drawn.astype(float)) == pytest.approx(expected, abs=1e-12)


def test_raters_who_agree():
    assert fleiss_kappa([[4, 0], [0, 4], [4, 0]]) == pytest.approx(1)
    found = cohen_kappa(["a", "b", "a"], ["a", "b", "a"], ["a", "b"])
    assert found.value == pytest.approx(1)
