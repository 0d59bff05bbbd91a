import numpy as np
import pytest

from cmb_autoseg.simulation.contents.raters import boxes, loose, nearest_mimic, points, tight
from cmb_autoseg.simulation.contents.sources import Contents, Inclusion, Kind, Region, Sphere, Tube
from cmb_autoseg.simulation.contents.visibility import mark_visible
from cmb_autoseg.simulation.grids import Grid

GRID = Grid((20, 20, 10), (1.0, 1.0, 2.0), (10.0, 0.0, 0.0))
DIPS = {(5, 5, 4): 0.6, (6, 5, 4): 0.3, (4, 5, 4): 0.15, (3, 5, 4): 0.13, (5, 6, 4): 0.05, (14, 14, 4): 0.25}
BRAIN = np.ones(GRID.shape, dtype=bool)


def core(centre):
    return Inclusion(Kind.MICROBLEED, (Sphere(centre, 0.5, 1.0),), Region.LOBAR, "tissue")


@pytest.fixture
def scan():
    """A clear lesion at voxel (5, 5, 4) and one at (14, 14, 4) that the noise hides."""
    without = np.ones(GRID.shape, dtype=np.float32)
    with_lesions = without.copy()
    for voxel, dip in DIPS.items():
        with_lesions[voxel] -= dip
    marks = mark_visible(with_lesions, without, BRAIN, [core((15, 5, 8)), core((24, 14, 8))], GRID, 0.1)
    assert [mark.visible for mark in marks] == [True, False]
    return with_lesions, without, marks


def voxels(mask):
    return {tuple(int(index) for index in voxel) for voxel in np.argwhere(mask)}


def test_the_tight_reader_marks_the_core_only(scan):
    assert voxels(tight(*scan)) == {(5, 5, 4)}


def test_the_tight_reader_keeps_the_darkest_voxel_of_a_faint_lesion():
    without = np.ones(GRID.shape, dtype=np.float32)
    faint = without.copy()
    faint[5, 5, 4], faint[6, 5, 4] = 0.65, 0.7
    marks = mark_visible(faint, without, BRAIN, [core((15, 5, 8))], GRID, 0.05)

    assert voxels(tight(faint, without, marks)) == {(5, 5, 4)}


def test_the_loose_reader_marks_the_faint_rim_too(scan):
    with_lesions, without, marks = scan

    assert voxels(loose(with_lesions, without, BRAIN, marks)) == {(3, 5, 4), (4, 5, 4), (5, 5, 4), (6, 5, 4)}


def test_the_loose_reader_widens_a_lesion_without_rim_within_its_slice():
    without = np.ones(GRID.shape, dtype=np.float32)
    sharp = without.copy()
    sharp[5, 5, 4] = 0.3
    marks = mark_visible(sharp, without, BRAIN, [core((15, 5, 8))], GRID, 0.05)
    brain = BRAIN.copy()
    brain[4] = False

    found = voxels(loose(sharp, without, brain, marks))

    assert found == {(i, j, 4) for i in (5, 6) for j in (4, 5, 6)}


def test_clicks_scatter_about_the_middle_and_say_where(scan):
    marks = scan[2]
    rng = np.random.default_rng(0)
    clicks = [click for _ in range(200) for click in points(rng, marks, GRID)]

    assert len(clicks) == 200
    assert all(click.mark is marks[0] for click in clicks)
    middle = np.mean([click.point_mm for click in clicks], axis=0)
    np.testing.assert_allclose(middle, (15.5, 5.0, 8.0), atol=0.25)
    assert np.std([click.point_mm[0] for click in clicks]) == pytest.approx(np.hypot(0.7, 1 / np.sqrt(12)), abs=0.12)
    assert all(click.point_mm == tuple(GRID.to_mm(np.array(click.voxel))) for click in clicks)


def test_exact_clicks_hit_the_middle_voxel(scan):
    (click,) = points(np.random.default_rng(0), scan[2], GRID, jitter_mm=0.0)

    assert click.voxel in {(5, 5, 4), (6, 5, 4)}


def test_boxes_hold_the_lesion_with_a_margin(scan):
    marks = scan[2]

    (tightest,) = boxes(np.random.default_rng(0), marks, GRID, margin_mm=0.0)
    drawn = [boxes(np.random.default_rng(seed), marks, GRID, margin_mm=1.0)[0] for seed in range(30)]

    assert (tightest.low, tightest.high) == ((5, 5, 4), (6, 5, 4))
    assert all(3 <= box.low[0] <= 5 and 6 <= box.high[0] <= 8 for box in drawn)
    assert len({(box.low, box.high) for box in drawn}) > 5


def test_nearest_mimic_is_measured_to_the_surface():
    speck = Inclusion(Kind.CALCIFICATION, (Sphere((10.0, 0.0, 0.0), 1.0, -1.0),), Region.LOBAR, "falx")
    line = np.array([[0.0, 4.0, -5.0], [0.0, 4.0, 5.0]])
    vein = Tube(Kind.VEIN, line, np.array([0.5, 0.5]), 0.3, "cortical")

    assert nearest_mimic(core((0.0, 0.0, 1.0)), Contents(mimics=[speck], tubes=[vein])) == (Kind.VEIN, 3.5)
    assert nearest_mimic(core((9.5, 0.0, 0.0)), Contents(mimics=[speck], tubes=[vein])) == (Kind.CALCIFICATION, 0.0)
    assert nearest_mimic(core((0.0, 0.0, 0.0)), Contents()) is None
