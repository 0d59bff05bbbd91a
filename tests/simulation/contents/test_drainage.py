import numpy as np
import pytest

from cmb_autoseg.simulation.contents.drainage import Descent, Tree, halved, resampled, travel_time
from cmb_autoseg.simulation.grids import Grid

GRID = Grid((40, 40, 20), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))


def test_travel_time_in_a_uniform_medium_is_the_distance():
    sinks = np.zeros(GRID.shape, dtype=bool)
    sinks[20, 20, 10] = True

    time = travel_time(np.full(GRID.shape, 0.5, dtype=np.float32), sinks, 2.0, rounds=12)

    index = np.stack(np.indices(GRID.shape), axis=-1)
    distance = np.linalg.norm((index - (20, 20, 10)) * 2.0, axis=-1)
    far = distance > 16
    # First-order upwind differences overestimate about a point source, most of all on diagonals.
    np.testing.assert_allclose(time[far] * 0.5, distance[far], rtol=0.15)
    assert (time[far] * 0.5 >= distance[far] * 0.999).all()
    assert time[20, 39, 10] * 0.5 == pytest.approx(38.0, rel=1e-5)


def test_the_quickest_way_takes_the_fast_lane():
    speed = np.full(GRID.shape, 0.1, dtype=np.float32)
    speed[:, 20, :] = 2.0
    sinks = np.zeros(GRID.shape, dtype=bool)
    sinks[0, :, :] = True
    descent = Descent(travel_time(speed, sinks, 2.0), GRID)

    (course,) = descent.follow(np.random.default_rng(0), np.array([[70.0, 46.0, 20.0]]), drift=0.0, most_mm=120.0)

    in_lane = np.abs(course[:, 1] - 40.0) < 3.0
    assert course[-1, 0] < 3.0
    assert in_lane.mean() > 0.7
    assert np.linalg.norm(np.diff(course, axis=0), axis=1).max() < 2.0


def test_courses_end_on_earlier_ones_and_widen_them():
    tree = Tree(GRID)
    trunk = np.stack([np.linspace(70, 2, 46), np.full(46, 41.0), np.full(46, 20.0)], axis=1)
    branch = np.stack([np.full(20, 30.5), np.linspace(72, 41, 20), np.full(20, 20.5)], axis=1)
    tree.add(trunk, root=True)

    assert tree.add(branch)
    assert not tree.add(branch[-4:])

    radii = tree.radii(np.array([0.3, 0.3]), (0.05, 2.0))
    joint = np.linalg.norm(trunk - tree.courses[1][-1], axis=1)
    assert joint.min() < 1e-9
    before, after = radii[0][int(joint.argmin()) - 4], radii[0][int(joint.argmin()) + 4]
    assert after**3 == pytest.approx(before**3 + radii[1][-3] ** 3, rel=0.25)


def test_murrays_law_is_capped():
    tree = Tree(GRID)
    tree.add(np.stack([np.linspace(70, 2, 46), np.full(46, 41.0), np.full(46, 20.0)], axis=1), root=True)

    (radii,) = tree.radii(np.array([0.9]), (0.1, 1.0))

    assert radii.max() == 1.0


def test_halved_takes_means_of_blocks_and_drops_the_odd_voxel():
    array = np.arange(3 * 2 * 2, dtype=np.float32).reshape(3, 2, 2)

    assert halved(array).tolist() == [[[3.5]]]


def test_resampled_keeps_both_ends():
    line = np.array([[0.0, 0, 0], [10.0, 0, 0], [10.0, 4.0, 0]])

    points = resampled(line, 2.0)

    assert len(points) == 8
    np.testing.assert_array_equal(points[[0, -1]], line[[0, -1]])
