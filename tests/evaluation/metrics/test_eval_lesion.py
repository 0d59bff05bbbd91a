"""Figures about lesions, counted by hand."""

import numpy as np
import pytest

from cmb_autoseg.evaluation.metrics.lesion import case_f1, lesion_statistics, median_of_defined


def values(cases):
    return {name: statistic.value() for name, statistic in lesion_statistics(cases, "valdo").items()}


def reasons(cases):
    statistics = lesion_statistics(cases, "valdo")
    return {name: one.why_none for name, one in statistics.items() if np.isnan(one.value())}


@pytest.fixture
def cohort(scored):
    """Two of three lesions found; five predictions: two right, two wrong, one that is neither; one lesion-free scan."""
    return [
        scored(
            reference=2,
            predicted=3,
            pairs=[(1, 1), (2, 2)],
            ignored=[3],
            confidence=[0.9, 0.6, 0.8, 0.3],
            candidate_pairs=[(1, 1), (2, 2)],
            candidates_ignored=[3],
        ),
        scored(reference=1, predicted=0, confidence=[0.4], candidate_pairs=[]),
        scored(reference=0, predicted=2, confidence=[0.7, 0.6]),
    ]


def test_a_cohort_counted_by_hand(cohort):
    found = values(cohort)
    assert found["sensitivity"] == pytest.approx(2 / 3)
    assert found["precision"] == pytest.approx(2 / 4)
    assert found["f1"] == pytest.approx(2 * (2 / 3) * 0.5 / (2 / 3 + 0.5))
    assert found["fp_per_scan"] == pytest.approx(2 / 3)
    assert found["fp_per_lesion"] == pytest.approx(2 / 3)
    assert found["fp_per_negative_scan"] == 2
    assert case_f1(cohort, "valdo").tolist() == pytest.approx([1, 0, np.nan], nan_ok=True)
    assert (found["f1_per_subject_median"], found["f1_per_subject_mean"]) == (0.5, 0.5)


def test_the_curve_of_the_cohort_counted_by_hand(cohort):
    """Falling: 0.9 right; 0.7 wrong; 0.6 one right, one wrong; 0.4 wrong; 0.3 wrong. Three lesions, three scans."""
    found = values(cohort)
    assert found["average_precision"] == pytest.approx((1 / 3) * 1 + (1 / 3) * (2 / 4))
    # 0 FP/scan: 1/3; from 2/3 FP/scan on: 2/3.
    assert [found[f"sensitivity_at_fp_{x}"] for x in ("0.125", "0.25", "0.5", "1", "2", "4", "8")] == pytest.approx(
        [1 / 3] * 3 + [2 / 3] * 4
    )
    assert found["froc_score"] == pytest.approx((3 * 1 / 3 + 4 * 2 / 3) / 7)
    assert found["froc_area"] == pytest.approx((2 / 3 * 1 / 3 + (8 - 2 / 3) * 2 / 3) / 8)
    # Right 0.9, 0.6; false 0.7, 0.6, 0.4, 0.3: 4 wins + 2 wins + half a win of 8 pairs; the missed one loses 4 more.
    assert found["auc"] == pytest.approx(6.5 / 8)
    assert found["auc_with_misses"] == pytest.approx(6.5 / 12)


def test_the_area_ends_at_8_false_positives_per_scan(scored):
    """One scan; right at 0.9, nine wrong, right at 0.5: the second lesion is found beyond the limit."""
    case = scored(reference=2, confidence=[0.9, *[0.8] * 9, 0.5], candidate_pairs=[(1, 1), (2, 11)])
    found = values([case])
    assert (found["froc_area"], found["sensitivity_at_fp_8"]) == (0.5, 0.5)
    short = scored(reference=2, confidence=[0.9, *[0.8] * 8, 0.5], candidate_pairs=[(1, 1), (2, 10)])
    found = values([short])
    assert (found["froc_area"], found["sensitivity_at_fp_8"], found["sensitivity_at_fp_4"]) == (0.5, 1, 0.5)


def test_false_positives_beside_lesions_are_none_of_negative_scans(scored):
    found = values([scored(reference=1, predicted=3, pairs=[(1, 1)]), scored(predicted=1), scored()])
    assert (found["fp_per_scan"], found["fp_per_negative_scan"]) == (1, 0.5)


def test_auc_takes_mean_probabilities_and_curves_the_highest(scored):
    case = scored(
        reference=1, confidence=[0.9, 0.5], mean_probability=[0.2, 0.4], candidate_pairs=[(1, 1)], pairs=[(1, 1)]
    )
    found = values([case])
    assert (found["auc"], found["average_precision"]) == (0, 1)


def test_several_candidates_on_a_lesion_find_it_once_with_the_surest(scored):
    case = scored(reference=2, confidence=[0.3, 0.9, 0.5], candidate_pairs=[(1, 1), (1, 2)])
    found = values([case])
    assert found["average_precision"] == pytest.approx(0.5)
    assert (found["sensitivity_at_fp_0.125"], found["sensitivity_at_fp_1"]) == (0.5, 0.5)


def test_nothing_predicted_is_f1_zero_and_no_lesion_is_none(scored):
    missed, clean, false = scored(reference=1), scored(), scored(predicted=1)
    assert values([missed])["f1"] == 0
    assert reasons([missed])["precision"] == "no predicted lesion"
    assert reasons([missed])["fp_per_negative_scan"] == "no lesion-free scan"
    assert {name: reasons([clean])[name] for name in ("sensitivity", "f1", "fp_per_lesion")} == dict.fromkeys(
        ("sensitivity", "f1", "fp_per_lesion"), "no reference lesion"
    )
    assert values([clean])["fp_per_negative_scan"] == 0
    # A scan without a lesion has no F1 of its own, so that false positives there do not lower the mean.
    assert (values([missed, false])["f1_per_subject_mean"], values([false])["precision"]) == (0, 0)


def test_masks_without_confidence_have_no_curve(scored):
    why = reasons([scored(reference=1, predicted=1, pairs=[(1, 1)])])
    for name in ("average_precision", "froc_area", "froc_score", "sensitivity_at_fp_1", "auc", "auc_with_misses"):
        assert "no confidence" in why[name]


def test_cases_without_confidence_are_left_out_of_curves_alone(scored):
    mask = scored(reference=3, predicted=1, pairs=[(1, 1)])
    sure = scored(reference=1, predicted=1, pairs=[(1, 1)], confidence=[0.9, 0.5], candidate_pairs=[(1, 1)])
    found = values([mask, sure])
    assert (found["average_precision"], found["sensitivity_at_fp_0.5"], found["sensitivity"]) == (1, 1, 0.5)
    assert values([sure])["froc_area"] == found["froc_area"]


def test_a_lesion_and_no_candidate_is_an_average_precision_of_0(scored):
    found = values([scored(reference=1, confidence=[])])
    assert (found["average_precision"], found["froc_area"], found["froc_score"]) == (0, 0, 0)
    assert np.isnan(found["auc"])


def test_weights_are_cases_taken_again(random_cases, draws):
    rng = np.random.default_rng(3)
    cases = random_cases(rng, 9)
    weights, drawn = draws(rng, cases)
    for name, statistic in lesion_statistics(cases, "valdo").items():
        again = [lesion_statistics(own, "valdo")[name].value() for own in drawn]
        np.testing.assert_allclose(statistic.of(weights), again, atol=1e-12, err_msg=name)


def test_figures_of_one_curve_are_worked_out_anew_for_other_weights(random_cases):
    cases = random_cases(np.random.default_rng(0), 6)
    statistics = lesion_statistics(cases, "valdo")
    rng = np.random.default_rng(1)
    for _ in range(12):
        weights = rng.multinomial(6, np.full(6, 1 / 6), size=3).astype(float)
        fresh = lesion_statistics(cases, "valdo")
        for name in ("average_precision", "froc_area", "froc_score"):
            np.testing.assert_array_equal(statistics[name].of(weights), fresh[name].of(weights))
        weights[:] = 1.0  # what is remembered must not be the caller's array
        assert statistics["froc_area"].of(weights)[0] == fresh["froc_area"].value()


@pytest.mark.parametrize("seed", range(5))
def test_the_weighted_median_is_that_of_values_repeated(seed):
    rng = np.random.default_rng(seed)
    own = np.where(rng.random(8) < 0.2, np.nan, np.round(rng.random(8), 1))
    weights = rng.integers(0, 4, (20, 8)).astype(float)
    expected = [
        np.nanmedian(repeated) if np.any(~np.isnan(repeated := np.repeat(own, row.astype(int)))) else np.nan
        for row in weights
    ]
    np.testing.assert_allclose(median_of_defined(own, "none").of(weights), expected)
