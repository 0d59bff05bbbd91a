import socket

import numpy as np
import pytest
import torch

from cmb_autoseg.simulation.anatomy.head import Person, build_anatomy, draw_person
from cmb_autoseg.simulation.contents.draws import tissue_susceptibility
from cmb_autoseg.simulation.grids import Grid, resample_linear, smooth_field

CPU = torch.device("cpu")
AVERAGE = Person(60, "F")


def test_average_head_has_its_nuclei_where_mni_has_them(monkeypatch):
    def refuse(*_):
        pytest.fail("the template must come from the installed package, not from the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    from cmb_autoseg.simulation.anatomy.mni152 import load_mni152

    template = load_mni152()
    grid = Grid((61, 41, 41), (1.0, 1.0, 1.0), (-30.0, -24.0, -20.0))
    chi = tissue_susceptibility(build_anatomy(template, AVERAGE, grid, CPU))

    def at(x, y, z):
        return float(chi[x + 30, y + 24, z + 20])

    assert 1.2e6 < float(template.brain_maps[2].sum()) < 2.2e6  # mm3 of brain
    for side in (1, -1):
        assert at(19 * side, -4, -1) == pytest.approx(0.13, abs=0.03)  # pallidum
        assert at(19 * side, -4, -1) > at(26 * side, 2, 0) > at(14 * side, 10, -8) - 0.06


def test_people_differ_and_the_same_draw_is_the_same_person(phantom_template):
    grid = Grid((30, 30, 20), (2.0, 2.0, 2.0), (-30.0, -48.0, -10.0))
    one, again, other = (
        build_anatomy(phantom_template, draw_person(np.random.default_rng(seed)), grid, CPU) for seed in (1, 1, 2)
    )

    assert torch.equal(one.grey, again.grey)
    assert (one.grey - other.grey).abs().mean() > 0.01


def test_a_shift_moves_the_head_by_that_much(phantom_template):
    moved = Person(60, "F", shift_mm=(0, 4.0, 0))
    grid = Grid((40, 50, 30), (2.0, 2.0, 2.0), (-40.0, -60.0, -20.0))
    centres = []
    for person in (AVERAGE, moved):
        brain = build_anatomy(phantom_template, person, grid, CPU).brain
        centres.append(grid.to_mm(torch.nonzero(brain > 0.5).numpy()).mean(axis=0))

    np.testing.assert_allclose(centres[1] - centres[0], (0, 4, 0), atol=0.2)


def test_spline_of_equal_coefficients_is_flat_and_linear_maps_resample_exactly():
    assert torch.allclose(smooth_field(torch.full((5, 4, 6), 3.0), (11, 7, 9)), torch.tensor(3.0))
    source, target = (
        Grid((6, 5, 4), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0)),
        Grid((7, 4, 3), (0.7, 1.1, 1.3), (1.0, 2.0, 0.5)),
    )

    def ramp(grid):
        x, y, z = grid.axes_mm(CPU)
        return (2 * x)[:, None, None] - y[None, :, None] + (0.5 * z)[None, None]

    assert torch.allclose(resample_linear(ramp(source), source, target), ramp(target))
