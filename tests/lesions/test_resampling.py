import numpy as np
import pytest
import torch
from scipy import ndimage

from cmb_autoseg.lesions import label_components, resample_lesions

CONNECTED_26 = np.ones((3, 3, 3))


def count(mask):
    return ndimage.label(mask, CONNECTED_26)[1]


def resample(mask, shape, preserve):
    labels = label_components(mask > 0)
    return resample_lesions(labels, int(labels.max()), shape, preserve)


def test_the_same_grid_returns_the_same_mask():
    mask = np.zeros((6, 6, 6), dtype=np.uint8)
    mask[2, 3, 4] = 1
    moved = resample(mask, (6, 6, 6), preserve=True)
    assert np.array_equal(moved.mask, mask)
    assert moved.lost == ()


@pytest.mark.parametrize("shape", [(12, 12, 12), (3, 12, 12), (5, 7, 9), (4, 4, 4)])
def test_one_voxel_lesion_survives_only_when_lesions_are_preserved(shape):
    mask = np.zeros((6, 6, 6), dtype=np.uint8)
    mask[3, 3, 3] = 1
    preserved = resample(mask, shape, preserve=True)
    assert count(preserved.mask) == 1
    assert preserved.lost == ()
    centre = (np.argwhere(preserved.mask).mean(axis=0) + 0.5) * 6 / np.array(shape)
    assert np.abs(centre - 3.5).max() <= 1.0
    # Trilinear weights of a single voxel stay below one half everywhere on these grids.
    assert resample(mask, shape, preserve=False).lost == (1,)


def test_plain_resampling_equals_torch_interpolation_at_one_half():
    rng = np.random.default_rng(3)
    mask = ndimage.binary_dilation(rng.random((14, 20, 22)) > 0.995, iterations=2).astype(np.uint8)
    shape = (21, 26, 17)
    weights = torch.nn.functional.interpolate(torch.from_numpy(mask)[None, None].double(), shape, mode="trilinear")
    expected = weights[0, 0].numpy()
    got = resample(mask, shape, preserve=False).mask
    clear = np.abs(expected - 0.5) > 1e-9
    assert np.array_equal(got[clear], expected[clear] >= 0.5)


def test_neighbours_that_would_merge_are_kept_apart_or_named():
    mask = np.zeros((4, 12, 12), dtype=np.uint8)
    mask[1:3, 2:5, 2:5] = 1
    mask[1:3, 2:5, 6:9] = 1  # one voxel between the two
    shape = (4, 9, 9)
    assert count(resample(mask, shape, preserve=True).mask) == 2
    plain = resample(mask, shape, preserve=False)
    assert count(plain.mask) == 1
    assert len(plain.lost) == 1


def test_counts_agree_with_components_on_random_masks():
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = (rng.random((8, 16, 16)) > 0.99).astype(np.uint8)
        shape = tuple(rng.integers(5, 20, 3))
        for preserve in (True, False):
            moved = resample(mask, shape, preserve)
            if preserve:
                assert count(mask) - len(moved.lost) == count(moved.mask)


def test_no_lesion_is_lost_where_no_axis_gets_coarser():
    """What the planner's refinement relies on: it need not go below the native grid."""
    rng = np.random.default_rng(1)
    for _ in range(60):
        shape = rng.integers(3, 14, 3)
        mask = (rng.random(shape) > rng.choice([0.9, 0.97])).astype(np.uint8)
        moved = resample(mask, tuple(round(n * f) for n, f in zip(shape, rng.uniform(1, 3, 3), strict=True)), True)
        assert moved.lost == ()
        assert count(moved.mask) == count(mask)


def test_numbers_outlive_turned_axes_and_a_crop():
    mask = np.zeros((6, 7, 8), dtype=np.uint8)
    mask[1, 5, 6] = mask[4, 1, 1] = 1  # equal sizes: the order of axes decides the numbers
    labels = label_components(mask > 0)
    assert (labels[1, 5, 6], labels[4, 1, 1]) == (1, 2)
    turned = labels.transpose(2, 1, 0)
    assert label_components(turned > 0)[6, 5, 1] == 2
    assert resample_lesions(turned[:4], 2, (4, 7, 6), preserve=True).lost == (1,)
    assert resample_lesions(turned, 2, (4, 7, 6), preserve=True).lost == ()
