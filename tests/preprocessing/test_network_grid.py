"""Network inputs against nnU-Net's own preprocessing, which they stand for."""

import numpy as np
import pytest

from cmb_autoseg._nnunet import nnunet_environment
from cmb_autoseg.preprocessing.network_grid import mirror_axes, network_grid
from cmb_autoseg.preprocessing.network_input import network_input

GRIDS = [
    pytest.param((2, 1, 1), (2, 1, 1), id="as it is"),
    pytest.param((2.5, 1, 1), (1, 1, 1), id="finer"),
    pytest.param((1, 1, 1), (1.4, 1.2, 0.8), id="coarser and finer"),
    pytest.param((4, 0.5, 0.5), (4, 0.7, 0.7), id="thick slices that stay"),
    pytest.param((4, 0.5, 0.5), (3, 0.7, 0.6), id="thick slices that change"),
    pytest.param((1, 1, 1), (5, 1, 0.8), id="to thick slices"),
    pytest.param((1, 1, 3.5), (1, 0.9, 2), id="sagittal slices"),
]


def plans_for(forward, spacing):
    """nnU-Net's plans, as far as preprocessing reads them."""
    resampling = {"is_seg": False, "force_separate_z": None, "memefficient_seg_resampling": False}
    configuration = {
        "architecture": {},
        "preprocessor_name": "DefaultPreprocessor",
        "spacing": list(spacing),
        "normalization_schemes": ["ZScoreNormalization"] * 3,
        "use_mask_for_norm": [True] * 3,
        "resampling_fn_data": "resample_torch_fornnunet",
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_seg": "resample_torch_fornnunet",
        "resampling_fn_seg_kwargs": {**resampling, "is_seg": True},
    }
    return {
        "transpose_forward": list(forward),
        "transpose_backward": [int(axis) for axis in np.argsort(forward)],
        "configurations": {"3d": configuration},
        "foreground_intensity_properties_per_channel": {str(channel): {} for channel in range(3)},
        "label_manager": "LabelManager",
    }


@pytest.fixture(scope="module")
def scan():
    """(channel, z, y, x): a brain with a hole and an open notch; the last channel is blank."""
    data = np.random.default_rng(0).normal(5, 1, (3, 20, 30, 26)).astype(np.float32)
    brain = np.zeros(data.shape[1:], bool)
    brain[2:18, 5:23, 3:24] = True
    brain[8:10, 10:12, 10:14] = False
    brain[2:5, 5:9] = False
    data[:, ~brain] = 0
    data[2] = 0
    return data


@pytest.mark.parametrize("forward", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize(("spacing", "target"), GRIDS)
def test_input_is_nnunets(scan, forward, spacing, target):
    plans = plans_for(forward, target)
    with nnunet_environment():
        from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

        manager = PlansManager(plans)
        theirs, seg, properties = DefaultPreprocessor(verbose=False).run_case_npy(
            scan, None, {"spacing": list(spacing)}, manager, manager.get_configuration("3d"), {}
        )

    made = network_input(scan.copy(), spacing, plans)

    np.testing.assert_allclose(made.data, theirs, atol=2e-5)
    assert (made.seg == seg).mean() > 0.999  # they vote in half precision
    ours = made.grid.nnunet_properties
    for key, value in properties.items():
        np.testing.assert_array_equal(np.asarray(ours[key]), np.asarray(value), err_msg=key)


@pytest.mark.parametrize("forward", [(0, 1, 2), (2, 0, 1)])
@pytest.mark.parametrize(("spacing", "target"), GRIDS)
def test_the_way_back_is_nnunets(scan, forward, spacing, target):
    grid = network_grid(scan.any(axis=0), spacing, plans_for(forward, target))
    values = np.random.default_rng(1).normal(size=(1, *grid.shape)).astype(np.float32)
    with nnunet_environment():
        from nnunetv2.preprocessing.resampling.resample_torch import resample_torch_fornnunet

        turned = [spacing[axis] for axis in forward]
        theirs = resample_torch_fornnunet(values.copy(), grid.box_shape, list(target), turned)

    np.testing.assert_allclose(grid.back(values), theirs, atol=2e-5)


@pytest.mark.parametrize("forward", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_a_crop_goes_back_to_where_it_was(scan, forward):
    grid = network_grid(scan.any(axis=0), (1, 1, 1), plans_for(forward, (1, 1, 1)))

    whole = grid.in_scan(grid.crop(scan)[0])

    np.testing.assert_array_equal(whole, scan[0].transpose(2, 1, 0))


def test_what_is_given_stays_as_it_was(scan):
    before = scan.copy()
    network_input(scan, (1, 1, 1), plans_for((0, 1, 2), (1, 1, 1)))
    np.testing.assert_array_equal(scan, before)


def test_mirrors_turn_the_axes_of_their_plane():
    assert mirror_axes(["sagittal", "coronal"], (0, 1, 2)) == (1, 2)
    assert mirror_axes(["axial"], (2, 0, 1)) == (1,)
    assert mirror_axes([], (0, 1, 2)) == ()


def test_a_sheet_thinner_than_half_a_voxel_keeps_one_layer():
    brain = np.zeros((6, 12, 12), bool)
    brain[3, 2:10, 2:10] = True
    grid = network_grid(brain, (0.3, 1.0, 1.0), plans_for((0, 1, 2), (2.0, 1.0, 1.0)))
    assert grid.onto(brain[None].astype(np.float32)).shape == (1, 1, 8, 8)


def test_a_plane_that_is_named_twice_is_mirrored_once():
    assert mirror_axes(["sagittal", "coronal", "sagittal"], (0, 1, 2)) == (1, 2)
