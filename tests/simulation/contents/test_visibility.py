import numpy as np
import pytest

from cmb_autoseg.simulation.contents.sources import Inclusion, Kind, Region, Sphere
from cmb_autoseg.simulation.contents.visibility import mark_visible
from cmb_autoseg.simulation.grids import Grid

GRID = Grid((20, 20, 10), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0))


def core(centre, chi_ppm=1.0):
    return Inclusion(Kind.MICROBLEED, (Sphere(centre, 0.5, chi_ppm),), Region.LOBAR, "tissue")


def marks(dips, lesions, noise_sd=0.05, brain=None, level=1.0):
    """Marks where a flat scan of `level` is lowered at given voxels by given amounts."""
    without = np.full(GRID.shape, level, dtype=np.float32)
    with_lesions = without.copy()
    for voxel, dip in dips.items():
        with_lesions[voxel] -= dip
    brain = np.ones(GRID.shape, dtype=bool) if brain is None else brain
    lesions = [lesion if isinstance(lesion, Inclusion) else core(lesion) for lesion in lesions]
    return mark_visible(with_lesions, without, brain, lesions, GRID, noise_sd)


def indices(voxels):
    return {tuple(int(index) for index in voxel) for voxel in voxels}


def test_region_is_the_connected_dark_voxels_about_the_core():
    dips = {(5, 5, 4): 0.6, (6, 6, 5): 0.3, (5, 6, 4): 0.1, (9, 5, 4): 0.5}

    (mark,) = marks(dips, [(5.0, 5.0, 8.0)])

    assert indices(mark.voxels) == {(5, 5, 4), (6, 6, 5)}
    assert mark.visible


def test_contrast_is_relative_and_the_peak_counts_noise():
    (mark,) = marks({(5, 5, 4): 1.2, (5, 6, 4): 0.8}, [(5.0, 5.0, 8.0)], noise_sd=0.1, level=2.0)

    assert mark.contrast == pytest.approx(0.6)
    assert mark.peak_drop_sds == pytest.approx(12.0, rel=1e-5)


def test_a_drop_within_the_noise_is_not_visible_but_known():
    (faint,) = marks({(5, 5, 4): 0.28}, [(5.0, 5.0, 8.0)], noise_sd=0.1)
    (clear,) = marks({(5, 5, 4): 0.32}, [(5.0, 5.0, 8.0)], noise_sd=0.1)

    assert not faint.visible
    assert not len(faint.voxels)
    assert indices(faint.all_voxels) == {(5, 5, 4)}
    assert faint.peak_drop_sds == pytest.approx(2.8, rel=1e-5)
    assert clear.visible


def test_a_drop_of_a_fifth_has_no_region_but_a_contrast():
    (mark,) = marks({(5, 5, 4): 0.2}, [(5.0, 5.0, 8.0)], noise_sd=0.01)

    assert not mark.visible
    assert not len(mark.all_voxels)
    assert mark.contrast == pytest.approx(0.2)


def test_losses_that_run_together_are_shared_by_distance_over_size():
    row = {(i, 5, 4): 0.5 for i in range(4, 11)}

    alike = marks(row, [(4.0, 5.0, 8.0), (10.0, 5.0, 8.0)])
    unlike = marks(row, [core((4.0, 5.0, 8.0), 1.0), core((10.0, 5.0, 8.0), 0.125)])

    assert {len(mark.voxels) for mark in alike} == {3, 4}
    assert not indices(alike[0].voxels) & indices(alike[1].voxels)
    # Twice the size: the border lies at two thirds of the way.
    assert indices(unlike[1].voxels) == {(9, 5, 4), (10, 5, 4)}
    assert len(unlike[0].voxels) == 5


def test_nothing_outside_the_brain_is_marked():
    brain = np.ones(GRID.shape, dtype=bool)
    brain[:, 6:] = False

    (mark,) = marks({(5, 5, 4): 0.5, (5, 6, 4): 0.5}, [(5.0, 5.0, 8.0)], brain=brain)

    assert mark.voxels.tolist() == [[5, 5, 4]]


def test_lesions_at_the_corner_and_outside_of_the_scan():
    corner, outside = marks({(0, 0, 0): 0.5}, [(0.0, 0.0, 0.0), (-40.0, 0.0, 0.0)])

    assert corner.voxels.tolist() == [[0, 0, 0]]
    assert not outside.visible
    assert outside.contrast == 0
