"""DeLong's test against the definition of 1988, pair by pair, and against scikit-learn and simulation."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.statistics.delong import delong_area, delong_covariance, delong_test


def direct(scores, truth):
    """Eq. 3 to 6 of DeLong 1988 with loops over pairs."""
    positive, negative = np.flatnonzero(truth), np.flatnonzero(~truth)
    kernel = np.zeros((len(scores), len(positive), len(negative)))
    for system, row in enumerate(scores):
        for i, one in enumerate(positive):
            for j, other in enumerate(negative):
                kernel[system, i, j] = 1.0 if row[one] > row[other] else 0.5 if row[one] == row[other] else 0.0
    of_positive, of_negative = kernel.mean(axis=2), kernel.mean(axis=1)
    covariance = np.cov(of_positive) / len(positive) + np.cov(of_negative) / len(negative)
    return kernel.mean(axis=(1, 2)), covariance


def study(rng, n=60, ties=False):
    truth = np.arange(n) < n // 3
    shared = rng.normal(size=n)
    scores = np.stack([shared + truth * gain + rng.normal(size=n) for gain in (1.5, 1.0)])
    return (np.round(scores) if ties else scores), truth


@pytest.mark.parametrize("ties", [False, True])
def test_the_covariance_is_that_of_the_definition(ties):
    for seed in range(20):
        scores, truth = study(np.random.default_rng(seed), n=15 + seed, ties=ties)
        areas, covariance = delong_covariance(scores, truth)
        expected_areas, expected = direct(scores, truth)
        assert areas == pytest.approx([roc_auc_score(truth, row) for row in scores], abs=1e-14)
        assert areas == pytest.approx(expected_areas, abs=1e-14)
        assert covariance == pytest.approx(expected, abs=1e-14)


def test_the_interval_is_symmetric_on_the_logit_scale():
    scores, truth = study(np.random.default_rng(1))
    found = delong_area(scores[0], truth)
    low, high = np.log(np.array(found.ci) / (1 - np.array(found.ci)))
    middle = np.log(found.auc / (1 - found.auc))
    assert middle - low == pytest.approx(high - middle)
    assert high - middle == pytest.approx(1.959964 * np.sqrt(found.variance) / (found.auc * (1 - found.auc)))
    flipped = delong_area(-scores[0], truth)
    assert flipped.ci == pytest.approx((1 - found.ci[1], 1 - found.ci[0]))


def test_perfect_areas_have_no_interval():
    truth = np.array([True, True, False, False])
    assert delong_area([3, 4, 1, 2], truth).ci is None
    assert delong_test([3, 4, 1, 2], [3, 4, 1, 2], truth).p == 1
    assert delong_test([3, 4, 1, 2], [3, 4, 1, 2], truth).correlation is None


def test_the_paired_test():
    scores, truth = study(np.random.default_rng(2), n=90)
    found = delong_test(scores[0], scores[1], truth)
    areas, covariance = direct(scores, truth)
    z = (areas[0] - areas[1]) / np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    back = delong_test(scores[1], scores[0], truth)
    assert (back.difference, back.p) == pytest.approx((-found.difference, found.p))
    assert found.p == pytest.approx(2 * norm.sf(abs(z)))
    assert 0.2 < found.correlation < 0.9
    # The scores' scale does not matter.
    assert delong_test(np.exp(scores[0]), scores[1] * 3 + 1, truth) == found


def test_the_test_has_its_level():
    """Two systems of equal area: 5 % of 400 tests are below 0.05, give or take three standard errors."""
    rng, truth = np.random.default_rng(3), np.arange(80) < 40
    p = []
    for _ in range(400):
        shared = rng.normal(size=80) + truth
        p.append(delong_test(shared + rng.normal(size=80), shared + rng.normal(size=80), truth).p)
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.033)


def test_scans_of_one_subject():
    """Every scan twice is no more evidence: the variance is that of the subjects, in Obuchowski's form."""
    scores, truth = study(np.random.default_rng(4), n=60)
    once, twice = delong_area(scores[0], truth), np.repeat(scores[0], 2)
    together = delong_area(twice, np.repeat(truth, 2), subjects=np.repeat(np.arange(60), 2))
    assert together.variance == pytest.approx(once.variance)
    assert delong_area(twice, np.repeat(truth, 2)).variance == pytest.approx(once.variance / 2, rel=0.1)
    # One scan a subject: the same as without subjects.
    assert delong_area(scores[0], truth, subjects=list(range(60))).variance == pytest.approx(once.variance, abs=1e-15)


def test_lesions_and_other_findings_of_one_subject():
    """The variance of clustered areas is the variance over studies that are drawn anew."""
    rng = np.random.default_rng(5)
    truth, subjects = np.tile([True, True, False, False, False], 40), np.repeat(np.arange(40), 5)
    areas, variances, naive = [], [], []
    for _ in range(250):
        scores = rng.normal(size=200) + truth + np.repeat(rng.normal(0, 1, 40), 5)
        found = delong_area(scores, truth, subjects)
        areas.append(found.auc)
        variances.append(found.variance)
        naive.append(delong_area(scores, truth).variance)
    assert np.mean(variances) == pytest.approx(np.var(areas), rel=0.25)
    assert np.mean(naive) > 1.25 * np.mean(variances)


@pytest.mark.parametrize(
    ("scores", "truth", "message"),
    [
        ([1, 2, 3], [True, False, False], "fewer than two subjects with positive"),
        ([1, 2, 3], [True, True, False], "fewer than two subjects with negative"),
        ([1, np.nan, 3, 4], [True, True, False, False], "has no score"),
        ([1, 2, 3], [True, False], "one truth a case"),
    ],
)
def test_cases_that_cannot_be_tested(scores, truth, message):
    with pytest.raises(InputError, match=message):
        delong_area(scores, truth)


def test_systems_of_different_cases():
    with pytest.raises(InputError, match="scores of 3 and 4 cases; compare the same cases"):
        delong_test([1, 2, 3], [1, 2, 3, 4], [True, True, False, False])
