"""Sizes and regions, counted by hand."""

import numpy as np
import pytest

from cmb_autoseg.evaluation.metrics.strata import region_strata, size_strata


def told(strata):
    return {
        one.name: (one.n_reference, one.n_predicted, *(statistic.value() for statistic in one.statistics.values()))
        for one in strata
    }


def test_each_limit_begins_a_class(scored):
    lesions = scored.lesions(7, diameters_mm=[1.999, 2.0, 4.999, 5.0, 9.999, 10.0, 40.0])
    found = {one.name: one.n_reference for one in size_strata([scored(reference=lesions)], "valdo")}
    assert found == {
        "below_2_mm": 1,
        "small_2_to_5_mm": 2,
        "large_5_to_10_mm": 2,
        "from_10_mm": 2,
        "unknown_size": 0,
    }


def test_sizes_counted_by_hand(scored):
    """Sensitivity by the reference lesion's size, precision by the predicted one's, ignored ones left out."""
    case = scored(
        reference=scored.lesions(3, diameters_mm=[3, 4, 6]),
        predicted=scored.lesions(4, diameters_mm=[5.5, 6, 3, 3]),
        pairs=[(1, 1), (3, 2)],
        ignored=[4],
    )
    found = told(size_strata([case, scored()], "valdo"))
    assert found["small_2_to_5_mm"] == (2, 1, 0.5, 0, 0.5)
    assert found["large_5_to_10_mm"] == (1, 2, 1, 1, 0)


def test_regions_counted_by_hand(scored):
    case = scored(
        reference=scored.lesions(2, regions=["lobar", "deep"]),
        predicted=scored.lesions(2, regions=["lobar", "infratentorial"]),
        pairs=[(1, 1)],
    )
    found = told(region_strata([case], "valdo"))
    assert list(found) == ["lobar", "deep", "infratentorial", "unknown"]
    assert found["lobar"] == (1, 1, 1, 1, 0)
    assert found["deep"] == pytest.approx((1, 0, 0, np.nan, 0), nan_ok=True)
    assert found["infratentorial"] == pytest.approx((0, 1, np.nan, 0, 1), nan_ok=True)
    assert found["unknown"] == pytest.approx((0, 0, np.nan, np.nan, 0), nan_ok=True)


def test_points_are_in_no_class_of_size_but_do_not_vanish(scored):
    points = scored.lesions(2, diameters_mm=[np.nan, np.nan], kind="points")
    strata = size_strata([scored(reference=points, predicted=points, pairs=[(1, 1)])], "valdo")
    assert told(strata)["unknown_size"] == (2, 2, 0.5, 0.5, 1)
    assert np.isnan(strata[1].statistics["sensitivity"].value())
    assert strata[1].statistics["sensitivity"].why_none == "no such reference lesion; those here have no extent"
    assert np.isnan(strata[1].statistics["fp_per_scan"].value()), "not 0: the false one may be of any size"
    assert strata[1].statistics["fp_per_scan"].why_none == "predicted lesions are without extent"
    sized = size_strata([scored(reference=points, predicted=scored.lesions(1, diameters_mm=[3]))], "valdo")
    assert [stratum.statistics["fp_per_scan"].value() for stratum in sized] == [0, 1, 0, 0, 0]


def test_strata_add_up_to_all_lesions(random_cases):
    cases = random_cases(np.random.default_rng(0), 10)
    for strata in (size_strata(cases, "valdo"), region_strata(cases, "valdo")):
        assert sum(one.n_reference for one in strata) == sum(len(case.reference) for case in cases)
        assert sum(one.n_predicted for one in strata) == sum(len(case.predicted) for case in cases)
