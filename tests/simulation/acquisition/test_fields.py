import math

import pytest
import torch

from cmb_autoseg.simulation.acquisition.fields import cylinder_field, dipole_field, head_field, shimmed, sphere_field

AXIAL = (0.0, 0.0, 1.0)
TILTED = (0.0, math.sin(0.5), math.cos(0.5))
OBLIQUE = (0.48, 0.6, 0.64)


def relative_rms(found, expected):
    return float(((found - expected).square().mean() / expected.square().mean()).sqrt())


def coordinates(n, supersampling=1):
    """Points of an n^3 grid of 1 mm about its middle voxel, shape (n, n, n, s^3, 3)."""
    axis = torch.arange(n, dtype=torch.float64) - n // 2
    parts = (torch.arange(supersampling, dtype=torch.float64) + 0.5) / supersampling - 0.5
    voxels = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
    inside = torch.stack(torch.meshgrid(parts, parts, parts, indexing="ij"), dim=-1).reshape(-1, 3)
    return voxels[..., None, :] + inside


@pytest.mark.parametrize("b0", [AXIAL, TILTED, OBLIQUE])
def test_dipole_field_of_a_sphere_is_the_textbook_one(b0):
    n, radius = 64, 6.0
    chi = (coordinates(n, 3).norm(dim=-1) <= radius).double().mean(dim=-1)
    points = coordinates(n)[..., 0, :]
    distance = points.norm(dim=-1)

    field = dipole_field(chi, (1.0, 1.0, 1.0), b0)
    expected = sphere_field(distance**2, points @ torch.tensor(b0, dtype=torch.float64), radius, 1.0)

    outside = (distance > 1.5 * radius) & (distance < 4 * radius)
    assert relative_rms(field[outside], expected[outside]) <= 0.05
    assert field[distance < 0.7 * radius].abs().max() < 0.03  # Lorentz: nothing inside a sphere


@pytest.mark.parametrize("degrees", [90, 60, 35])
def test_dipole_field_of_a_cylinder_at_three_angles_is_the_textbook_one(degrees):
    n, radius, angle = 64, 5.0, math.radians(degrees)
    b0 = (math.sin(angle), math.cos(angle), 0.0)  # the cylinder lies along j
    inside = coordinates(n, 3)[..., [0, 2]].norm(dim=-1) <= radius
    across = coordinates(n)[..., 0, :] * torch.tensor([1.0, 0.0, 1.0])
    distance = across.norm(dim=-1)

    field = dipole_field(inside.double().mean(dim=-1), (1.0, 1.0, 1.0), b0)
    expected = cylinder_field(
        distance**2,
        across @ torch.tensor(b0, dtype=torch.float64),
        torch.tensor(b0[1], dtype=torch.float64),
        torch.tensor(radius, dtype=torch.float64),
        1.0,
    )

    middle = slice(n // 2 - 8, n // 2 + 8)
    field, expected, distance = field[:, middle], expected[:, middle], distance[:, middle]
    ring = (distance > 1.5 * radius) & (distance < 4 * radius)
    # The convolution knows the field only relative to its own mean.
    shift = (field - expected)[ring].mean()
    assert relative_rms(field[ring] - shift, expected[ring]) <= 0.05
    core = distance < 0.6 * radius
    assert float(field[core].mean() - shift) == pytest.approx((3 * math.cos(angle) ** 2 - 1) / 6, abs=0.02)


def test_voxels_need_not_be_cubes():
    x = torch.arange(48, dtype=torch.float64) - 24
    fine = torch.exp(-(x[:, None, None] ** 2 + x[None, :, None] ** 2 + x[None, None] ** 2) / 18)

    field = dipole_field(fine[..., ::2].clone(), (1.0, 1.0, 2.0), TILTED)

    assert relative_rms(field, dipole_field(fine, (1.0, 1.0, 1.0), TILTED)[..., ::2]) < 0.02


def test_shim_takes_the_smooth_part_and_leaves_the_rest():
    x = torch.linspace(-1, 1, 30)
    smooth = 0.7 + 0.5 * x[:, None, None] - 0.8 * x[None, :, None] * x[None, None, :]
    smooth = smooth + x[:, None, None] ** 2 - x[None, :, None] ** 2
    bump = torch.zeros(30, 30, 30)
    bump[15, 15, 15] = 1.0

    left = shimmed(smooth + bump, torch.ones(30, 30, 30))

    assert (left - bump).abs().max() < 0.02
    bowl = (x[:, None, None] ** 2 + x[None, :, None] ** 2 + x[None, None, :] ** 2).expand(30, 30, 30)
    unshimmable = shimmed(bowl, torch.ones(30, 30, 30))
    assert unshimmable.std() == pytest.approx(float(bowl.std()), rel=0.05)


def test_air_beside_the_brain_disturbs_its_field_there_most(head_of, values):
    air = torch.zeros(40, 40, 40)
    air[16:24, 16:24, 4:10] = 1

    field = head_field(head_of(air=air), values, AXIAL)

    assert field[20, 20, 12].abs() > 5 * field[20, 20, 30].abs()
