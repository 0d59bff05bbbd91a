import numpy as np
import pytest

from cmb_autoseg.geometry import Volume
from cmb_autoseg.preprocessing.normalization import zscore_in_brain

BRAIN = np.zeros((10, 12, 8), dtype=bool)
BRAIN[2:8, 3:9, 1:7] = True


def volume(data):
    return Volume(np.asarray(data, dtype=np.float32), np.diag([0.5, 0.5, 2.0, 1.0]))


@pytest.mark.parametrize(("gain", "offset"), [(1.0, 0.0), (1e-6, 0.0), (1e6, 0.0), (3.0, -1000.0)])
def test_mean_and_variance_are_those_of_the_brain_whatever_the_scanners_units(gain, offset):
    data = np.random.default_rng(0).normal(100, 15, BRAIN.shape)
    data[~BRAIN] = 1e4  # bright skull

    scaled = zscore_in_brain(volume(gain * data + offset), BRAIN)

    expected = (data[BRAIN] - data[BRAIN].mean()) / data[BRAIN].std()
    assert scaled.data.dtype == np.float32
    np.testing.assert_allclose(scaled.data[BRAIN], expected, atol=1e-3)
    assert not scaled.data[~BRAIN].any()


def test_no_voxel_of_the_brain_is_exactly_zero():
    data = np.tile([1.0, 2.0, 3.0, 2.0], 10 * 12 * 2).reshape(BRAIN.shape)  # the mean is a value of the scan
    whole = np.ones(BRAIN.shape, dtype=bool)
    scaled = zscore_in_brain(volume(data), whole).data
    assert (scaled != 0).all()
    assert np.abs(scaled).min() == np.float32(1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, -7.0, 1e15])
def test_a_constant_brain_becomes_a_constant_that_is_not_zero(value):
    scaled = zscore_in_brain(volume(np.full(BRAIN.shape, value)), BRAIN).data
    np.testing.assert_array_equal(scaled[BRAIN], np.float32(1e-6))
    assert not scaled[~BRAIN].any()


def test_an_empty_mask_gives_an_empty_volume():
    assert not zscore_in_brain(volume(np.ones(BRAIN.shape)), np.zeros_like(BRAIN)).data.any()
