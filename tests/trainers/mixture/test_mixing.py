import numpy as np
import pytest

from cmb_autoseg.trainers.mixture.mixing import Mixing, aligned, middle_of


def test_a_threshold_becomes_the_common_one_and_the_order_stays():
    values = np.array([0, 0.1, 0.2, 0.5, 0.9, 1], dtype=np.float32)
    moved = aligned(values, 0.2, 0.5)
    assert moved[[0, 2, 5]] == pytest.approx([0, 0.5, 1])
    assert (np.diff(moved) > 0).all()
    assert moved.dtype == np.float32
    assert aligned(values, 0.7, 0.7) == pytest.approx(values)
    odds = values[1:-1] / (1 - values[1:-1])
    assert moved[1:-1] / (1 - moved[1:-1]) == pytest.approx(odds * 4, rel=1e-5)  # odds of 0.2 are 1 to 4
    assert aligned(moved, 0.5, 0.2) == pytest.approx(values, abs=1e-6)


def test_the_middle_is_that_of_the_log_odds():
    assert middle_of(0.5, 0.9) == pytest.approx(0.75)  # odds of 1 and 9
    assert middle_of(0.1, 0.9) == pytest.approx(0.5)


def test_a_mean_by_hand():
    one, other = np.array([[[0.2, 0.0]]], np.float32), np.array([[[0.9, 1.0]]], np.float32)
    joined = Mixing("mean", ("a", "b"), (0.75, 0.25), (0.2, 0.9), 0.5).map_of([one, other])
    assert joined == pytest.approx(np.array([[[0.5, 0.25]]]))


def test_members_that_can_say_nothing_leave_their_weight_to_the_others():
    mixing = Mixing("mean", ("a", "b", "c"), (0.5, 0.3, 0.2), (0.1, 0.2, 0.3), 0.4)
    rest = mixing.of([1, 2])
    assert rest == Mixing("mean", ("b", "c"), (pytest.approx(0.6), pytest.approx(0.4)), (0.2, 0.3), 0.4)
    assert Mixing("mean", ("a", "b", "c"), (1, 0, 0), (0.1, 0.2, 0.3), 0.4).of([1, 2]).weights == (0.5, 0.5)


def test_folds_are_averaged_thresholds_in_log_odds():
    first = Mixing("vote", ("a", "b"), (1.0, 0.0), (0.2, 0.5), 0.3)
    second = Mixing("vote", ("a", "b"), (0.5, 0.5), (0.8, 0.5), 0.7)
    assert Mixing.averaged([first, second]) == Mixing(
        "vote",
        ("a", "b"),
        (pytest.approx(0.75), pytest.approx(0.25)),
        (pytest.approx(0.5), pytest.approx(0.5)),
        pytest.approx(0.5),
    )
    assert Mixing.averaged([first]) == first


def test_no_probability_crosses_the_threshold_by_rounding():
    steps = np.round(np.arange(0.02, 1, 0.02), 2).tolist()
    for threshold in steps:
        at = np.float32(threshold)
        values = np.array([np.nextafter(at, np.float32(0)), at, np.nextafter(at, np.float32(1))])
        for common in steps:
            moved = aligned(values, threshold, common)
            assert (moved >= common).tolist() == (values >= threshold).tolist() == [False, True, True]


def test_maps_of_members_that_count_best_at_the_common_point_are_left_as_they_are():
    values = np.random.default_rng(0).random(1000, dtype=np.float32)
    assert np.array_equal(aligned(values, 0.34, 0.34), values)
