"""The exact AUC of all voxels against scikit-learn's."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.metrics import voxel_auc
from cmb_autoseg.evaluation.metrics.voxel_auc import LesionValues, count_wins
from cmb_autoseg.evaluation.metrics.voxel_histogram import areas_under_curve


def volume(seed, share_marked=0.05, decimals=None, dtype=np.float32, order="C"):
    """Mostly zeros, as maps of detectors are; lesions a little more probable."""
    rng = np.random.default_rng(seed)
    marked = rng.random((9, 8, 7)) < share_marked
    probability = np.clip(rng.normal(-0.3, 0.3, marked.shape) + 0.4 * marked, 0, 1)
    probability = probability if decimals is None else np.round(probability, decimals)
    return np.asarray(probability, dtype, order=order), marked


def areas(maps, weights=None):
    lesions = [LesionValues.of(*own) for own in maps]
    wins = np.stack([count_wins(lesions, *own) for own in maps], axis=1)
    n_lesion, n_other = (np.array([np.count_nonzero(m == side) for _, m in maps]) for side in (True, False))
    assert [own.n_voxels for own in lesions] == n_lesion.tolist()
    return areas_under_curve(wins, n_lesion, n_other, np.ones((1, len(maps))) if weights is None else weights)


def sklearn_area(maps):
    probability, marked = (np.concatenate([own[side].ravel() for own in maps]) for side in (0, 1))
    return roc_auc_score(marked, probability)


@pytest.mark.parametrize("decimals", [None, 2, 1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_equals_scikit_learn(decimals, dtype):
    maps = [volume(seed, decimals=decimals, dtype=dtype) for seed in range(4)]
    maps[2] = (maps[2][0], np.zeros_like(maps[2][1]))  # a scan without lesions
    maps[3] = (np.zeros_like(maps[3][0]), maps[3][1])  # a prediction of nothing
    assert areas(maps)[0] == pytest.approx(sklearn_area(maps), abs=1e-14)


def test_draws_take_cases_again():
    maps = [volume(seed, decimals=1) for seed in range(3)]
    for draw in ([0, 1, 2], [0, 0, 2], [1, 1, 1]):
        weights = np.bincount(draw, minlength=3)[None].astype(float)
        assert areas(maps, weights)[0] == pytest.approx(sklearn_area([maps[i] for i in draw]), abs=1e-14)


def test_slabs_and_order_in_memory_change_nothing(monkeypatch):
    expected = areas([volume(0), volume(1)])
    assert areas([volume(0, order="F"), volume(1, order="F")]) == expected
    monkeypatch.setattr(voxel_auc, "VOXELS_OF_SLAB", 60)
    assert areas([volume(0), volume(1, order="F")]) == expected


def test_hand_counted():
    """Lesion 0.5 and 0 against 0.25, 0.5, 0 and -0: 0.5 wins 3 and ties 1, 0 ties 2 of 8 pairs."""
    probability = np.array([0.5, 0.0, 0.25, 0.5, 0.0, -0.0], np.float32)
    marked = np.array([True, True, False, False, False, False])
    assert count_wins([LesionValues.of(probability, marked)], probability, marked).tolist() == [3.5 + 1.0]


def test_masks_of_whole_numbers_are_taken():
    mask = np.array([1, 0, 1, 0], np.uint8)
    marked = np.array([True, True, False, False])
    assert areas([(mask, marked)])[0] == roc_auc_score(marked, mask)


def test_one_kind_of_voxel_has_no_area():
    probability, marked = volume(0)
    assert np.isnan(areas([(probability, np.zeros_like(marked))])).all()
    assert np.isnan(areas([(probability, np.ones_like(marked))])).all()


@pytest.mark.parametrize("value", [1.5, -0.1, np.nan])
@pytest.mark.parametrize("inside", [True, False])
def test_what_is_no_probability_is_refused(value, inside):
    probability, marked = np.array([0.5, value, 0.2]), np.array([True, inside, False])
    with pytest.raises(InputError, match="expected probabilities from 0 to 1"):
        areas([(probability, marked)])
