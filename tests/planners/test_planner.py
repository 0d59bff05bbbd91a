import math

import numpy as np
import pytest

from cmb_autoseg.errors import InputError
from cmb_autoseg.lesions import label_components
from cmb_autoseg.planners import PlanSettings, plan_dataset
from cmb_autoseg.records import Role


def ball_label(shape, centres):
    label = np.zeros(shape, dtype=np.uint8)
    for z, y, x in centres:
        label[z, y - 1 : y + 2, x - 1 : x + 2] = 1
    return label_components(label > 0)


def test_a_uniform_dataset_keeps_its_native_grid(measured, make_case):
    fingerprint = measured(*(make_case(f"c{i}", diameters=(4.0,)) for i in range(5)))
    plan = plan_dataset(fingerprint, lambda _: ball_label((20, 64, 64), [(9, 30, 30)]), PlanSettings())
    assert plan.spacing_mm == (2.0, 1.0, 1.0)
    assert (plan.lesions_before, plan.lesions_after, plan.lost_lesions) == (5, 5, ())
    assert plan.topology.kernel_sizes[0] == (1, 3, 3)
    assert plan.topology.features_per_stage == (16, 32, 64, 128)
    assert math.prod(plan.patch_shape) <= 2**16


def test_small_lesions_ask_for_fine_voxels_where_the_native_grid_has_them(measured, make_case):
    cases = [make_case(f"a{i}", spacing=(1.0, 0.5, 0.5), diameters=(1.8,)) for i in range(2)]
    cases += [make_case(f"b{i}", spacing=(4.0, 1.0, 1.0), diameters=(1.8,)) for i in range(3)]
    label = ball_label((20, 64, 64), [(9, 30, 30)])
    plan = plan_dataset(measured(*cases), lambda _: label, PlanSettings())
    # A third of 1.8 mm in-plane; slices as thin as the thinnest native ones.
    assert plan.spacing_mm == (1.0, 0.6, 0.6)
    large = [case.model_copy(update={"lesions": make_case("x", diameters=(9.0,)).lesions}) for case in cases]
    assert plan_dataset(measured(*large), lambda _: label, PlanSettings()).spacing_mm == (1.0, 1.0, 1.0)


def test_s0_names_the_lesions_that_one_millimetre_would_merge(measured, make_case):
    spacing, shape = (1.0, 0.4, 0.4), (20, 64, 64)
    label = np.zeros(shape, dtype=np.uint8)
    label[8:10, 20:25, 19:24] = 1
    label[8:10, 20:25, 25:30] = 1  # 0.4 mm apart
    label = label_components(label > 0)
    fingerprint = measured(*(make_case(f"c{i}", spacing=spacing, diameters=(2.0, 2.0)) for i in range(5)))
    with pytest.raises(
        InputError,
        match=r"5 of 10 lesions vanish .* at 1 x 1 x 1 mm \(c0#2 at \(1.0, 2.0, 3.0\) mm RAS, 2.0 mm.*--allow",
    ):
        plan_dataset(fingerprint, lambda _: label, PlanSettings(preset="s0"))
    allowed = plan_dataset(fingerprint, lambda _: label, PlanSettings(preset="s0", allow_lesion_loss=True))
    assert (allowed.patch_shape, allowed.spacing_mm) == ((64, 64, 64), (1.0, 1.0, 1.0))
    assert len(allowed.lost_lesions) == 5
    adaptive = plan_dataset(fingerprint, lambda _: label, PlanSettings())
    assert adaptive.lesions_after == adaptive.lesions_before == 10


def test_the_starters_grid_is_not_refined_and_what_it_would_merge_is_refused(measured, make_case):
    spacing, shape = (1.5, 0.4, 0.4), (20, 64, 64)
    label = np.zeros(shape, dtype=np.uint8)
    for slot in range(4):
        label[8:10, 20:21, 20 + 2 * slot] = 1  # 0.4 mm apart
    label = label_components(label > 0)
    fingerprint = measured(*(make_case(f"c{i}", spacing=spacing, diameters=(2.0,) * 4) for i in range(5)))
    with pytest.raises(InputError, match=r"lesions vanish .* at 1.5 x 0.75 x 0.75 mm .*--preset adaptive, or accept"):
        plan_dataset(fingerprint, lambda _: label, PlanSettings(preset="starter"))
    settings = PlanSettings(preset="starter", allow_lesion_loss=True)
    assert plan_dataset(fingerprint, lambda _: label, settings).spacing_mm == (1.5, 0.75, 0.75)
    assert plan_dataset(fingerprint, lambda _: label, PlanSettings()).lesions_after == 20


def test_by_the_starters_grid_lesions_are_kept_apart(measured, make_case):
    label = np.zeros((20, 64, 64), dtype=np.uint8)
    label[8:10, 20:25, 19:24] = label[8:10, 20:25, 25:30] = 1  # 0.4 mm apart
    label = label_components(label > 0)
    fingerprint = measured(*(make_case(f"c{i}", spacing=(1.5, 0.4, 0.4), diameters=(2.0, 2.0)) for i in range(5)))
    plan = plan_dataset(fingerprint, lambda _: label, PlanSettings(preset="starter"))
    assert (plan.lesions_before, plan.lesions_after) == (10, 10)


def test_memory_sizes_patch_and_network(measured, make_case):
    fingerprint = measured(*(make_case(f"c{i}", spacing=(1.0, 0.5, 0.5), shape=(160, 400, 400)) for i in range(5)))
    plans = [
        plan_dataset(fingerprint, lambda _: np.zeros((1, 1, 1), np.int32), PlanSettings(device="cuda", memory_gb=gb))
        for gb in (0.5, 2, 8, 40)
    ]
    assert [plan.memory_gb <= gb for plan, gb in zip(plans, (0.5, 2, 8, 40), strict=True)] == [True] * 4
    voxels = [math.prod(plan.patch_shape) for plan in plans]
    features = [plan.topology.features_per_stage[0] for plan in plans]
    assert sorted(voxels) == voxels
    assert voxels[0] < voxels[-1]
    assert sorted(features) == features
    assert features[-1] == 32
    with pytest.raises(InputError, match=r"gpu_memory_target 0\.001"):
        plan_dataset(fingerprint, lambda _: np.zeros((1, 1, 1), np.int32), PlanSettings(device="cuda", memory_gb=0.001))


def test_a_rare_sequence_is_no_channel_and_no_susceptibility_sequence_is_refused(measured, make_case):
    cases = [make_case(f"c{i}") for i in range(19)] + [make_case("d", roles=(Role.SWI, Role.T1))]
    plan = plan_dataset(
        measured(*cases, roles=(Role.SWI, Role.T1)), lambda _: np.zeros((1, 1, 1), np.int32), PlanSettings()
    )
    assert plan.channels == (Role.SWI,)
    assert any("t1 is no channel" in reason.text for reason in plan.reasons)
    only_t1 = measured(*(make_case(f"c{i}", roles=(Role.T1,)) for i in range(5)), roles=(Role.T1,))
    with pytest.raises(InputError, match="no susceptibility sequence"):
        plan_dataset(only_t1, lambda _: np.zeros((1, 1, 1), np.int32), PlanSettings())


def test_the_axis_of_thick_slices_comes_first(measured, make_case):
    coronal = [make_case(f"c{i}", spacing=(1.0, 3.0, 1.0), shape=(64, 20, 64), diameters=(4.0,)) for i in range(5)]
    label = np.zeros((64, 20, 64), dtype=np.uint8)
    label[30:33, 9, 30:33] = 1
    plan = plan_dataset(measured(*coronal), lambda _: label, PlanSettings())
    assert plan.transpose_forward == (1, 0, 2)
    assert plan.spacing_mm == (3.0, 1.0, 1.0)
    assert plan.lesions_after == 5


def test_a_rare_susceptibility_sequence_stays_where_a_case_has_no_other(measured, make_case):
    cases = [make_case(f"c{i}") for i in range(19)] + [make_case("d", roles=(Role.QSM,))]
    roles = (Role.SWI, Role.QSM)
    plan = plan_dataset(measured(*cases, roles=roles), lambda _: np.zeros((1, 1, 1), np.int32), PlanSettings())
    assert plan.channels == roles
    both = [*cases[:-1], make_case("d", roles=roles)]
    plan = plan_dataset(measured(*both, roles=roles), lambda _: np.zeros((1, 1, 1), np.int32), PlanSettings())
    assert plan.channels == (Role.SWI,)


def test_shapes_are_rounded_in_the_precision_of_nifti_headers(measured, make_case):
    # 5 voxels of 0.7 mm are 3.5 mm, but the header's 32-bit 0.7 is a little less.
    cases = [make_case(f"c{i}", spacing=(1.0, 0.7, 0.7), shape=(20, 5, 5), diameters=(2.0,)) for i in range(5)]
    label = ball_label((20, 5, 5), [(9, 2, 2)])
    plan = plan_dataset(measured(*cases), lambda _: label, PlanSettings(preset="s0", allow_lesion_loss=True))
    stored = float(np.float32(0.7))
    assert plan.median_shape == (20, round(stored * 5), round(stored * 5)) == (20, 3, 3)
