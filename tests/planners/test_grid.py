import numpy as np
import pytest

from cmb_autoseg.errors import InputError
from cmb_autoseg.lesions import label_components
from cmb_autoseg.planners import PlanSettings, plan_dataset
from cmb_autoseg.planners.grid import Grids, choose_spacing
from cmb_autoseg.records import Role

FINE, MIDDLE, THICK = (1.0, 0.5, 0.5), (2.0, 0.9, 0.9), (4.0, 1.0, 1.0)


def no_lesion(_):
    return np.zeros((1, 1, 1), np.int32)


def spacing_of(cases):
    return choose_spacing(Grids(cases))[0]


def test_each_of_the_three_grids_keeps_its_own(make_case):
    for grid in (FINE, MIDDLE, THICK):
        assert spacing_of([make_case(f"c{i}", spacing=grid, diameters=(1.5,)) for i in range(5)]) == grid


def test_a_mix_takes_the_thinnest_slices_and_the_voxels_that_its_small_lesions_ask_for(make_case):
    cases = [
        make_case(f"{grid}{i}", spacing=grid, diameters=(2.1,)) for grid in (FINE, MIDDLE, THICK) for i in range(5)
    ]
    assert spacing_of(cases) == (1.0, 0.7, 0.7)
    small = [
        make_case(f"{grid}{i}", spacing=grid, diameters=(1.2,)) for grid in (FINE, MIDDLE, THICK) for i in range(5)
    ]
    assert spacing_of(small) == (1.0, 0.5, 0.5)


def test_one_thin_case_decides_the_slices_and_is_named(make_case):
    cases = [make_case(f"c{i}", spacing=THICK, diameters=(4.0,)) for i in range(100)]
    cases.append(make_case("thin", spacing=(1.0, 1.0, 1.0), diameters=(4.0,)))
    spacing, _, warnings = choose_spacing(Grids(cases))
    assert spacing == (1.0, 1.0, 1.0)
    assert len(warnings) == 1
    assert "1 of 101 cases (thin) have slices of 1 mm, the others 4 mm or more" in warnings[0]
    assert "4.0 times as large" in warnings[0]
    even = [make_case(f"c{i}", spacing=grid) for i, grid in enumerate((FINE, MIDDLE, THICK) * 5)]
    assert choose_spacing(Grids(even))[2] == []


def test_no_case_is_sliced_coarser_than_it_was_whatever_its_axis(make_case):
    axial = [make_case(f"a{i}", spacing=(2.0, 0.8, 0.8), diameters=(6.0,)) for i in range(6)]
    sagittal = [make_case(f"s{i}", spacing=(0.4, 0.4, 0.7), diameters=(6.0,)) for i in range(2)]
    spacing = spacing_of([*axial, *sagittal])
    for case in (*axial, *sagittal):
        thickest = int(np.argmax(case.spacing_mm))
        assert spacing[thickest] <= case.spacing_mm[thickest]
    # Along feet to head the sagittal cases are fine: in-plane voxels there, too.
    assert spacing == (0.8, 0.8, 0.7)


def test_unlabelled_cases_do_not_decide(measured, make_case):
    labelled = [make_case(f"c{i}", spacing=THICK) for i in range(5)]
    others = [make_case(f"u{i}", spacing=FINE, labelled=False, roles=(Role.SWI, Role.T1)) for i in range(50)]
    plan = plan_dataset(measured(*labelled, *others, roles=(Role.SWI, Role.T1)), no_lesion, PlanSettings())
    assert plan.spacing_mm == THICK
    assert plan.channels == (Role.SWI,)


@pytest.mark.parametrize(("share", "is_channel"), [(1, False), (2, True), (10, True)])
def test_a_sequence_of_five_percent_is_left_out_and_of_fifty_is_kept(measured, make_case, share, is_channel):
    cases = [make_case(f"c{i}", roles=(Role.SWI, Role.T1) if i < share else (Role.SWI,)) for i in range(20)]
    plan = plan_dataset(measured(*cases, roles=(Role.SWI, Role.T1)), no_lesion, PlanSettings())
    assert (Role.T1 in plan.channels) is is_channel


def test_a_case_without_any_susceptibility_sequence_is_named(measured, make_case):
    cases = [*(make_case(f"c{i}") for i in range(19)), make_case("blind", roles=(Role.T1,))]
    with pytest.raises(InputError, match="blind: has t1, but microbleeds show in swi, gre_mag, qsm only"):
        plan_dataset(measured(*cases, roles=(Role.SWI, Role.T1)), no_lesion, PlanSettings())


def test_a_case_that_grows_more_than_twentyfold_is_warned_of(measured, make_case):
    cases = [make_case(f"c{i}", spacing=(0.35, 0.35, 0.35), shape=(40, 40, 40)) for i in range(5)]
    cases += [make_case("coarse", spacing=THICK, shape=(10, 20, 20))]
    plan = plan_dataset(measured(*cases), no_lesion, PlanSettings())
    assert any(text.startswith("1 of 6 cases get more than 20 times as many voxels") for text in plan.warnings)
    assert any("worst: coarse, 9" in text for text in plan.warnings)


def test_a_case_too_thin_for_the_grid_is_named(measured, make_case):
    cases = [make_case(f"c{i}", spacing=(0.4, 0.9, 0.9), shape=(1, 20, 20)) for i in range(5)]
    with pytest.raises(InputError, match=r"c0: its brain box of 0\.4 x 18 x 18 mm has no voxel left at 1 x 1 x 1 mm"):
        plan_dataset(measured(*cases), no_lesion, PlanSettings(preset="s0"))


def test_the_grid_is_refined_only_as_far_as_the_lesions_need(measured, make_case):
    """Lesions one fine voxel apart in half of the cases; the median grid would merge or erase them."""
    label = np.zeros((6, 40, 40), dtype=bool)
    label[2, 10:30:2, 10:30:2] = True  # a hundred lesions, each one voxel, one voxel apart
    labels = label_components(label)
    fine = [make_case(f"f{i}", spacing=(2.0, 0.5, 0.5), shape=(6, 40, 40), diameters=(4.0,) * 100) for i in range(2)]
    coarse = [make_case(f"c{i}", spacing=(2.0, 1.0, 1.0), shape=(6, 40, 40)) for i in range(4)]
    plan = plan_dataset(measured(*fine, *coarse), lambda _: labels, PlanSettings())
    assert plan.lesions_after == plan.lesions_before == 200
    assert 0.5 <= plan.spacing_mm[1] < 1.0
    assert plan.spacing_mm[0] == 2.0
    assert any("refined to" in reason.text for reason in plan.reasons)
