"""Curves against points counted by hand and against scikit-learn."""

import json

import numpy as np
import pytest
from sklearn.metrics import auc, roc_auc_score, roc_curve

from cmb_autoseg.evaluation.metrics.curves import FROC_GRID, froc, lesion_roc, patient_roc, precision_recall
from cmb_autoseg.evaluation.metrics.lesion import lesion_statistics
from cmb_autoseg.evaluation.metrics.patient import patient_statistics


@pytest.fixture
def cases(scored):
    """Right 0.9 and 0.6, wrong 0.6 and 0.2; one lesion missed; the second scan has no lesion."""
    return [
        scored(reference=3, confidence=[0.9, 0.6, 0.2], candidate_pairs=[(1, 1), (3, 2)]),
        scored(reference=0, confidence=[0.6]),
    ]


def test_points_counted_by_hand(cases):
    curve, precision = froc(cases, "valdo"), precision_recall(cases, "valdo")
    assert curve.thresholds.tolist() == [0.9, 0.6, 0.2]
    assert curve.fp_per_scan.tolist() == [0, 0.5, 1]
    assert curve.sensitivity.tolist() == pytest.approx([1 / 3, 2 / 3, 2 / 3])
    assert precision.recall.tolist() == pytest.approx([1 / 3, 2 / 3, 2 / 3])
    assert precision.precision.tolist() == pytest.approx([1, 2 / 3, 2 / 4])
    roc = lesion_roc(cases, "valdo")
    assert (roc.false_positive_rate.tolist(), roc.sensitivity.tolist()) == ([0, 0, 0.5, 1], [0, 0.5, 1, 1])
    patients = patient_roc(cases)
    assert (patients.false_positive_rate.tolist(), patients.sensitivity.tolist()) == ([0, 0, 1], [0, 1, 1])


def test_curves_are_plain_in_json(cases):
    weights = np.ones((3, 2))
    for curve in (
        froc(cases, "valdo", weights),
        precision_recall(cases, "valdo", weights),
        lesion_roc(cases, "valdo", weights),
        patient_roc(cases, "any", weights),
        froc([], "valdo"),
    ):
        json.dumps(curve.as_json(), allow_nan=False)
    assert lesion_roc(cases, "valdo").as_json()["thresholds"] == [None, 0.9, 0.6, 0.2]


def test_areas_of_curves_are_the_figures(random_cases):
    for seed in range(20):
        cases = random_cases(np.random.default_rng(seed), 10)
        for curve, area in (
            (lesion_roc(cases, "valdo"), lesion_statistics(cases, "valdo")["auc"].value()),
            (patient_roc(cases, "two_or_more"), patient_statistics(cases)["two_or_more_auc"].value()),
        ):
            if curve.why is None:
                assert auc(curve.false_positive_rate, curve.sensitivity) == pytest.approx(area, abs=1e-12)
            else:
                assert np.isnan(area)


def test_the_roc_is_scikit_learns(random_cases):
    cases = random_cases(np.random.default_rng(3), 12)
    truth = [len(case.reference) > 0 for case in cases]
    score = [max([0.0, *case.candidates.confidence]) for case in cases]
    curve = patient_roc(cases)
    fpr, tpr, _ = roc_curve(truth, score, drop_intermediate=False)
    np.testing.assert_allclose(curve.false_positive_rate, fpr)
    np.testing.assert_allclose(curve.sensitivity, tpr)
    assert auc(fpr, tpr) == pytest.approx(roc_auc_score(truth, score))


def test_a_band_holds_what_draws_hold(random_cases, draws):
    """Each height of the band is the percentile of curves that are computed one by one."""
    rng = np.random.default_rng(5)
    cases = random_cases(rng, 10)
    weights, drawn = draws(rng, cases, n_draws=40)

    def sensitivity_at(own, x):
        curve = froc(own, "valdo")
        return np.nan if curve.why else max([0.0, *curve.sensitivity[curve.fp_per_scan <= x]])

    band = froc(cases, "valdo", weights).band
    for index in (0, 20, 48):
        heights = [sensitivity_at(own, FROC_GRID[index]) for own in drawn]
        assert (band.low[index], band.high[index]) == pytest.approx(np.nanquantile(heights, [0.025, 0.975]))


def test_bands_of_rates_hold_what_draws_hold(random_cases, draws):
    rng = np.random.default_rng(6)
    cases = random_cases(rng, 12)
    weights, drawn = draws(rng, cases, n_draws=30)
    low, middle = 10, 25  # a recall of one fifth, a false positive rate of one half
    precise, rates = [], []
    for own in drawn:
        curve = precision_recall(own, "valdo")
        precise.append(max([0.0, *curve.precision[curve.recall >= 0.2 - 1e-12]]))
        curve = lesion_roc(own, "valdo")
        x = curve.false_positive_rate
        rates.append(np.interp(0.5, x - 1e-9 * np.arange(len(x), 0, -1), curve.sensitivity))  # upright steps: the top
    band = precision_recall(cases, "valdo", weights).band
    assert (band.low[low], band.high[low]) == pytest.approx(np.quantile(precise, [0.025, 0.975]))
    band = lesion_roc(cases, "valdo", weights).band
    assert (band.low[middle], band.high[middle]) == pytest.approx(np.quantile(rates, [0.025, 0.975]), abs=1e-6)


def test_without_confidence_lesion_or_false_candidate_a_curve_says_why(scored):
    masks, clean = [scored(reference=1)], [scored(confidence=[0.5])]
    for curve in (
        froc(masks, "valdo"),
        precision_recall(masks, "valdo"),
        lesion_roc(masks, "valdo"),
        patient_roc(masks),
    ):
        assert "no confidence" in curve.why
        assert (len(curve.thresholds), curve.n_left_out) == (0, 1)
    assert froc(clean, "valdo").why == precision_recall(clean, "valdo").why == "no reference lesion"
    assert lesion_roc(clean, "valdo").why == "no right or no false candidate"
    assert patient_roc(clean).why == "all cases are on one side of the rule"


def test_lesions_of_left_out_cases_are_in_no_curve(scored, cases):
    curve = froc([*cases, scored(reference=5)], "valdo")
    assert curve.n_left_out == 1
    assert curve.sensitivity.tolist() == froc(cases, "valdo").sensitivity.tolist()


def test_the_band_of_precision_ends_where_the_curve_ends(cases):
    weights = np.array([[1.0, 1.0], [1.0, 2.0], [1.0, 3.0]])
    curve = precision_recall(cases, "valdo", weights)
    assert curve.recall[-1] == pytest.approx(2 / 3)
    assert curve.band.x[-1] == pytest.approx(2 / 3)
    assert curve.band.low.min() > 0, "0 is for draws that do not get as far"
    assert np.all(np.diff(curve.band.x) > 0)
