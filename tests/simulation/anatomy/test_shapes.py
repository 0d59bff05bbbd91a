import math

import numpy as np
import pytest
import torch

from cmb_autoseg.simulation.anatomy.outside import distance_mm, surround
from cmb_autoseg.simulation.anatomy.shapes import Ellipsoid, chain, paint
from cmb_autoseg.simulation.grids import Grid

GRID = Grid((48, 48, 48), (1.0, 1.0, 1.0), (-24.0, -24.0, -24.0))


def test_a_painted_ellipsoid_has_its_volume_and_mirrors():
    one = paint([Ellipsoid((8, 0, 0), (5, 7, 6), yaw_deg=30)], GRID, np.eye(4))
    two = paint([Ellipsoid((8, 0, 0), (5, 7, 6), yaw_deg=30)], GRID, np.eye(4), paired=True)

    assert float(one.sum()) == pytest.approx(4 / 3 * math.pi * 5 * 7 * 6, rel=0.06)
    assert float(two.sum()) == pytest.approx(2 * float(one.sum()), rel=0.01)
    assert torch.allclose(two[1:], two[1:].flip(0), atol=1e-5)


def test_positive_yaw_brings_the_rear_end_outwards():
    turned = paint([Ellipsoid((0, 0, 0), (3, 12, 3), yaw_deg=30)], GRID, np.eye(4))

    assert turned[24 + 5, 24 - 9, 24] > 0.9 > 0.1 > turned[24 - 5, 24 - 9, 24]


def test_a_chain_is_a_tube_through_its_points_and_follows_the_map_to_mni():
    to_mni = np.diag([2.0, 2.0, 2.0, 1.0])  # the grid's 10 mm are 20 mm of MNI152

    tube = paint(chain([(-20, 0, 0, 6), (20, 0, 0, 6)]), GRID, to_mni)

    assert tube[24 + 9, 24, 24] > 0.9
    assert tube[24 + 9, 24 + 2, 24] > 0.8
    assert tube[24, 24 + 5, 24] < 0.1


def test_distance_is_euclidean_up_to_its_limit():
    inside = torch.zeros(GRID.shape, dtype=torch.bool)
    inside[20:28, 20:28, 20:28] = True

    away = distance_mm(inside, GRID, 15.0)

    assert away[24, 24, 24] == 0
    assert float(away[24, 24, 37]) == pytest.approx(10, abs=1.2)
    assert float(away[37, 24, 37]) == pytest.approx(10 * math.sqrt(2), abs=1.5)
    assert away.max() <= 15


def test_around_a_brain_come_fluid_bone_and_scalp_in_this_order_and_shares_sum_to_one():
    grid = Grid((90, 110, 90), (2.0, 2.0, 2.0), (-90.0, -128.0, -80.0))
    brain = paint([Ellipsoid((0, -18, 10), (60, 75, 55))], grid, np.eye(4))

    around = surround(brain, grid, np.eye(4))

    total = sum(around.values()) + brain * (1 - around["blood"])
    assert float(total.max()) <= 1.001
    i, k = 45 + 8, 45
    ray = {name: [float(v) for v in part[i, :, k]] for name, part in around.items()}
    places = [int(np.argmax(ray[name][70:])) for name in ("fluid", "bone", "soft")]
    assert places == sorted(places)
    assert max(ray["bone"]) > 0.8
    assert float(around["air"].sum()) * 8e-3 > 20  # ml
    assert total[0].max() < 0.01 > total[-1].max()
