"""Blocks and whole scans of one person."""

import numpy as np
import pytest

from cmb_autoseg.simulation import patches
from cmb_autoseg.simulation.protocols import PROTOCOLS
from cmb_autoseg.starter.simulated_blocks import scan_person, simulate_blocks


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
