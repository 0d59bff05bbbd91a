"""The AUC from histograms against scikit-learn's from the values."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.metrics.voxel_histogram import N_BINS, areas_under_curve, count_probabilities, wins_of_pairs


def voxels(seed, shape=(9, 8, 7)):
    """Probabilities crowded at 0 with ties, and a mask that they know something of."""
    rng = np.random.default_rng(seed)
    lesion = rng.random(shape) < 0.1
    return np.clip(rng.normal(0.1, 0.2, shape) + 0.3 * lesion, 0, 1).astype(np.float32), lesion


def cut(probability):
    """The lower end of each value's bin."""
    return (probability.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def area(*cases, weights=None):
    """Of (probability, lesion) pairs, pooled."""
    n_lesion, n_other = (np.array([np.count_nonzero(lesion == side) for _, lesion in cases]) for side in (True, False))
    wins = wins_of_pairs([count_probabilities(*case) for case in cases])
    return areas_under_curve(wins, n_lesion, n_other, [np.ones(len(cases))] if weights is None else weights)


def test_it_equals_sklearn_on_cut_values():
    probability, lesion = voxels(0)
    expected = roc_auc_score(lesion.ravel(), cut(probability).ravel())
    assert area((probability, lesion)) == pytest.approx(expected, abs=1e-12)


def test_it_tells_small_probabilities_apart():
    """From 1e-12 to 1, most of them below what half precision keeps; lesions are a little more probable."""
    rng = np.random.default_rng(0)
    lesion = rng.random(20_000) < 0.05
    exponent = np.clip(rng.normal(-9, 2, lesion.size) + 1.5 * lesion, -12, 0)
    probability = (10**exponent).astype(np.float32)
    expected = roc_auc_score(lesion, probability)
    assert 0.65 < expected < 0.75
    assert area((probability, lesion)) == pytest.approx(expected, abs=2e-4)
    assert area((probability, lesion)) == pytest.approx(roc_auc_score(lesion, cut(probability)), abs=1e-12)
    assert abs(roc_auc_score(lesion, probability.astype(np.float16)) - expected) > 0.04


def test_cases_pool_as_often_as_they_are_drawn():
    cases = [voxels(seed) for seed in range(3)]
    for draw in ([0, 1, 2], [0, 0, 2], [1, 1, 1]):
        pooled = (np.concatenate([part(cases[n]).ravel() for n in draw]) for part in (lambda c: c[1], lambda c: c[0]))
        lesion, probability = pooled
        found = area(*cases, weights=np.bincount(draw, minlength=3)[None])
        assert found == pytest.approx(roc_auc_score(lesion, cut(probability)), abs=1e-12)


def test_hand_counted():
    """Of 2 x 2 pairs: 0.5 over 0.25 wins, 0.5 against 0.5 ties, 0 against 0.25 and 0.5 loses: 1.5 / 4."""
    values, lesion = np.array([0.5, 0.0, 0.25, 0.5]), np.array([True, True, False, False])
    assert area((values, lesion)).tolist() == [1.5 / 4]
    # The ends of the range have their bins, and a negative zero is a zero.
    ends = count_probabilities(np.array([-0.0, 0.0, 1.0]), np.array([False, True, True]))
    assert (ends.lesion[0], ends.other[0], ends.lesion[N_BINS - 1]) == (1, 1, 1)


def test_one_kind_of_voxel_has_no_auc():
    assert np.isnan(area((np.array([0.1, 0.2]), np.array([False, False])))).all()


@pytest.mark.parametrize("value", [1.5, -0.1, np.nan])
def test_what_is_no_probability_is_refused(value):
    with pytest.raises(InputError, match="expected probabilities from 0 to 1"):
        count_probabilities(np.array([0.5, value]), np.array([True, False]))
