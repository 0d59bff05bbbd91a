"""The AUC from histograms against scikit-learn's from the values."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.voxel_auc import N_BINS, VoxelHistogram, area_under_curve, count_probabilities


def voxels(seed, shape=(9, 8, 7)):
    """Probabilities crowded at 0 with ties, and a mask that they know something of."""
    rng = np.random.default_rng(seed)
    lesion = rng.random(shape) < 0.1
    return np.clip(rng.normal(0.1, 0.2, shape) + 0.3 * lesion, 0, 1).astype(np.float32), lesion


def test_it_equals_sklearn_on_rounded_values():
    probability, lesion = voxels(0)
    rounded = probability.astype(np.float16)
    expected = roc_auc_score(lesion.ravel(), rounded.ravel())
    assert count_probabilities(probability, lesion).auc == pytest.approx(expected, abs=1e-12)


def test_histograms_of_cases_add_up():
    cases = [voxels(seed) for seed in range(3)]
    pooled = np.concatenate([c[0].astype(np.float16).ravel() for c in cases])
    expected = roc_auc_score(np.concatenate([c[1].ravel() for c in cases]), pooled)
    first, second, third = (count_probabilities(*case) for case in cases)
    assert (first + second + third).auc == pytest.approx(expected, abs=1e-12)
    both = area_under_curve([first.lesion, second.lesion], [first.other, second.other])
    assert both.tolist() == [first.auc, second.auc]


def test_hand_counted():
    """Of 2 x 2 pairs: 0.5 over 0.25 wins, 0.5 against 0.5 ties, 0 against 0.25 and 0.5 loses: 1.5 / 4."""
    found = count_probabilities(np.array([0.5, 0.0, 0.25, 0.5]), np.array([True, True, False, False]))
    assert found.auc == 1.5 / 4
    # The ends of the range have their bins, and a negative zero is a zero.
    ends = count_probabilities(np.array([-0.0, 0.0, 1.0]), np.array([False, True, True]))
    assert (ends.lesion[0], ends.other[0], ends.lesion[N_BINS - 1]) == (1, 1, 1)


def test_one_kind_of_voxel_has_no_auc():
    assert np.isnan(count_probabilities(np.array([0.1, 0.2]), np.array([False, False])).auc)
    assert np.isnan(VoxelHistogram(*np.zeros((2, N_BINS), np.int64)).auc)


@pytest.mark.parametrize("value", [1.5, -0.1, np.nan])
def test_what_is_no_probability_is_refused(value):
    with pytest.raises(InputError, match="expected probabilities from 0 to 1"):
        count_probabilities(np.array([0.5, value]), np.array([True, False]))
