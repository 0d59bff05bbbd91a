"""Figures about numbers of lesions, against published and hand-counted examples."""

import json

import numpy as np
import pytest
from scipy.stats import spearmanr

from cmb_autoseg.evaluation.metrics.count import bland_altman, count_statistics, icc_agreement, spearman

SHROUT_FLEISS = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
"""Table 2 of Shrout and Fleiss 1979; table 4 gives ICC(2,1) = 0.29."""


@pytest.fixture
def cohort(scored):
    """Errors (predicted - reference) 1, 2, -1, 0."""
    return [
        scored(reference=r, predicted=p, name=str(index))
        for index, (p, r) in enumerate([(3, 2), (2, 0), (0, 1), (4, 4)])
    ]


def test_a_cohort_counted_by_hand(cohort):
    found = {name: statistic.value() for name, statistic in count_statistics(cohort).items()}
    sd = np.sqrt(((1 - 0.5) ** 2 + (2 - 0.5) ** 2 + (-1 - 0.5) ** 2 + (0 - 0.5) ** 2) / 3)
    assert found["mean_absolute_error"] == 1
    assert found["bias"] == 0.5
    assert found["error_sd"] == pytest.approx(sd)
    assert found["limit_of_agreement_low"] == pytest.approx(0.5 - 1.96 * sd)
    assert found["limit_of_agreement_high"] == pytest.approx(0.5 + 1.96 * sd)
    assert found["exact_count_share"] == 0.25
    assert found["spearman"] == pytest.approx(spearmanr([3, 2, 0, 4], [2, 0, 1, 4]).statistic)


def test_the_plot_has_the_figures(cohort):
    plot = bland_altman(cohort)
    assert (plot.mean.tolist(), plot.difference.tolist()) == ([2.5, 1, 0.5, 4], [1, 2, -1, 0])
    assert plot.limits == tuple(
        count_statistics(cohort)[f"limit_of_agreement_{end}"].value() for end in ("low", "high")
    )
    assert plot.as_json()["cases"] == ["0", "1", "2", "3"]


def test_ties_share_their_mean_rank():
    """By hand: ranks 1.5, 1.5, 3.5, 3.5, 5 against 2, 4, 3, 5, 1."""
    counts = np.array([[1, 2], [1, 5], [3, 3], [3, 9], [7, 1]])
    expected = np.corrcoef([1.5, 1.5, 3.5, 3.5, 5], [2, 4, 3, 5, 1])[0, 1]
    assert spearman(counts).value() == pytest.approx(expected)


def test_icc_is_that_of_shrout_and_fleiss():
    assert icc_agreement(SHROUT_FLEISS).value() == pytest.approx(0.29, abs=0.005)


def test_icc_of_perfect_agreement_is_1_and_a_shift_lowers_it():
    counts = np.array([0.0, 1, 3, 8])
    assert icc_agreement(np.stack([counts, counts], axis=1)).value() == pytest.approx(1)
    assert icc_agreement(np.stack([counts, counts + 2], axis=1)).value() < 0.9


def test_weights_are_cases_taken_again(random_cases, draws):
    rng = np.random.default_rng(0)
    cases = random_cases(rng, 8)
    weights, drawn = draws(rng, cases, 20)
    for name, statistic in count_statistics(cases).items():
        again = [count_statistics(own)[name].value() for own in drawn]
        np.testing.assert_allclose(statistic.of(weights), again, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("value", [0.0, 0.1, 7.0])
def test_equal_counts_have_neither_correlation(value):
    """0.1 is no binary fraction, so that its mean is not quite itself."""
    same = np.full((7, 2), value)
    assert np.isnan([spearman(same).value(), icc_agreement(same).value()]).all()
    one_side = np.stack([np.full(7, value), np.arange(7.0)], axis=1)
    assert np.isnan(spearman(one_side).value())
    assert icc_agreement(one_side).value() == pytest.approx(0, abs=0.2)


def test_few_cases_have_reasons(scored):
    statistics = count_statistics([scored(predicted=1), scored(reference=1)])
    assert {name: one.why_none for name, one in statistics.items() if np.isnan(one.value())} == dict.fromkeys(
        ("spearman", "icc"), "fewer than 3 cases"
    )
    alone = count_statistics([scored(predicted=1)])
    assert alone["bias"].value() == 1
    assert alone["error_sd"].why_none == "fewer than 2 cases"
    assert np.isnan(alone["limit_of_agreement_low"].value())
    for cases in ([], [scored()]):
        json.dumps(bland_altman(cases).as_json(), allow_nan=False)


def test_a_thousand_draws_take_little_time(random_cases):
    cases = random_cases(np.random.default_rng(0), 200)
    weights = np.random.default_rng(1).multinomial(200, np.full(200, 1 / 200), 1000).astype(float)
    for statistic in count_statistics(cases).values():
        assert np.isfinite(statistic.of(weights)).all()
