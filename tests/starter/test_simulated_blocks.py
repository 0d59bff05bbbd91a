"""Blocks and whole scans of one person."""

import numpy as np
import pytest
import torch

from cmb_autoseg.simulation import patches
from cmb_autoseg.simulation.protocols import PROTOCOLS
from cmb_autoseg.starter.simulated_blocks import _head_of, scan_person, simulate_blocks, stripped_mask


class SimulatedError(Exception):
    """Instead of a head, which takes half a minute."""


def test_a_whole_scan_is_of_the_head_that_the_blocks_are_of(monkeypatch):
    drawn = []

    def simulate_head(template, protocol, rng, lesion_free, *_):
        drawn.append((template, protocol.tilt_deg, lesion_free, rng.bit_generator.state["state"]))
        raise SimulatedError

    monkeypatch.setattr(patches, "simulate_head", simulate_head)
    templates = ["first", "second", "third"]
    for person in range(4):
        with pytest.raises(SimulatedError):
            next(simulate_blocks(templates, 0, person))
        with pytest.raises(SimulatedError):
            scan_person(templates, 0, person, PROTOCOLS["adni_gre"], ["mag"])
    blocks, scans = drawn[::2], drawn[1::2]
    assert blocks == scans
    assert len(np.unique([tilt for _, tilt, _, _ in blocks])) == 8


def test_the_head_holds_the_brain_and_what_is_around_it_but_not_the_air():
    """A block at the edge of a head: brain up to row 30, dark skull of 6 mm, bright scalp of 6 mm, then air."""
    magnitude = torch.full((70, 60, 30), 0.02)
    magnitude[:30] = 1.0
    magnitude[36:42] = 1.2
    brain = torch.zeros(magnitude.shape, dtype=torch.bool)
    brain[:30] = True
    head = _head_of(magnitude, brain, (1.0, 1.0, 1.5))
    assert head[:32].all()
    assert not head[50:].any()
    nothing_but_brain = torch.ones(20, 20, 10)
    assert _head_of(nothing_but_brain, nothing_but_brain > 0, (1.0, 1.0, 1.5)).all()


def test_a_mask_has_no_fissures_holes_and_specks():
    brain = np.zeros((40, 40, 20), dtype=bool)
    brain[:30] = True
    smooth = brain.copy()
    brain[10:12] = False  # a fissure that goes on beyond the block
    brain[20, 20, 10] = False
    brain[36, 20, 10] = True
    assert np.array_equal(stripped_mask(brain, (1.0, 1.0, 1.5)), smooth)
