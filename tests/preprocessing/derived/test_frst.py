import math
import time
from itertools import product

import numpy as np
import pytest

from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import Volume
from cmb_autoseg.preprocessing.derived.frst import fast_radial_symmetry, full_vote

SPACING_MM = (0.7, 0.9, 2.0)


def grid(data, spacing_mm=SPACING_MM):
    return Volume(np.asarray(data, dtype=np.float32), np.diag([*spacing_mm, 1.0]))


def ball(shape, spacing_mm, centre_mm, radius_mm, inside=-50.0, outside=100.0):
    """A ball with an edge one millimetre wide."""
    points = np.stack(np.meshgrid(*[np.arange(n) * mm for n, mm in zip(shape, spacing_mm, strict=True)], indexing="ij"))
    distance = np.linalg.norm(points - np.reshape(centre_mm, (3, 1, 1, 1)), axis=0)
    return outside + inside * np.clip(radius_mm + 0.5 - distance, 0, 1)


def slow_frst(data, spacing_mm, radii_mm, brain, sign, alpha, std_factor):
    """Loy and Zelinsky's transform, voxel by voxel, in double precision."""
    shape = data.shape

    def slope(at, axis):
        low, high = list(at), list(at)
        low[axis], high[axis] = max(at[axis] - 1, 0), min(at[axis] + 1, shape[axis] - 1)
        return (data[tuple(high)] - data[tuple(low)]) / (spacing_mm[axis] * (high[axis] - low[axis]))

    def votes_allowed(at):
        around = [tuple(np.add(at, step)) for step in np.vstack([np.eye(3, dtype=int), -np.eye(3, dtype=int)])]
        inside = [p for p in around if all(0 <= x < n for x, n in zip(p, shape, strict=True))]
        return brain[at] and all(brain[p] for p in inside)

    total = np.zeros(shape)
    for radius in radii_mm:
        votes, weights = np.zeros(shape), np.zeros(shape)
        for at in product(*map(range, shape)):
            gradient = np.array([slope(at, axis) for axis in range(3)])
            length = math.sqrt((gradient**2).sum())
            if length == 0 or not votes_allowed(at):
                continue
            steps = np.rint(sign * gradient / length * radius / np.array(spacing_mm)).astype(int)
            target = tuple(np.add(at, steps))
            if all(0 <= x < n for x, n in zip(target, shape, strict=True)):
                votes[target] += 1
                weights[target] += length
        full = slow_full_vote(radius, spacing_mm)
        symmetry = weights / full * np.minimum(votes / full, 1) ** alpha
        total += smooth(symmetry, [std_factor * radius / mm for mm in spacing_mm])
    return np.where(brain, total / len(radii_mm), 0)


def slow_full_vote(radius, spacing_mm):
    count = 0
    for step in product(range(-8, 9), repeat=3):
        offset = np.array(step) * spacing_mm
        distance = np.linalg.norm(offset)
        if distance > 0 and all(np.abs(offset - radius * offset / distance) / spacing_mm < 0.5):
            count += 1
    return max(count, 1)


def smooth(data, sigmas):
    """Gaussian cut off at three standard deviations, zero beyond the border, by matrix products."""
    for axis, sigma in enumerate(sigmas):
        n = data.shape[axis]
        reach = int(3 * sigma + 0.5)
        kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
        kernel /= kernel.sum()
        matrix = sum(weight * np.eye(n, k=k) for k, weight in zip(range(-reach, reach + 1), kernel, strict=True))
        data = np.moveaxis(np.tensordot(matrix, data, axes=(1, axis)), 0, axis)
    return data


@pytest.mark.parametrize(("polarity", "sign"), [("dark", -1), ("bright", 1)])
@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_it_equals_a_slow_direct_transform(polarity, sign, alpha):
    shape = (14, 12, 8)
    rng = np.random.default_rng(0)
    data = (ball(shape, SPACING_MM, (4.9, 5.4, 8.0), 2.0) + rng.normal(0, 3, shape)).astype(np.float32)
    brain = np.ones(shape, dtype=bool)
    brain[:2, :, :] = False
    radii = (1.0, 2.0, 3.0)

    fast = fast_radial_symmetry(grid(data), radii, brain, polarity, alpha, std_factor=0.25)

    slow = slow_frst(data.astype(np.float64), SPACING_MM, radii, brain, sign, alpha, 0.25)
    assert fast.dtype == np.float32
    assert slow.max() > 0.5
    np.testing.assert_allclose(fast, slow, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("spacing_mm", [(0.5, 0.5, 0.5), (0.5, 0.5, 2.0), (2.0, 0.8, 0.5)])
@pytest.mark.parametrize("radius_mm", [1.5, 2.5])
def test_the_strongest_voxel_is_the_centre_of_the_ball_whatever_the_voxels(spacing_mm, radius_mm):
    shape = tuple(int(16 / mm) for mm in spacing_mm)
    centre = [shape[axis] // 2 for axis in range(3)]
    data = ball(shape, spacing_mm, np.multiply(centre, spacing_mm), radius_mm)

    found = fast_radial_symmetry(grid(data, spacing_mm), (radius_mm,))

    assert list(np.unravel_index(found.argmax(), shape)) == centre


def test_a_dot_stands_out_against_a_vessel_of_the_same_width_and_contrast():
    shape, spacing_mm = (40, 40, 20), (0.5, 0.5, 1.0)
    dot = ball(shape, spacing_mm, (10, 10, 10), 1.5)
    i, k = np.meshgrid(np.arange(40) * 0.5, np.arange(20) * 1.0, indexing="ij")
    vessel = 100 - 50 * np.clip(2.0 - np.hypot(i - 10, k - 10), 0, 1)[:, None, :].repeat(40, axis=1)

    of_dot, of_vessel = (fast_radial_symmetry(grid(data, spacing_mm)).max() for data in (dot, vessel))

    assert of_dot > 4 * of_vessel


def test_a_dark_dot_is_a_bright_one_in_the_negative_and_each_is_blind_to_the_other():
    shape = (20, 16, 8)
    data = ball(shape, SPACING_MM, (7.0, 7.2, 8.0), 2.0)
    dark = fast_radial_symmetry(grid(data), polarity="dark")
    np.testing.assert_array_equal(dark, fast_radial_symmetry(grid(-data), polarity="bright"))
    assert dark.max() > 20 * fast_radial_symmetry(grid(data), polarity="bright").max()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_mirrored_scan_gives_the_mirrored_map(axis):
    data = np.random.default_rng(1).normal(0, 1, (12, 11, 9))
    expected = np.flip(fast_radial_symmetry(grid(data)), axis)
    np.testing.assert_allclose(fast_radial_symmetry(grid(np.flip(data, axis))), expected, rtol=1e-5, atol=1e-7)


def test_a_stripped_scan_gives_the_map_of_the_whole_one_inside_the_brain():
    shape = (20, 18, 10)
    head = 100 + np.random.default_rng(3).normal(0, 5, shape)
    brain = ball(shape, SPACING_MM, (7.0, 8.1, 10.0), 5.0, inside=1.0, outside=0.0) > 0.5

    stripped = fast_radial_symmetry(grid(np.where(brain, head, 0)), brain=brain)

    np.testing.assert_array_equal(stripped, fast_radial_symmetry(grid(head), brain=brain))
    assert not stripped[~brain].any()
    assert stripped.max() > 0


def test_votes_of_a_perfect_ball_are_counted_by_hand():
    # Of the 26 neighbours at 1, 1.41 and 1.73 mm all round to the centre one millimetre inwards; none farther does.
    assert full_vote(1.0, (1.0, 1.0, 1.0)) == 26
    # With slices 10 mm thick the ball is a disc: the eight neighbours in the slice.
    assert full_vote(1.0, (1.0, 1.0, 10.0)) == 8


@pytest.mark.parametrize("shape", [(9, 9, 1), (1, 1, 1), (9, 9, 9)])
def test_a_scan_without_edges_or_with_one_slice_gives_a_finite_map(shape):
    assert not fast_radial_symmetry(grid(np.full(shape, 7.0))).any()
    assert np.isfinite(fast_radial_symmetry(grid(np.random.default_rng(0).normal(size=shape)))).all()


def test_two_runs_give_equal_bytes():
    volume = grid(np.random.default_rng(2).normal(0, 1, (20, 20, 10)))
    assert fast_radial_symmetry(volume).tobytes() == fast_radial_symmetry(volume).tobytes()


@pytest.mark.parametrize("radii", [(), (0.0,), (-1.0, 2.0), (float("nan"),), (float("inf"),)])
def test_radii_that_are_none_are_refused(radii):
    with pytest.raises(InputError, match=r"frst_radii_mm: found .*expected radii in mm above 0"):
        fast_radial_symmetry(grid(np.zeros((4, 4, 4))), radii)


def test_a_full_size_scan_takes_less_than_five_seconds_of_one_core():
    volume = grid(np.random.default_rng(0).normal(100, 5, (256, 256, 64)), (0.9, 0.9, 2.0))
    start = time.process_time()
    fast_radial_symmetry(volume)
    assert time.process_time() - start < 5
