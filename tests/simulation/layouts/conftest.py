"""Layouts are tested on scans that are made up rather than simulated: a bright ball with dark spots."""

import numpy as np
import pytest
import torch

from cmb_autoseg.simulation import cohort
from cmb_autoseg.simulation.anatomy.person import Person
from cmb_autoseg.simulation.anatomy.template import Template
from cmb_autoseg.simulation.contents.sources import Contents, Inclusion, Kind, Region, Sphere, Tube
from cmb_autoseg.simulation.contents.visibility import Mark
from cmb_autoseg.simulation.grids import Grid
from cmb_autoseg.simulation.protocols import PROTOCOLS, Protocol
from cmb_autoseg.simulation.scan import SimulatedScan

FLAT = Protocol("flat", 3.0, (9.0, 20.0), (0.9, 1.1, 2.0), (30, 34, 12), (0.0, -18.0, 10.0), snr=20.0)
OBLIQUE = Protocol(
    "oblique", 1.5, (25.0,), (1.0, 1.0, 3.0), (28, 30, 10), (2.0, -18.0, 8.0), snr=20.0, tilt_deg=(-18.0, 6.0), site=2
)
LESIONS = (((14, 10, 4), (15, 10, 4), (14, 11, 5)), ((20, 22, 6), (20, 23, 6)))
"""Voxels of two microbleeds that can be seen; a third cannot."""


def made_up_scan(protocol: Protocol, seed: int, index: int, lesion_free: bool, misalign: bool) -> SimulatedScan:
    rng = np.random.default_rng([seed, index])
    shape, spacing = protocol.matrix, protocol.spacing_mm
    origin = tuple(c - (n - 1) / 2 * s for c, n, s in zip(protocol.centre_mm, shape, spacing, strict=True))
    grid = Grid(shape, spacing, origin)
    axes = [np.linspace(-1, 1, n) for n in shape]
    brain = sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")) < 0.9
    echoes = len(protocol.echo_times_ms)
    mag = (400 * brain[..., None] + rng.uniform(0, 40, (*shape, echoes))).astype(np.float32)
    lesions, marks = [], []
    for voxels in () if lesion_free else (*LESIONS, ((8, 14, 3),)):
        at = np.array(voxels)
        centre = tuple(map(float, grid.to_mm(at).mean(axis=0) + 0.2))
        lesion = Inclusion(Kind.MICROBLEED, (Sphere(centre, 0.6, 1.1),), Region.LOBAR, "grey-white border")
        seen = at if len(at) > 1 else at[:0]
        mag[tuple(seen.T)] *= 0.3
        lesions.append(lesion)
        marks.append(Mark(lesion, seen, at, 0.7, 9.0 if len(seen) else 1.0))
    points = np.array([[-10.0, -30.0, 5.0], [10.0, -20.0, 9.0]])
    contents = Contents(
        lesions,
        [Inclusion(Kind.CALCIFICATION, (Sphere((18.0, -4.0, 0.0), 1.0, -1.0),), Region.DEEP, "pallidum")],
        [Tube(Kind.VEIN, points, np.array([0.5, 0.4]), 0.4, "medullary")],
    )
    without = 400.0 * brain.astype(np.float32)
    with_lesions = without.copy()
    for mark in marks:
        with_lesions[tuple(mark.voxels.T)] *= 0.3
    swi = mag[..., -1] * 0.9
    shift = np.eye(4)
    if misalign:
        shift[:3, 3] = 1.5, -2.0, 0.5
    images = {
        "mag": mag,
        "phase": rng.uniform(-np.pi, np.pi, (*shape, echoes)).astype(np.float32),
        "swi": swi,
        "minip": np.minimum(swi, np.roll(swi, 1, axis=2)),
        "qsm": rng.normal(0, 0.05, shape).astype(np.float32),
        "t1w": (300 * brain + rng.uniform(0, 30, shape)).astype(np.float32),
    }
    person = Person(age=70 + index, sex="FM"[index % 2])
    return SimulatedScan(person, protocol, grid, images, brain, marks, contents, 12.0, with_lesions, without, shift)


@pytest.fixture
def made_up(monkeypatch):
    """`cmb_simulate` with the protocols `flat` and `oblique`, which makes up scans within milliseconds."""

    def simulate(template, protocol, seed, index, lesion_free, device, habits, demographics, images, misalign):
        return made_up_scan(protocol, seed, index, lesion_free, misalign)

    monkeypatch.setattr(cohort, "simulate_person", simulate)
    head = Template(torch.zeros((8, 2, 2, 2), dtype=torch.uint8), Grid((2, 2, 2), (90.0,) * 3, (-45.0,) * 3))
    monkeypatch.setattr("cmb_autoseg.simulation.anatomy.mni152.load_mni152", lambda: head)
    for protocol in (FLAT, OBLIQUE):
        monkeypatch.setitem(PROTOCOLS, protocol.name, protocol)
