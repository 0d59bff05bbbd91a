import numpy as np
import pytest

from cmb_autoseg.trainers.mixture.search import Searched, equal_weights, search_weights


def test_a_peak_between_the_quarters_is_found_to_a_sixteenth():
    wanted = (0.44, 0.31, 0.25)

    def judge(weights):
        return np.array([-sum((own - best) ** 2 for own, best in zip(weights, wanted, strict=True))])

    best = search_weights(judge, 3).best
    assert sum(best) == pytest.approx(1)
    assert best == pytest.approx(wanted, abs=1 / 16)


def test_ties_go_to_equal_weights():
    assert search_weights(lambda _: np.zeros(1), 3).best == equal_weights(3)
    assert search_weights(lambda weights: np.minimum(weights[:1], 0.25), 2).best == (0.5, 0.5)


def test_a_corner_is_reached():
    assert search_weights(lambda weights: np.array(weights[2:]), 3).best == pytest.approx((0, 0, 1))


def test_all_weights_that_are_tried_are_on_the_simplex_and_tried_once():
    calls = []

    def judge(weights):
        calls.append(weights)
        return np.array([weights[0] * weights[1]])

    found = search_weights(judge, 4)
    assert len(calls) == len({*calls}) == len(found.figures)
    for weights in calls:
        assert min(weights) >= 0
        assert sum(weights) == pytest.approx(1)


def test_equal_weights_stay_unless_the_best_are_clearly_better():
    # Two draws each; the gain over equal weights is 0.02 +- 0.01 at first, then 0.02 +- 0.03.
    best = np.array([0.9, 0.9, 0.9])
    clearly, hardly = best - [0.02, 0.01, 0.03], best - [0.02, -0.01, 0.05]
    assert Searched({(0.5, 0.5): clearly, (1.0, 0.0): best}).chosen == (1.0, 0.0)
    assert Searched({(0.5, 0.5): hardly, (1.0, 0.0): best}).chosen == (0.5, 0.5)
