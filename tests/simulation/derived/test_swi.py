import math

import pytest
import torch

from cmb_autoseg.simulation.derived.swi import (
    high_passed_phase,
    minimum_intensity_projection,
    susceptibility_weighted,
)

SPACING_MM = (1.0, 1.0, 2.0)


def image_with(phase):
    return torch.polar(torch.full_like(phase, 3.0), phase)


def two_points():
    phase = torch.zeros(32, 32, 3)
    phase[16, 16, 1], phase[8, 8, 1] = 1.2, -1.2
    return phase


def test_swi_darkens_the_paramagnetic_sign_only():
    swi = susceptibility_weighted(image_with(two_points()), SPACING_MM)

    assert swi[16, 16, 1] == pytest.approx(3 * (1 - 1.2 / math.pi) ** 4, abs=0.15)
    assert swi[8, 8, 1] == pytest.approx(3, abs=0.03)


def test_a_slow_background_and_its_wraps_leave_no_trace_in_swi():
    x = torch.linspace(0, 5 * math.pi, 128)[:, None, None].expand(128, 96, 2)
    fine = torch.zeros(128, 96, 2)
    fine[60:62, 40:42] = 1.0

    found = high_passed_phase(image_with(x + fine), SPACING_MM)[8:-8]
    alone = high_passed_phase(image_with(fine), SPACING_MM)[8:-8]

    assert (found - alone).abs().max() < 0.12
    assert alone.max() > 0.75


def test_the_high_pass_is_set_in_millimetres():
    fine = torch.zeros(64, 64, 1)
    fine[28:36, 28:36] = 1.0
    finer = fine.repeat_interleave(2, 0).repeat_interleave(2, 1)

    coarse_phase = high_passed_phase(image_with(fine), (1.0, 1.0, 2.0))
    fine_phase = high_passed_phase(image_with(finer), (0.5, 0.5, 2.0))

    assert coarse_phase[31, 31, 0] == pytest.approx(float(fine_phase[62:64, 62:64, 0].mean()), abs=0.02)


def test_sliding_projection_keeps_shape_and_cuts_its_window_at_the_ends():
    swi = torch.tensor([5.0, 1.0, 7.0, 8.0, 9.0, 2.0]).reshape(1, 1, 6)

    assert minimum_intensity_projection(swi, 4).flatten().tolist() == [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]
    assert minimum_intensity_projection(swi, 3).flatten().tolist() == [1.0, 1.0, 1.0, 7.0, 2.0, 2.0]
    assert torch.equal(minimum_intensity_projection(swi, 1), swi)
    assert minimum_intensity_projection(swi, 20).flatten().tolist() == [1.0] * 6


def test_a_projection_over_no_slices_is_refused():
    with pytest.raises(ValueError, match="at least 1 slice, not 0"):
        minimum_intensity_projection(torch.zeros(2, 2, 2), 0)
