import numpy as np
import pytest

from cmb_autoseg.preprocessing.slices.grey_values import DARKEST, PEAK, grey_values, histogram_window
from cmb_autoseg.records import Role


def scan(rng, gain=1.0, offset=0.0):
    """Mostly white matter at 600, gray matter at 450, a few dark and very few bright voxels; 0 outside."""
    data = np.zeros((40, 40, 40), np.float32)
    inside = data[4:36, 4:36, 4:36]
    inside[:] = np.where(rng.random(inside.shape) < 0.7, 600, 450) + rng.normal(0, 15, inside.shape)
    inside[10:12, 10:12, 10:12] = 60
    inside[0, 0, 0] = 4000
    data[4:36, 4:36, 4:36] = inside * gain + offset
    return data


@pytest.mark.parametrize(("gain", "offset"), [(1.0, 0.0), (0.003, 0.0), (2.5, -900.0)])
def test_the_white_matter_peak_comes_to_one_place_in_every_scan(gain, offset):
    grey = grey_values(scan(np.random.default_rng(0), gain, offset), Role.SWI, "white_matter_peak")
    inside = grey[4:36, 4:36, 4:36]
    counts, edges = np.histogram(inside, 100, (0, 1))
    assert edges[counts.argmax()] == pytest.approx(PEAK, abs=0.03)
    assert (grey.min(), grey.max()) == (0, 1)
    assert not grey[:4].any()


def test_the_bright_tail_is_cut_and_dark_voxels_stay():
    low, peak, high = histogram_window(scan(np.random.default_rng(0))[4:36, 4:36, 4:36].ravel(), both_tails=False)
    assert low < 61
    assert peak == pytest.approx(600, abs=8)
    assert 640 < high < 800
    assert low < peak < high


def test_both_tails_of_susceptibility_are_cut_and_microbleeds_are_brightest():
    rng = np.random.default_rng(1)
    data = rng.normal(0, 0.02, (40, 40, 40)).astype(np.float32)
    data[5:7, 5:7, 5:7], data[0, 0, 0], data[1, 1, 1] = 0.5, 3.0, -3.0
    grey = grey_values(data, Role.QSM, "white_matter_peak")
    assert (grey[5:7, 5:7, 5:7] == 1).all()
    assert np.median(grey) == pytest.approx(PEAK, abs=0.05)
    assert grey.std() > 0.1  # single spikes have not taken the scale


def test_min_max_takes_the_extremes_of_the_brain_alone():
    data = np.array([0, -2, 3, 8], np.float32).reshape(1, 2, 2)
    np.testing.assert_allclose(grey_values(data, Role.QSM, "min_max").ravel(), [0, DARKEST, 0.5, 1])


@pytest.mark.parametrize("normalization", ["min_max", "white_matter_peak"])
def test_blank_and_constant_sequences(normalization):
    blank = np.zeros((2, 2, 2), np.float32)
    assert not grey_values(blank, Role.SWI, normalization).any()
    blank[0] = 7
    np.testing.assert_array_equal(grey_values(blank, Role.SWI, normalization)[:, 0, 0], [0.5, 0])


def test_two_values_are_enough():
    data = np.array([1, 1, 1, 2], np.float32).reshape(1, 2, 2)
    grey = grey_values(data, Role.SWI, "white_matter_peak")
    assert np.isfinite(grey).all()
    assert grey[0, 0, 0] < grey[0, 1, 1]


def test_a_few_faulty_voxels_do_not_take_the_dark_end_of_the_scale():
    data = np.random.default_rng(0).normal(600, 15, (100, 100, 60)).astype(np.float32)
    data[50:53, 50:53, 30:33] = 100  # a microbleed of 27 voxels
    alone = grey_values(data, Role.SWI, "white_matter_peak")
    data[:5, 0, 0] = -5000
    grey = grey_values(data, Role.SWI, "white_matter_peak")
    assert grey[50:53, 50:53, 30:33].max() < 0.05
    assert np.median(grey) == pytest.approx(PEAK, abs=0.03)
    np.testing.assert_allclose(grey[5:], alone[5:], atol=0.01)


@pytest.mark.parametrize("role", [Role.SWI, Role.QSM])
@pytest.mark.parametrize("normalization", ["min_max", "white_matter_peak"])
def test_only_the_background_is_zero(role, normalization):
    data = scan(np.random.default_rng(0), offset=-300)
    np.testing.assert_array_equal(grey_values(data, role, normalization) == 0, data == 0)


def brain_of(n=125_000):
    """White matter at 300, gray matter at 240, some voxels of 400."""
    rng, kind = np.random.default_rng(0), np.random.default_rng(1).random(n)
    white, gray, bright = (rng.normal(*of, n) for of in ((300, 15), (240, 20), (400, 40)))
    return np.where(kind < 0.45, white, np.where(kind < 0.85, gray, bright)).clip(min=5)


@pytest.mark.parametrize("n_faulty", [1, 4, 20])
@pytest.mark.parametrize("both_tails", [False, True])
def test_a_handful_of_voxels_a_thousand_times_too_bright_leaves_the_window_where_it_was(n_faulty, both_tails):
    values = brain_of()
    low, peak, high = histogram_window(values, both_tails)
    values[:n_faulty] = 1e6
    found = histogram_window(values, both_tails)
    bin_width = (high - low) / 512
    assert found[1] == pytest.approx(peak, abs=3 * bin_width)
    assert (found[0], found[2]) == (pytest.approx(low, abs=20), pytest.approx(high, abs=20))


def test_the_window_of_a_scan_without_faults_is_that_of_one_histogram():
    """By hand: uniform from 100 to 612, so that bins are 1 wide, and a peak of 50 voxels more at 300."""
    values = np.concatenate([np.repeat(np.arange(100.5, 612), 10), np.full(50, 300.5), [100.0, 612.0]])
    assert histogram_window(values, both_tails=False) == (100, 300.5, 612)


def test_a_plateau_with_a_few_bright_voxels_is_not_cut_for_ever():
    values = np.r_[np.full(100_000, 300.0), np.linspace(301, 1e6, 50)]
    low, peak, high = histogram_window(values, False)
    assert low <= 300 <= high
    assert peak == pytest.approx(300, abs=1)
