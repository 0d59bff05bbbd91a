"""The simulated scan against brute force, textbook formulas and what microbleeds are known to do."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from cmb_autoseg.simulation.acquisition import signal as signal_module
from cmb_autoseg.simulation.acquisition.kspace import resize_kspace, to_image, to_kspace
from cmb_autoseg.simulation.acquisition.signal import _TissueSlabs, acquire, draw_texture, sampling, scan_grid
from cmb_autoseg.simulation.contents.sources import Contents, Inclusion, Kind, Region, Sphere, Tube
from cmb_autoseg.simulation.grids import Grid
from cmb_autoseg.simulation.protocols import Protocol
from cmb_autoseg.simulation.tissue import radians_per_ppm

VISIBLE_DROP = 0.22


def straight(direction, radius_mm, chi_ppm=0.35, kind=Kind.VEIN, length_mm=24.0):
    along = np.linspace(-length_mm / 2, length_mm / 2, 13)[:, None] * np.array(direction)
    return Tube(kind, along, np.full(13, radius_mm), chi_ppm, "straight")


def cropped(fine, factor):
    """A complex volume whose k-space is cropped to a `factor`-th along each axis."""
    for axis in range(3):
        fine = to_image(resize_kspace(to_kspace(fine, axis), fine.shape[axis] // factor, axis), axis)
    return fine


def visible_mm3(scan, protocol, lesion):
    scanned = scan(protocol, microbleeds=[lesion])
    with_lesion, without = scanned.with_lesions[-1].abs(), scanned.without_lesions[-1].abs()
    return float((with_lesion < (1 - VISIBLE_DROP) * without).sum()) * math.prod(protocol.spacing_mm)


def resolved(protocol, values, finer, contents):
    """Signal of white matter with spheres in it on a grid that resolves them, and its cropped k-space."""
    fine = Grid((16 * finer,) * 3, (1.0 / finer,) * 3, scan_grid(protocol).origin_mm)
    x, y, z = torch.meshgrid(*[axis.float() for axis in fine.axes_mm(torch.device("cpu"))], indexing="ij")
    shift, rate = torch.zeros(fine.shape), torch.zeros(fine.shape)
    for inclusion in contents:
        for sphere in inclusion.spheres:
            dx, dy, dz = x - sphere.centre_mm[0], y - sphere.centre_mm[1], z - sphere.centre_mm[2]
            r2 = dx**2 + dy**2 + dz**2
            outside = r2 > sphere.radius_mm**2
            dipole = sphere.chi_ppm / 3 * sphere.radius_mm**3 / r2**1.5 * (3 * dz**2 / r2 - 1)
            shift += torch.where(outside, dipole, 0)
            rate += torch.where(outside, 0, 40 * sphere.chi_ppm * protocol.field_strength_t)
    seconds = protocol.echo_time_ms / 1000
    hertz = 42.577 * protocol.field_strength_t * shift
    white = values.signal("white", protocol, protocol.echo_time_ms)
    return cropped(white * torch.polar(torch.exp(-seconds * rate), 2 * math.pi * hertz * seconds), finer)


def test_local_grids_agree_with_a_simulation_that_resolves_everything(scan, ball, isotropic, values):
    lesions = [ball(1.8, 0.3, (0.2, -0.1, 0.3)), ball(0.7, 1.2, (-4.1, 3.2, -2.0))]

    found = scan(isotropic, microbleeds=lesions).with_lesions[0]
    expected = resolved(isotropic, values, 8, lesions)

    white = expected.abs().max()
    assert (found - expected).abs().square().mean().sqrt() / white <= 0.02
    loss = (white - expected.abs()) / white  # of what the lesions change, too
    assert ((found - expected).abs().square().sum() / (expected - white).abs().square().sum()).sqrt() <= 0.05
    assert loss.max() > 0.5


def test_visible_volume_grows_with_echo_time(scan, ball, isotropic):
    # 1 x 1 x 3 mm at 3 T; a core of 0.55 mm and 0.9 ppm, at several places in its voxel. Larger ones grow
    # less, by 2^(3/4) to 2: the field's gradient falls with the fourth power of the distance.
    early = replace(isotropic, spacing_mm=(1.0, 1.0, 3.0), matrix=(16, 16, 7))
    late = replace(early, echo_times_ms=(40.0,))
    places = np.random.default_rng(3).uniform(-0.5, 0.5, (8, 3)) * early.spacing_mm

    volumes = [[visible_mm3(scan, protocol, ball(0.55, 0.9, tuple(at))) for at in places] for protocol in (early, late)]

    assert 4 < np.mean(volumes[0]) < 14
    assert 1.8 < np.mean(volumes[1]) / np.mean(volumes[0]) < 2.8


def test_equal_total_susceptibility_looks_equally_large(scan, ball, isotropic):
    sharp = replace(isotropic, spacing_mm=(0.5, 0.5, 1.0), matrix=(32, 32, 16))

    volumes = [visible_mm3(scan, sharp, ball(r, 1.0 / r**3, (0.1, -0.2, 0.15))) for r in (0.7, 1.0, 1.4)]

    assert max(volumes) <= 1.2 * min(volumes)
    assert min(volumes) > 8  # far more than the 1.4 mm3 of the smallest core


def test_calcification_and_microbleed_have_opposite_phase(scan, ball, isotropic):
    protocol = replace(isotropic, spacing_mm=(0.5, 0.5, 1.0), matrix=(32, 32, 16))
    bleed = scan(protocol, microbleeds=[ball(0.8, 1.0)]).with_lesions[0].angle()
    speck = scan(protocol, mimics=[ball(0.8, -1.0, water=0.2)]).with_lesions[0].angle()

    grid = scan_grid(protocol)
    pole = tuple(np.rint(grid.to_voxels(np.array([0.0, 0.0, 2.5]))).astype(int))
    equator = tuple(np.rint(grid.to_voxels(np.array([2.0, 0.0, 0.0]))).astype(int))
    assert bleed[pole] > 0.2 > -0.2 > speck[pole]
    assert bleed[equator] < -0.05 < 0.05 < speck[equator]


@pytest.mark.parametrize("degrees", [0, 35, 90])
def test_phase_in_a_vein_follows_the_cylinder_formula(scan, isotropic, degrees):
    angle = math.radians(degrees)
    protocol = replace(isotropic, echo_times_ms=(6.0,), spacing_mm=(0.5, 0.5, 0.5), matrix=(24, 24, 24))
    vein = straight((math.sin(angle), 0.0, math.cos(angle)), radius_mm=1.5)

    phase = scan(protocol, tubes=[vein]).with_lesions[0].angle()[11:13, 11:13, 11:13].mean()

    expected = radians_per_ppm(3.0, 6.0) * 0.35 / 6 * (3 * math.cos(angle) ** 2 - 1)
    assert float(phase) == pytest.approx(expected, abs=0.05)


def test_a_thin_vein_is_darker_across_the_main_field_than_along_it(scan, isotropic, values):
    def loss(direction, **vessel):
        image = scan(isotropic, tubes=[straight(direction, 0.4, **vessel)]).with_lesions[0].abs()
        return 1 - float(image[7:9, 7:9, 7:9].mean()) / values.signal("white", isotropic, 20.0)

    along, across = loss((0.0, 0.0, 1.0)), loss((1.0, 0.0, 0.0))

    assert across > along + 0.04
    assert loss((1.0, 0.0, 0.0), chi_ppm=0.0, kind=Kind.ARTERY) > 0.02  # a flow void, without any field


def test_two_echoes_are_two_scans_of_one_field(scan, ball, isotropic):
    lesions = [ball(0.6, 1.0)]
    both = scan(replace(isotropic, echo_times_ms=(9.0, 20.0)), microbleeds=lesions).with_lesions
    alone = scan(isotropic, microbleeds=lesions).with_lesions

    assert torch.allclose(both[1], alone[0], atol=1e-5)
    assert both[0].abs().min() > both[1].abs().min()


@pytest.fixture
def varied(head_of):
    rng = np.random.default_rng(4)
    grey = torch.from_numpy(rng.random((40, 40, 40))).float().clamp(0, 1) ** 2
    fluid = (1 - grey) * torch.from_numpy(rng.random((40, 40, 40))).float()
    field = torch.nn.functional.avg_pool3d(torch.from_numpy(rng.normal(size=(1, 1, 42, 42, 42))).float(), 3, 1)[0, 0]
    return head_of(grey=grey, fluid=fluid), field


@pytest.mark.parametrize("slab", [1, 7])
def test_the_size_of_the_slabs_does_not_matter(varied, values, isotropic, ball, monkeypatch, slab):
    head, field = varied
    contents = Contents([ball(0.7, 1.0, (1.2, 0.3, -0.8))], [], [straight((0.6, 0.0, 0.8), 0.5)])
    texture = draw_texture(np.random.default_rng(1))
    monkeypatch.setattr(signal_module, "SLAB", 1000)
    at_once = acquire(head, field, contents, isotropic, values, texture)
    monkeypatch.setattr(signal_module, "SLAB", slab)
    streamed = acquire(head, field, contents, isotropic, values, texture)

    assert torch.allclose(streamed.with_lesions, at_once.with_lesions, atol=1e-5)
    assert torch.allclose(streamed.without_lesions, at_once.without_lesions, atol=1e-5)


def test_the_stream_is_the_cropped_kspace_of_the_whole_fine_volume(varied, values, isotropic):
    head, field = varied
    plan, texture = sampling(isotropic, field.device), draw_texture(np.random.default_rng(1))
    tissue = _TissueSlabs(head, field, plan.grid, isotropic, values, texture)
    magnitudes, shift = tissue.slab(0, plan.grid.shape[2])
    fine = torch.polar(magnitudes[0], shift * radians_per_ppm(3.0, 20.0)).permute(1, 2, 0)

    streamed = acquire(head, field, Contents(), isotropic, values, texture).without_lesions[0]

    assert plan.grid.shape == (48, 48, 66)  # three times the matrix, and three slices more at either end
    assert torch.allclose(streamed, cropped(fine, 3)[:, :, 3:-3], atol=1e-5)


def test_zero_filling_interpolates_what_was_acquired(varied, values, isotropic):
    head, field = varied
    coarse = replace(isotropic, spacing_mm=(2.0, 2.0, 1.0), matrix=(8, 8, 16), centre_mm=(-0.5, -0.5, 0.0))
    filled = replace(isotropic, acquired_mm=(2.0, 2.0, 1.0))
    texture = draw_texture(np.random.default_rng(1))

    few = acquire(head, field, Contents(), coarse, values, texture).without_lesions[0]
    many = acquire(head, field, Contents(), filled, values, texture).without_lesions[0]

    assert scan_grid(coarse).origin_mm == scan_grid(filled).origin_mm
    assert torch.allclose(many[::2, ::2], few, atol=1e-4)


def test_partial_fourier_blurs_an_edge(head_of, values, isotropic):
    fluid = torch.zeros(40, 40, 40)
    fluid[20:] = 1
    texture, field = torch.ones(26, 30, 24), torch.zeros(40, 40, 40)
    whole, part = (
        acquire(head_of(fluid=fluid), field, Contents(), protocol, values, texture).without_lesions[0, :, 8, 8].abs()
        for protocol in (isotropic, replace(isotropic, partial_fourier=(0.65, 1.0, 1.0)))
    )

    def steepest(line):
        return float((line[1:] - line[:-1]).abs()[4:12].max())

    assert steepest(part) < 0.9 * steepest(whole)


def test_thick_2d_slices_average_their_profile(isotropic):
    flat = replace(isotropic, repetition_time_ms=800.0, spacing_mm=(1.0, 1.0, 4.0), matrix=(16, 16, 5))
    plan = sampling(flat, torch.device("cpu"))
    weights = plan.slice_weights.real

    assert torch.allclose(weights.sum(dim=1), torch.ones(5))
    positions = plan.grid.origin_mm[2] + plan.grid.spacing_mm[2] * torch.arange(plan.grid.shape[2])
    assert (weights @ positions.float()).tolist() == pytest.approx([-8.0, -4.0, 0.0, 4.0, 8.0], abs=1e-4)
    assert plan.grid.spacing_mm[2] <= 4 / 3
    across = weights[2] / weights[2].max()
    width = float(across.sum() * plan.grid.spacing_mm[2])
    assert width == pytest.approx(4.0, rel=0.1)


def test_signal_grid_is_three_times_finer_than_acquired():
    protocol = Protocol(
        "x", 3.0, (20.0,), (0.45, 0.45, 3.0), (40, 48, 10), (0, 0, 0), 30.0, acquired_mm=(0.9, 0.6, 3.0)
    )
    grid = sampling(protocol, torch.device("cpu")).grid

    assert grid.spacing_mm == pytest.approx((0.3, 0.2, 1.0))


def test_lesions_beyond_the_scan_change_nothing(scan, isotropic):
    far = Inclusion(Kind.MICROBLEED, (Sphere((500.0, 0.0, 0.0), 0.6, 1.0),), Region.LOBAR, "tissue")
    found = scan(isotropic, microbleeds=[far])
    assert torch.equal(found.with_lesions, found.without_lesions)
