import socket
from dataclasses import replace

import numpy as np
import pytest
import torch

from cmb_autoseg.simulation.anatomy.head import build_head
from cmb_autoseg.simulation.anatomy.person import Person, draw_person

CPU = torch.device("cpu")
AVERAGE = Person(60, "F")


def test_average_head_has_its_nuclei_where_mni_has_them(monkeypatch, tiny):
    def refuse(*_):
        pytest.fail("the template must come from the installed package, not from the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    from cmb_autoseg.simulation.anatomy.mni152 import load_mni152

    head = build_head(load_mni152(), AVERAGE, tiny, CPU, spacing_mm=2.0)

    def iron_at(x, y, z):
        near = (head.mni_mm - torch.tensor([x, y, z]).reshape(3, 1, 1, 1)).norm(dim=0)
        return float(head.iron_ppm[near < 2.5].max())

    for side in (1.0, -1.0):
        assert iron_at(19 * side, -4.0, -1.0) == pytest.approx(0.11, abs=0.03)  # pallidum above grey matter
        assert iron_at(19 * side, -4.0, -1.0) > iron_at(27 * side, 4.0, 1.0) > iron_at(30 * side, 30.0, 30.0)


def test_people_differ_and_the_same_draw_is_the_same_person(phantom_template, tiny):
    one, again, other = (
        build_head(phantom_template, draw_person(np.random.default_rng(seed)), tiny, CPU, 2.0) for seed in (1, 1, 2)
    )

    assert torch.equal(one.grey, again.grey)
    assert abs(float(one.grey.sum() - other.grey.sum())) > 20


def test_a_shift_moves_the_head_by_that_much(phantom_template, tiny):
    centres = []
    for person in (AVERAGE, replace(AVERAGE, shift_mm=(0, 4.0, 0))):
        head = build_head(phantom_template, person, tiny, CPU, 2.0)
        centres.append(head.grid.to_mm(torch.nonzero(head.brain > 0.5).numpy()).mean(axis=0))

    np.testing.assert_allclose(centres[1] - centres[0], (0, 4, 0), atol=0.2)


def test_pull_widens_ventricles_and_atrophy_shrinks_tissue(phantom_template, tiny):
    usual, wide, shrunk = (
        build_head(phantom_template, person, tiny, CPU, 2.0)
        for person in (AVERAGE, replace(AVERAGE, ventricle_pull_mm=4.0), replace(AVERAGE, atrophy=1.5))
    )

    def tissue(head):
        return float((head.grey + head.white).sum())

    assert int(wide.landmarks["ventricles"].sum()) > 1.2 * int(usual.landmarks["ventricles"].sum()) > 0
    assert tissue(shrunk) < 0.98 * tissue(usual)  # the phantom has hard edges, where little can give way
    assert float(shrunk.brain.sum()) == pytest.approx(float(usual.brain.sum()))
