import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from cmb_autoseg.simulation.acquisition.scanner import (
    cylinder_field,
    dipole_field,
    radians_per_ppm,
    sphere_field,
    with_spheres,
    with_veins,
)
from cmb_autoseg.simulation.contents.draws import Region, Sphere, Vein
from cmb_autoseg.simulation.grids import Grid, crop_kspace

AXIAL = (0.0, 0.0, 1.0)
TILTED = (0.0, math.sin(0.5), math.cos(0.5))


def relative_rms(found, expected):
    return float(((found - expected).square().mean() / expected.square().mean()).sqrt())


def coordinates(n, supersampling=1):
    """Points of an n^3 grid of 1 mm about its middle voxel, shape (n, n, n, s^3, 3)."""
    axis = torch.arange(n, dtype=torch.float64) - n // 2
    parts = (torch.arange(supersampling, dtype=torch.float64) + 0.5) / supersampling - 0.5
    voxels = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
    inside = torch.stack(torch.meshgrid(parts, parts, parts, indexing="ij"), dim=-1).reshape(-1, 3)
    return voxels[..., None, :] + inside


@pytest.mark.parametrize("b0", [AXIAL, TILTED])
def test_dipole_field_of_a_sphere_is_the_textbook_one(b0):
    n, radius = 80, 7.0
    chi = (coordinates(n, 3).norm(dim=-1) <= radius).double().mean(dim=-1)
    points = coordinates(n)[..., 0, :]
    distance = points.norm(dim=-1)

    field = dipole_field(chi, (1.0, 1.0, 1.0), b0)

    outside = (distance > 1.5 * radius) & (distance < 3 * radius)
    assert relative_rms(field[outside], sphere_field(points, radius, 1.0, b0)[outside]) <= 0.05
    assert field[distance < 0.7 * radius].abs().max() < 0.02  # Lorentz: nothing inside a sphere


@pytest.mark.parametrize("b0", [AXIAL, TILTED])
def test_cylinder_field_agrees_with_the_dipole_field_of_a_long_tube(b0):
    n, radius = 64, 5.0
    inside = coordinates(n, 3)[..., [0, 2]].norm(dim=-1) <= radius  # along j
    points = coordinates(n)[..., 0, :]
    across = points * torch.tensor([1.0, 0.0, 1.0])
    axis = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64).expand(n**3, 3)

    field = dipole_field(inside.double().mean(dim=-1), (1.0, 1.0, 1.0), b0)
    expected = cylinder_field(across.reshape(-1, 3), axis, torch.full((n**3,), radius), 1.0, b0).reshape(n, n, n)

    distance = across.norm(dim=-1)
    ring = (distance > 1.5 * radius) & (distance < 3 * radius)
    # The map repeats and loses its mean, which shifts the whole field by a constant.
    shift = (field - expected)[ring].mean()
    assert relative_rms(field[ring] - shift, expected[ring]) <= 0.07
    core = distance < 0.6 * radius
    assert float(field[core].mean() - shift) == pytest.approx(float(expected[core].mean()), abs=0.02)


def test_a_sphere_dephases_its_voxels_as_spins_counted_one_by_one(tiny):
    grid = Grid((9, 9, 9), (1.0, 1.0, 1.0), (-4.0, -4.0, -4.0))
    sphere = Sphere((0.2, -0.1, 0.3), 0.6, 1.5, Region.LOBAR)

    found = with_spheres(torch.ones(grid.shape, dtype=torch.complex64), grid, [sphere], tiny)

    spins = (np.arange(4) + 0.5) / 4 - 0.5
    total = 0j
    for dx in spins:
        for dy in spins:
            for dz in spins:
                offset = np.array([1 + dx, 0 + dy, 1 + dz]) - sphere.centre_mm
                r = np.linalg.norm(offset)
                if r <= 0.6:  # no field inside, and the core's signal has decayed
                    total += math.exp(-40 * 1.5 * 3.0 * 0.020)
                    continue
                shift = 1.5 / 3 * (0.6 / r) ** 3 * (3 * (offset[2] / r) ** 2 - 1)
                hertz = 42.577e6 * 3.0 * shift * 1e-6
                total += np.exp(2j * np.pi * hertz * 0.020)
    assert complex(found[5, 4, 5]) == pytest.approx(total / 64, abs=1e-4)
    assert found[4, 4, 4].abs() < 0.3
    assert complex(found[0, 0, 0]) == pytest.approx(1, abs=1e-3)


def test_a_vein_darkens_its_course_and_leaves_the_rest(tiny):
    grid = Grid((24, 24, 12), (0.5, 0.5, 1.0), (-6.0, -6.0, -6.0))
    line = np.stack([np.linspace(-4, 4, 5), np.zeros(5), np.zeros(5)], axis=1)

    signal = with_veins(
        torch.ones(grid.shape, dtype=torch.complex64), grid, [Vein(line, np.full(5, 0.6), 0.35)], tiny
    ).abs()

    assert signal[12, 12, 6] < 0.75
    assert signal[12, 23, 6] == pytest.approx(1, abs=0.01)


def test_longer_echo_turns_the_phase_further(tiny):
    assert radians_per_ppm(tiny) == pytest.approx(16.05, rel=0.01)
    assert radians_per_ppm(replace(tiny, echo_times_ms=(40.0,))) == pytest.approx(2 * radians_per_ppm(tiny))


@pytest.mark.parametrize("factors", [(2, 2, 2), (1, 2, 4), (3, 1, 2)])
def test_kspace_cropping_keeps_mean_and_place_of_what_it_resolves(factors):
    coarse = Grid((18, 20, 16), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0))
    fine = coarse.refined(factors)

    def blob(grid):
        x, y, z = grid.axes_mm(torch.device("cpu"))
        distance = ((x - 8.3) ** 2)[:, None, None] + ((y - 9.1) ** 2)[None, :, None] + ((z - 15.2) ** 2)[None, None] / 4
        return torch.exp(-distance / (2 * 1.5**2)).to(torch.complex128)

    reduced = crop_kspace(blob(fine), factors)

    assert tuple(reduced.shape) == coarse.shape
    assert complex(reduced.mean()) == pytest.approx(complex(blob(fine).mean()), rel=1e-6)
    assert (reduced - blob(coarse)).abs().max() < 0.01
