"""Sample sizes against published tables, and power against simulated studies."""

import numpy as np
import pytest
from scipy.stats import norm

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.statistics.area_variance import covariance_of_areas, variance_of_area
from cmb_autoseg.evaluation.statistics.delong import delong_covariance, delong_test
from cmb_autoseg.evaluation.statistics.power import AreaStudy, retrospective_power

MODELS = ("binormal", "hanley_mcneil", "obuchowski")


@pytest.mark.parametrize(("power", "n"), [(0.8, 652), (0.9, 897), (0.95, 1131)])
def test_sample_sizes_of_hanley_and_mcneil(power, n):
    """Table III of 1982: areas 0.70 and 0.75, one-sided 5 %, two groups of cases; from quantiles of two decimals."""
    study = AreaStudy(0.70, 0.75, variance="hanley_mcneil", null="both_first", sides=1)
    assert study.n_positive(power) == pytest.approx(n, rel=0.004)


@pytest.mark.parametrize(
    ("ratio", "area", "n_positive"),
    [(0.25, 0.6, 334), (0.25, 0.7, 80), (1, 0.6, 135), (1, 0.7, 33), (1, 0.8, 14), (2, 0.6, 102), (4, 0.6, 85)],
)
def test_sample_sizes_of_obuchowski(ratio, area, n_positive):
    """Table 4 of Obuchowski, Lieber and Wians 2004, Clinical Chemistry 50:1118: an area against 0.5, one-sided 5 %,
    power 90 %."""
    null, found = (variance_of_area(value, 1, ratio, "obuchowski") ** 0.5 for value in (0.5, area))
    needed = ((norm.isf(0.05) * null + norm.isf(0.1) * found) / (area - 0.5)) ** 2
    assert np.ceil(needed) == pytest.approx(n_positive, abs=1)


@pytest.mark.parametrize("model", MODELS)
def test_areas_of_the_same_scores_do_not_differ(model):
    """With a correlation of 1 the covariance is the variance; the ratings' model has rounded constants."""
    for area, ratio in ((0.6, 0.5), (0.8, 1.0), (0.9, 3.0)):
        variance = variance_of_area(area, 80, 80 * ratio, model)
        assert covariance_of_areas(area, area, 80, 80 * ratio, 1.0, model) == pytest.approx(variance, rel=0.01)
        assert covariance_of_areas(area, area, 80, 80 * ratio, 0.0, model) == pytest.approx(0, abs=1e-9)


def binormal_study(rng, first, second, correlation, n_positive, n_negative):
    truth = np.arange(n_positive + n_negative) < n_positive
    shared, own = rng.normal(size=len(truth)), rng.normal(size=(2, len(truth)))
    means = np.sqrt(2) * norm.ppf([[first], [second]]) * truth
    return means + np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own, truth


def test_the_binormal_covariance_is_that_of_simulated_studies():
    rng, areas, estimated = np.random.default_rng(1), [], []
    for _ in range(800):
        found, covariance = delong_covariance(*binormal_study(rng, 0.75, 0.85, 0.5, 30, 60))
        areas.append(found)
        estimated.append(covariance)
    expected = np.array(
        [
            [variance_of_area(0.75, 30, 60, "binormal"), covariance_of_areas(0.75, 0.85, 30, 60, 0.5, "binormal")],
            [covariance_of_areas(0.75, 0.85, 30, 60, 0.5, "binormal"), variance_of_area(0.85, 30, 60, "binormal")],
        ]
    )
    assert np.cov(np.array(areas).T) == pytest.approx(expected, rel=0.15)
    assert np.mean(estimated, axis=0) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(
    ("first", "second", "correlation", "n_positive", "n_negative"),
    [(0.8, 0.88, 0.5, 60, 60), (0.85, 0.92, 0.6, 40, 80)],
)
def test_power_is_the_share_of_simulated_studies_that_find_the_difference(
    first, second, correlation, n_positive, n_negative
):
    """400 paired studies, DeLong's test; the standard error of a share is 2.5 %."""
    rng, found = np.random.default_rng(2), 0
    for _ in range(400):
        scores, truth = binormal_study(rng, first, second, correlation, n_positive, n_negative)
        found += delong_test(scores[0], scores[1], truth).p < 0.05
    study = AreaStudy(first, second, correlation, n_negative / n_positive)
    assert study.power(n_positive) == pytest.approx(found / 400, abs=0.06)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_the_cases_needed_have_the_power(model, correlation):
    study = AreaStudy(0.84, 0.92, correlation, 2.5, variance=model)
    n = study.n_positive(0.8)
    assert study.power(n) >= 0.8 > study.power(n - 1)
    assert study.n_negative(n) == np.ceil(2.5 * n)
    # The two systems change places; the pair of systems on the same cases needs fewer.
    assert AreaStudy(0.92, 0.84, correlation, 2.5, variance=model).n_positive(0.8) == n
    assert AreaStudy(0.84, 0.92, 0.7, 2.5, variance=model).n_positive(0.8) < n


def test_a_finished_study():
    scores, truth = binormal_study(np.random.default_rng(3), 0.8, 0.85, 0.5, 60, 100)
    found = retrospective_power(scores[1], scores[0], truth)
    test = delong_test(scores[1], scores[0], truth)
    error = (test.ci[1] - test.ci[0]) / 2 / norm.isf(0.025)
    assert (found.difference, found.standard_error) == pytest.approx((test.difference, error))
    assert found.power == pytest.approx(norm.cdf(abs(test.difference) / error - norm.isf(0.025)))
    # A study as much larger as it says would have a standard error that gives 80 %.
    smaller = error * np.sqrt(60 / found.n_positive_needed)
    assert norm.cdf(abs(test.difference) / smaller - norm.isf(0.025)) == pytest.approx(0.8, abs=0.01)
    assert found.n_negative_needed / found.n_positive_needed == pytest.approx(100 / 60, rel=0.05)
    # The same study has 80 % for the difference that it says.
    assert norm.cdf(found.detectable_difference / error - norm.isf(0.025)) == pytest.approx(0.8)


def test_a_finished_study_of_equal_systems():
    scores, truth = binormal_study(np.random.default_rng(4), 0.8, 0.85, 0.5, 20, 20)
    found = retrospective_power(scores[0], scores[0], truth)
    assert (found.difference, found.power, found.n_positive_needed) == (0, 0, None)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"second": 0.8}, "both are 0.8"),
        ({"second": 1.0}, "second area: 1;"),
        ({"correlation": 1.0}, "from 0"),
        ({"negatives_per_positive": 0}, "above 0"),
        ({"alpha": 5}, "such as 0.05"),
    ],
)
def test_studies_that_cannot_be_planned(wrong, message):
    with pytest.raises(InputError, match=message):
        AreaStudy(**{"first": 0.8, "second": 0.9, **wrong})


def test_powers_that_cannot_be_had():
    with pytest.raises(InputError, match="between alpha"):
        AreaStudy(0.8, 0.9).n_positive(1.0)
    with pytest.raises(InputError, match="larger difference"):
        AreaStudy(0.8, 0.80001).n_positive(0.8)
