"""A ball of a head with analytic fields, simulated twice as fine as scanned."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from cmb_autoseg.simulation.acquisition.kspace import resize_kspace, to_image, to_kspace
from cmb_autoseg.simulation.derived.local_field import (
    differences,
    eroded,
    field_gradient,
    local_field,
    unresolved,
    unwrapped_field,
)
from cmb_autoseg.simulation.derived.qsm import quantitative_susceptibility

SHAPE = (56, 60, 48)
AXIAL = (0.0, 0.0, 1.0)
TILTED = (0.0, math.sin(0.5), math.cos(0.5))
TESLA = 3.0


def halved(image: Tensor) -> Tensor:
    """The middle of k-space along every axis."""
    for axis, n in enumerate(image.shape):
        image = to_image(resize_kspace(to_kspace(image, axis), n // 2, axis), axis)
    return image


@dataclass
class Ball:
    centre_mm: tuple[float, float, float]
    radius_mm: float
    chi_ppm: float

    def field(self, points: Tensor, b0) -> Tensor:
        offset = points - torch.tensor(self.centre_mm)
        square = offset.square().sum(-1)
        safe = square.clamp(min=self.radius_mm**2)
        along = offset @ torch.tensor(b0)
        shift = self.chi_ppm / 3 * self.radius_mm**3 / safe**1.5 * (3 * along**2 / safe - 1)
        return torch.where(square > self.radius_mm**2, shift, 0)

    def inside(self, points: Tensor) -> Tensor:
        return (points - torch.tensor(self.centre_mm)).square().sum(-1) < self.radius_mm**2


def points_mm(refinement: int) -> Tensor:
    axes = [torch.arange(n * refinement) / refinement - (n - 1) / 2 for n in SHAPE]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)


POINTS = points_mm(1)
BRAIN = (POINTS / torch.tensor([25.0, 27.0, 21.0])).square().sum(-1) < 1


def scan(balls, b0=AXIAL, echo_times_ms=(20.0,), snr=None, extra_phase=None):
    """Complex echoes of balls in the brain, 1 mm voxels; what lies outside the brain has no signal."""
    points = points_mm(2)
    head = (points / torch.tensor([25.0, 27.0, 21.0])).square().sum(-1) < 1
    field = sum(ball.field(points, b0) for ball in balls)
    images = []
    for echo_time_ms in echo_times_ms:
        decay = sum(ball.inside(points) * max(ball.chi_ppm, 0) * 40 * TESLA * echo_time_ms / 1000 for ball in balls)
        phase = field * radians_per_ppm(echo_time_ms)
        if extra_phase is not None:
            phase = phase + extra_phase(points)
        images.append(halved(torch.polar(head * torch.exp(-decay), phase)))
    stack = torch.stack(images)
    if snr:
        torch_rng = torch.Generator().manual_seed(1)
        stack = stack + torch.complex(*torch.randn((2, *stack.shape), generator=torch_rng)) / snr
    return stack


def radians_per_ppm(echo_time_ms):
    return 2 * math.pi * 42.577 * TESLA * echo_time_ms / 1000


def qsm(balls, b0=AXIAL, echo_times_ms=(20.0,), **options):
    images = scan(balls, b0, echo_times_ms, **options)
    return quantitative_susceptibility(images, echo_times_ms, TESLA, (1.0, 1.0, 1.0), b0, BRAIN)


def mean_in(chi, ball):
    return float(chi[ball.inside(POINTS)].mean())


NUCLEUS = Ball((4.0, 5.0, 2.0), 5.0, 0.13)


@pytest.mark.parametrize(("b0", "echo_times_ms"), [(AXIAL, (20.0,)), (TILTED, (7.0, 20.0))])
def test_a_nucleus_is_recovered_to_a_quarter_at_every_tilt(b0, echo_times_ms):
    chi = qsm([NUCLEUS], b0, echo_times_ms, snr=40.0)

    background = chi[BRAIN & ((POINTS - torch.tensor(NUCLEUS.centre_mm)).norm(dim=-1) > 8)]
    assert mean_in(chi, NUCLEUS) - background.mean() == pytest.approx(0.13, rel=0.25)
    assert background.std() < 0.02
    assert float(chi[BRAIN].mean()) == pytest.approx(0, abs=1e-5)
    assert chi[~BRAIN].abs().max() == 0


def test_turning_the_main_field_with_the_head_turns_the_map():
    images = scan([NUCLEUS, Ball((-10.0, 0.0, 3.0), 2.0, -0.4)], AXIAL)
    swapped = images.permute(0, 3, 2, 1).contiguous()

    chi = quantitative_susceptibility(images, (20.0,), TESLA, (1.0, 1.0, 1.0), AXIAL, BRAIN)
    turned = quantitative_susceptibility(
        swapped, (20.0,), TESLA, (1.0, 1.0, 1.0), (1.0, 0.0, 0.0), BRAIN.permute(2, 1, 0).contiguous()
    )

    assert (turned.permute(2, 1, 0) - chi).abs().max() < 0.01


def test_microbleeds_and_veins_are_positive_and_calcifications_negative():
    bleed, speck = Ball((10.0, 4.0, 3.0), 0.7, 2.0), Ball((-10.0, -8.0, -2.0), 1.2, -1.5)
    vein = [Ball((float(x), -12.0, 8.0), 1.0, 0.3) for x in range(-8, 9)]

    chi = qsm([bleed, speck, *vein], snr=40.0)

    near = [(POINTS - torch.tensor(ball.centre_mm)).norm(dim=-1) < 1.8 for ball in (bleed, speck)]
    assert chi[near[0]].max() > 0.25
    assert chi[near[1]].min() < -0.25
    along = (POINTS[..., 1] == -11.5) & (POINTS[..., 2] == 8.5) & (POINTS[..., 0].abs() < 6)
    assert chi[along].mean() > 0.1


def test_a_void_does_not_streak():
    images = scan([NUCLEUS], snr=40.0)
    distance = (POINTS - torch.tensor([-9.5, -4.5, 0.5])).norm(dim=-1)
    void = distance < 2.6
    nothing = torch.complex(*torch.randn((2, 1, int(void.sum())), generator=torch.Generator().manual_seed(3)))
    with_void = images.clone()
    with_void[:, void] = 0.02 * nothing

    chi = [
        quantitative_susceptibility(echoes, (20.0,), TESLA, (1.0, 1.0, 1.0), AXIAL, BRAIN)
        for echoes in (images, with_void)
    ]

    around = (distance > 4) & (distance < 10) & BRAIN
    assert (chi[1] - chi[0])[around].std() < 0.005


def test_the_field_of_air_outside_the_brain_is_removed():
    sinus = Ball((2.0, 10.0, -38.0), 9.0, 9.4)
    nucleus = NUCLEUS.field(POINTS, AXIAL)
    both = nucleus + sinus.field(POINTS, AXIAL)

    alone = local_field(nucleus, eroded(BRAIN), (1.0, 1.0, 1.0))[BRAIN]
    found = local_field(both, eroded(BRAIN), (1.0, 1.0, 1.0))[BRAIN]

    background = sinus.field(POINTS, AXIAL)[BRAIN]
    assert (found - alone).std() < 0.02 * background.std()
    assert mean_in(qsm([NUCLEUS, sinus]), NUCLEUS) == pytest.approx(0.13, rel=0.35)


def test_a_coil_phase_over_the_whole_head_is_removed():
    with_coil = qsm([NUCLEUS], extra_phase=lambda p: torch.sin(p[..., 0] / 30 + p[..., 2] / 40) + 2)

    assert (with_coil - qsm([NUCLEUS]))[BRAIN].std() < 0.02


def test_wraps_are_undone():
    slope = POINTS[..., 0] * 0.06 + (POINTS[..., 1] / 30) ** 2
    image = torch.polar(torch.ones(SHAPE), slope * radians_per_ppm(20.0))
    assert (image.angle().abs() > 3).any()

    found = unwrapped_field(field_gradient(image[None], (20.0,), TESLA), (1.0, 1.0, 1.0))

    assert (found - found.mean() - slope + slope.mean()).abs().max() < 1e-4


def test_a_first_echo_unwraps_the_later_ones():
    slope = POINTS[..., 0] * 0.3  # 4.8 radians a voxel at 20 ms: a wrap that the last echo alone mistakes
    images = torch.stack([torch.polar(torch.ones(SHAPE), slope * radians_per_ppm(te)) for te in (5.0, 20.0)])

    both = field_gradient(images, (5.0, 20.0), TESLA)[0, :-1]
    alone = field_gradient(images[1:], (20.0,), TESLA)[0, :-1]

    assert (both - 0.3).abs().max() < 1e-4
    assert (alone - 0.3).abs().min() > 0.3


def test_a_vortex_of_the_phase_is_found_where_it_is():
    x, y = POINTS[..., 0], POINTS[..., 1]
    image = torch.polar(torch.ones(SHAPE), torch.atan2(y, x))

    gradient = field_gradient(image[None], (20.0,), TESLA)
    upper = torch.zeros(SHAPE, dtype=torch.bool)
    upper[:, :, 10:] = True
    found = unresolved(gradient, upper, radians_per_ppm(20.0))

    assert found[27:29, 29:31, 10:].all()
    assert found.sum() == 4 * (SHAPE[2] - 10)


def test_differences_that_touch_a_void_are_not_believed():
    smooth = (POINTS[..., 0] / 20) ** 2 + POINTS[..., 2] / 30
    void = (POINTS.norm(dim=-1)) < 2
    gradient = differences(smooth)
    gradient[:, void] = torch.randn((3, int(void.sum())), generator=torch.Generator().manual_seed(2))

    trusting = unwrapped_field(gradient, (1.0, 1.0, 1.0))
    careful = unwrapped_field(gradient, (1.0, 1.0, 1.0), void)

    near = ~void & (POINTS.norm(dim=-1) < 5)
    errors = [(found - smooth - (found - smooth).mean())[near].std() for found in (trusting, careful)]
    assert errors[1] < 0.3 * errors[0]


def test_no_brain_gives_an_empty_map():
    images = torch.ones((1, 8, 8, 8), dtype=torch.complex64)
    nothing = torch.zeros(8, 8, 8, dtype=torch.bool)

    chi = quantitative_susceptibility(images, (20.0,), TESLA, (1.0, 1.0, 1.0), AXIAL, nothing)

    assert torch.equal(chi, torch.zeros(8, 8, 8))
