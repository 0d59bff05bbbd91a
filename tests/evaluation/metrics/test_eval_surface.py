"""Surface distances of cubes whose distances are known."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from cmb_autoseg.evaluation.case_score import SurfaceDistances
from cmb_autoseg.evaluation.metrics.surface import surface_distances, surface_statistics


def cube(corner, side=8, shape=(24, 24, 24)):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(c, c + side) for c in corner)] = True
    return mask


def corners(mask, spacing_mm):
    """Corners of voxels, in mm, at which voxels of both kinds meet: what the library takes for the surface."""
    padded = np.pad(mask, 1).astype(int)
    around = sum(
        padded[i : padded.shape[0] - 1 + i, j : padded.shape[1] - 1 + j, k : padded.shape[2] - 1 + k]
        for i in (0, 1)
        for j in (0, 1)
        for k in (0, 1)
    )
    return np.argwhere((around > 0) & (around < 8)) * np.asarray(spacing_mm)


def test_the_same_cube_has_no_distance():
    found = surface_distances(3, cube((4, 4, 4)), cube((4, 4, 4)), (1.0, 1.0, 1.0))
    assert found == SurfaceDistances(reference=3, hd95_mm=0, assd_mm=0, surface_dice_1mm=1)


@pytest.mark.parametrize(("axis", "spacing_mm"), [(0, (0.5, 0.5, 3.0)), (2, (0.5, 0.5, 3.0)), (1, (1.0, 2.0, 1.0))])
def test_a_shift_by_one_voxel_is_as_far_as_the_voxel_is_wide(axis, spacing_mm):
    reference = cube((4, 4, 4))
    found = surface_distances(1, np.roll(reference, 1, axis), reference, spacing_mm)
    assert found.hd95_mm == pytest.approx(spacing_mm[axis])
    assert 0 < found.assd_mm < spacing_mm[axis]
    # The two faces across the shift are a voxel's width apart, so within 1 mm or not; the other four all but overlap.
    assert (found.surface_dice_1mm == 1) == (spacing_mm[axis] <= 1)


def test_the_farthest_distance_is_that_of_all_pairs_of_corners():
    """A direct search over all corners, without the library."""
    spacing_mm = (0.7, 0.7, 2.0)
    reference, predicted = cube((4, 4, 4)), cube((6, 4, 5), side=7)
    found = surface_distances(1, predicted, reference, spacing_mm)
    apart = cdist(corners(predicted, spacing_mm), corners(reference, spacing_mm))
    each_way = np.concatenate([apart.min(axis=0), apart.min(axis=1)])
    assert found.hd95_mm <= each_way.max() + 1e-9  # the plain Hausdorff distance bounds its 95th percentile
    # Corners weigh the same here and as much as their piece of surface there; close, not equal.
    assert found.assd_mm == pytest.approx(each_way.mean(), rel=0.1)
    assert found.hd95_mm == pytest.approx(max(np.quantile(apart.min(axis=side), 0.95) for side in (0, 1)), rel=0.15)


def test_a_cube_around_a_cube():
    """Every face of the outer one is 2 mm from the inner one, edges and corners farther."""
    found = surface_distances(1, cube((4, 4, 4), side=12), cube((6, 6, 6), side=8), (1.0, 1.0, 1.0))
    assert 2 <= found.assd_mm < 2.5
    assert found.hd95_mm == pytest.approx(np.sqrt(8))  # from the outer edges to the inner ones
    assert found.surface_dice_1mm == 0


def test_the_window_does_not_matter():
    reference, predicted = cube((4, 4, 4)), cube((5, 4, 4))
    whole = surface_distances(1, predicted, reference, (1.0, 1.0, 2.0))
    window = np.s_[4:13, 4:12, 4:12]
    assert surface_distances(1, predicted[window], reference[window], (1.0, 1.0, 2.0)) == whole


def test_an_empty_side_is_refused():
    with pytest.raises(ValueError, match="a voxel on both sides"):
        surface_distances(1, np.zeros((4, 4, 4), bool), cube((0, 0, 0), 2, (4, 4, 4)), (1.0, 1.0, 1.0))


def test_means_are_over_pairs(scored):
    def pair(hd95_mm):
        return SurfaceDistances(reference=1, hd95_mm=hd95_mm, assd_mm=hd95_mm / 2, surface_dice_1mm=0.5)

    cases = [scored(surfaces=(pair(1.0), pair(2.0))), scored(), scored(surfaces=(pair(6.0),))]
    statistics = surface_statistics(cases)
    assert {name: one.value() for name, one in statistics.items()} == {
        "hd95_mm": 3,
        "assd_mm": 1.5,
        "surface_dice_1mm": 0.5,
    }
    np.testing.assert_allclose(statistics["hd95_mm"].of(np.array([[2.0, 1, 0], [0, 1, 0]])), [1.5, np.nan])
    assert "5 mm across or more" in surface_statistics([scored()])["hd95_mm"].why_none
