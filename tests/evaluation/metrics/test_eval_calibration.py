"""Reliability of confidences, counted by hand and against direct loops."""

import json

import numpy as np
import pytest

from cmb_autoseg.evaluation.metrics.calibration import calibration_statistics, reliability


def values(cases):
    return {name: statistic.value() for name, statistic in calibration_statistics(cases, "valdo").items()}


def test_counted_by_hand(scored):
    """Bin 0.9 to 1 (1 included): 0.9 right, 1.0 wrong; bin 0.2 to 0.3: 0.2 wrong; 0.55 is neither right nor wrong."""
    case = scored(reference=1, confidence=[0.9, 1.0, 0.2, 0.55], candidate_pairs=[(1, 1)], candidates_ignored=[4])
    curve, found = reliability([case], "valdo"), values([case])
    assert curve.n.tolist() == [0, 0, 1, 0, 0, 0, 0, 0, 0, 2]
    assert (curve.mean_confidence[9], curve.share_right[9]) == pytest.approx((0.95, 0.5))
    assert np.isnan(curve.share_right[0])
    assert found["ece"] == pytest.approx(2 / 3 * 0.45 + 1 / 3 * 0.2)
    assert found["maximal_calibration_error"] == pytest.approx(0.45)
    assert found["brier"] == pytest.approx((0.1**2 + 1.0 + 0.2**2) / 3)
    json.dumps(curve.as_json(), allow_nan=False)


def test_ece_of_a_direct_loop(random_cases, draws):
    rng = np.random.default_rng(4)
    cases = random_cases(rng, 9)
    weights, drawn = draws(rng, cases)

    def direct(own):
        rows = [
            (score, index + 1 in case.candidate_matchings["valdo"].right)
            for case in own
            for index, score in enumerate(case.candidates.confidence)
        ]
        gaps = []
        for k in range(10):
            inside = [row for row in rows if k / 10 <= row[0] < (k + 1) / 10 or (k == 9 and row[0] == 1)]
            gaps.append(abs(sum(score for score, _ in inside) - sum(right for _, right in inside)))
        return sum(gaps) / len(rows)

    found = calibration_statistics(cases, "valdo")["ece"].of(weights)
    np.testing.assert_allclose(found, [direct(own) for own in drawn], atol=1e-12)


def test_perfect_confidences_have_no_error(scored):
    case = scored(reference=1, confidence=[1.0, 0.0], candidate_pairs=[(1, 1)])
    assert values([case]) == {"ece": 0, "maximal_calibration_error": 0, "brier": 0}


def test_without_confidence_or_candidate_there_is_none(scored):
    for case, why in ((scored(reference=1), "no confidence"), (scored(confidence=[]), "no candidate")):
        assert why in reliability([case], "valdo").why
        for statistic in calibration_statistics([case], "valdo").values():
            assert np.isnan(statistic.value())
            assert why in statistic.why_none
