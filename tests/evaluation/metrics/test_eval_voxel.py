"""Figures about voxels, counted by hand."""

import numpy as np
import pytest

from cmb_autoseg.evaluation.metrics.voxel import NO_EXTENT, case_dice, n_without_voxels, voxel_statistics


def values(cases, wins=None):
    return {name: statistic.value() for name, statistic in voxel_statistics(cases, "valdo", wins).items()}


@pytest.fixture
def cohort(scored):
    """(TP, FP, FN, TN) of two cases with voxels of 0.5 mm3 and one of points."""
    return [
        scored(reference=1, predicted=1, pairs=[(1, 1)], voxels=(6, 2, 4, 88), voxel_volume_mm3=0.5),
        scored(voxels=(0, 4, 0, 96), voxel_volume_mm3=2.0),
        scored(reference=1),
    ]


def test_a_cohort_counted_by_hand(cohort):
    found = values(cohort)
    assert found["dice"] == pytest.approx(12 / 22)
    assert found["one_minus_dice"] == pytest.approx(10 / 22)
    assert found["dice_per_case_mean"] == pytest.approx((12 / 18 + 0) / 2)
    assert found["dice_of_hits"] == 0.5
    assert found["jaccard"] == pytest.approx(6 / 16)
    assert (found["precision"], found["recall"]) == (0.5, 0.6)
    assert found["specificity"] == pytest.approx(184 / 190)
    assert found["false_positive_rate"] == pytest.approx(6 / 190)
    assert found["accuracy"] == pytest.approx(190 / 200)
    assert n_without_voxels(cohort) == 1


def test_volumes_counted_by_hand(cohort):
    """8 voxels of 0.5 mm3 against 10, so -1 mm3; 4 of 2 mm3 against none, so +8 mm3."""
    found = values(cohort)
    assert found["volume_difference_mean"] == pytest.approx((-1 + 8) / 2)
    assert found["absolute_volume_difference_mean"] == pytest.approx((1 + 8) / 2)
    assert found["relative_volume_difference"] == pytest.approx((-1 + 8) / 5)


def test_the_relative_volume_difference_is_not_symmetric(scored):
    more = values([scored(voxels=(4, 4, 0, 9), voxel_volume_mm3=1.0)])["relative_volume_difference"]
    less = values([scored(voxels=(4, 0, 4, 9), voxel_volume_mm3=1.0)])["relative_volume_difference"]
    assert (more, less) == (1.0, -0.5)


def test_points_and_boxes_have_no_voxel_figure_at_all(scored):
    statistics = voxel_statistics([scored(reference=1), scored()], "valdo")
    assert all(np.isnan(one.value()) and one.why_none == NO_EXTENT for one in statistics.values())


def test_empty_masks_have_reasons(scored):
    statistics = voxel_statistics([scored(voxels=(0, 0, 0, 8), voxel_volume_mm3=1.0)], "valdo")
    why = {name: one.why_none for name, one in statistics.items() if np.isnan(one.value())}
    assert why == {
        **dict.fromkeys(("dice", "one_minus_dice", "dice_per_case_mean", "jaccard"), "no voxel marked or predicted"),
        "dice_of_hits": "no lesion was found",
        "precision": "no voxel predicted",
        "recall": "no voxel marked",
        "relative_volume_difference": "no voxel marked",
        "auc": "no voxel marked",
    }
    masks = voxel_statistics([scored(voxels=(1, 0, 0, 8))], "valdo")
    assert masks["auc"].why_none == "no case has a probability map"
    assert (statistics["specificity"].value(), statistics["volume_difference_mean"].value()) == (1, 0)


def test_dice_of_a_case_is_0_where_one_side_is_empty_and_none_where_both_are(scored):
    cases = [scored(voxels=(0, 3, 0, 5)), scored(voxels=(0, 0, 3, 5)), scored(voxels=(0, 0, 0, 8)), scored()]
    np.testing.assert_array_equal(case_dice(cases), [0, 0, np.nan, np.nan])


def test_the_auc_pools_cases_that_have_maps(scored):
    """1 lesion voxel against 3, and 2 against 2; between the two 1 x 2 and 2 x 3 pairs; a third case has no map."""
    cases = [scored(voxels=own) for own in ((1, 1, 0, 2), (2, 0, 0, 2), (5, 5, 5, 5))]
    wins = np.array([[2.5, 1, np.nan], [4, 3, np.nan], [np.nan] * 3])
    statistic = voxel_statistics(cases, "valdo", wins)["auc"]
    assert statistic.value() == pytest.approx((2.5 + 1 + 4 + 3) / (3 * 5))
    drawn = statistic.of(np.array([[2.0, 0, 1], [0, 2, 0], [0, 0, 1]]))
    np.testing.assert_allclose(drawn, [2.5 / 3, 3 / 4, np.nan])


def test_an_auc_of_marked_voxels_alone_says_so(scored):
    statistic = voxel_statistics([scored(voxels=(5, 0, 3, 0))], "valdo", np.zeros((1, 1)))["auc"]
    assert np.isnan(statistic.value())
    assert statistic.why_none == "no voxel outside the marked ones"


def test_a_map_beside_a_list_of_points_is_in_no_auc(scored):
    """Its voxels are not counted, so that what its lesions win must not count either."""
    cases = [scored(voxels=(1, 1, 0, 2)), scored(reference=1)]
    assert voxel_statistics(cases, "valdo", np.full((2, 2), 2.5))["auc"].value() == pytest.approx(2.5 / 3)
