from dataclasses import replace

import numpy as np
import pytest
import torch

from cmb_autoseg.simulation.anatomy.person import FOLD_COEFFICIENTS, WARP_COEFFICIENTS, Person, draw_person
from cmb_autoseg.simulation.anatomy.placement import exponential, place, velocity
from cmb_autoseg.simulation.anatomy.template import coarse_grid
from cmb_autoseg.simulation.grids import Grid

CPU = torch.device("cpu")
FRONT = np.array([0.0, 30.0, 0.0])


def jacobian(displacement_mm, grid):
    """Determinant of the derivative of x + displacement, by differences, on the grid's inner voxels."""
    rows = [torch.stack(torch.gradient(part, spacing=grid.spacing_mm[0])) for part in displacement_mm]
    matrix = torch.stack(rows).movedim((0, 1), (-2, -1)) + torch.eye(3)
    return torch.linalg.det(matrix)[1:-1, 1:-1, 1:-1]


@pytest.mark.parametrize("seed", range(4))
def test_warps_fold_nowhere(phantom_template, seed):
    grid = coarse_grid(phantom_template.grid)
    person = draw_person(np.random.default_rng(seed))

    warp = exponential(velocity(phantom_template, person, grid, CPU), grid)

    assert warp.norm(dim=0).mean() > 0.5
    assert jacobian(warp, grid).min() > 0.1


def test_a_violent_velocity_folds_when_added_and_not_when_flowed_along():
    grid = Grid((24, 24, 24), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    x = torch.linspace(0, 4 * np.pi, 24)
    speed = torch.zeros(3, 24, 24, 24)
    speed[0] = 9 * torch.sin(x)[:, None, None]

    assert jacobian(speed, grid).min() < 0
    assert jacobian(exponential(speed, grid), grid).min() > 0


def test_flow_of_a_constant_velocity_is_a_shift():
    grid = Grid((6, 6, 6), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    speed = torch.tensor([2.0, -1.0, 0.5]).reshape(3, 1, 1, 1).expand(3, 6, 6, 6)

    assert torch.allclose(exponential(speed, grid), speed, atol=1e-5)


def test_an_oblique_slab_turns_the_head_back_about_the_slabs_middle(phantom_template, tiny):
    tilted = replace(tiny, tilt_deg=(20.0, 0.0))
    person = Person(60, "F")
    straight, turned = (place(phantom_template, person, protocol, CPU, 2.0) for protocol in (tiny, tilted))

    def scan_point(placement, template_mm):
        return (np.linalg.inv(placement.matrix) @ [*template_mm, 1])[:3]

    middle = np.array(tiny.centre_mm)
    np.testing.assert_allclose(scan_point(turned, middle), middle, atol=1e-9)
    front = scan_point(turned, middle + FRONT) - middle
    # Turned into the scanner's axes by the protocol, the head stands upright again.
    np.testing.assert_allclose(np.array(tilted.to_scanner) @ front, FRONT, atol=1e-9)
    np.testing.assert_allclose(scan_point(straight, middle + FRONT), middle + FRONT, atol=1e-9)


def test_points_are_the_affine_map_plus_the_warp(phantom_template, tiny):
    flat = np.zeros((3, *WARP_COEFFICIENTS), np.float32)
    flat[0] = 3.0  # a spline of equal coefficients is flat: three millimetres to the right everywhere
    person = Person(60, "F", warp_mm=flat, fold_mm=np.zeros((3, *FOLD_COEFFICIENTS), np.float32))
    placement = place(phantom_template, person, tiny, CPU, 2.0)
    box = (slice(10, 13), slice(20, 22), slice(5, 9))

    points, _ = placement.points(box)

    bent = coarse_grid(phantom_template.grid)
    shift = 3 * sum(bent.shape) * bent.spacing_mm[0] / 3 / 200  # less than 3 mm, since the phantom is small
    first = placement.grid.to_mm(np.array([10, 20, 5]))
    np.testing.assert_allclose(points[:, 0, 0, 0].numpy(), first + np.array([shift, 0, 0]), atol=1e-3)
    assert points.shape == (3, 3, 2, 4)
