import numpy as np

from cmb_autoseg.simulation.contents.draws import Region, Sphere
from cmb_autoseg.simulation.contents.visibility import mark_visible
from cmb_autoseg.simulation.grids import Grid

GRID = Grid((20, 20, 10), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0))


def marks(dips, spheres, noise_sd=0.05, brain=None):
    """Marks where a flat scan of 1 is lowered at given voxels by given amounts."""
    without = np.ones(GRID.shape, dtype=np.float32)
    with_lesions = without.copy()
    for voxel, dip in dips.items():
        with_lesions[voxel] -= dip
    brain = np.ones(GRID.shape, dtype=bool) if brain is None else brain
    found = [Sphere(centre, 0.5, 1.0, Region.LOBAR) for centre in spheres]
    return mark_visible(with_lesions, without, brain, found, GRID, noise_sd)


def test_region_is_the_connected_dark_voxels_about_the_core():
    dips = {(5, 5, 4): 0.6, (6, 6, 5): 0.3, (5, 6, 4): 0.1, (9, 5, 4): 0.5}

    (mark,) = marks(dips, [(5.0, 5.0, 8.0)])

    assert {tuple(voxel) for voxel in mark.voxels} == {(5, 5, 4), (6, 6, 5)}


def test_a_drop_within_the_noise_is_not_visible():
    (faint,) = marks({(5, 5, 4): 0.28}, [(5.0, 5.0, 8.0)], noise_sd=0.1)
    (clear,) = marks({(5, 5, 4): 0.32}, [(5.0, 5.0, 8.0)], noise_sd=0.1)

    assert not faint.visible
    assert clear.visible


def test_two_lesions_stay_a_voxel_apart():
    row = {(i, 5, 4): 0.5 for i in range(4, 11)}

    first, second = marks({**row, (10, 5, 4): 0.6, (4, 5, 4): 0.6}, [(4.0, 5.0, 8.0), (10.0, 5.0, 8.0)])

    gap = np.abs(first.voxels[:, None] - second.voxels[None]).max(axis=2) if second.visible else np.array([9])
    assert first.visible
    assert gap.min() >= 2


def test_nothing_outside_the_brain_is_marked():
    brain = np.ones(GRID.shape, dtype=bool)
    brain[:, 6:] = False

    (mark,) = marks({(5, 5, 4): 0.5, (5, 6, 4): 0.5}, [(5.0, 5.0, 8.0)], brain=brain)

    assert mark.voxels.tolist() == [[5, 5, 4]]
