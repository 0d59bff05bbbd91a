"""A small ellipsoidal brain and a protocol that scans it in under a second."""

import numpy as np
import pytest
import torch

from cmb_autoseg.simulation.anatomy.average_head import template_from_brain_maps
from cmb_autoseg.simulation.anatomy.template import Template
from cmb_autoseg.simulation.grids import Grid
from cmb_autoseg.simulation.protocols import PROTOCOLS, Protocol

TINY = Protocol("tiny", 3.0, (20.0,), (1.0, 1.0, 2.0), (64, 68, 18), (0.0, -18.0, 10.0), snr=30.0)


@pytest.fixture(scope="session")
def tiny() -> Protocol:
    return TINY


def make_phantom_template() -> Template:
    """Grey shell about white matter about a ventricle, semi-axes 28 x 30 x 18 mm."""
    grid = Grid((45, 45, 45), (2.0, 2.0, 2.0), (-44.0, -62.0, -34.0))
    x, y, z = np.meshgrid(*[axis.numpy() for axis in grid.axes_mm(torch.device("cpu"))], indexing="ij")
    radius = np.sqrt((x / 28) ** 2 + ((y + 18) / 30) ** 2 + ((z - 10) / 18) ** 2)
    brain = radius < 1
    ventricle = radius < 0.2
    white = (radius < 0.7) & ~ventricle
    grey = brain & ~white & ~ventricle
    return template_from_brain_maps(torch.from_numpy(np.stack([grey, white, brain]).astype(np.float32)), grid)


@pytest.fixture(scope="session")
def phantom_template() -> Template:
    return make_phantom_template()


def draw_few_vessels(patch: pytest.MonkeyPatch) -> None:
    """Leave one vessel in twelve: they take most of the time of a small scan."""
    from cmb_autoseg.simulation.contents import draw

    for name in ("draw_veins", "draw_arteries"):
        every = getattr(draw, name)
        patch.setattr(draw, name, lambda *arguments, every=every: every(*arguments)[::12])


@pytest.fixture
def few_vessels(monkeypatch: pytest.MonkeyPatch) -> None:
    draw_few_vessels(monkeypatch)


@pytest.fixture
def tiny_command(monkeypatch: pytest.MonkeyPatch, phantom_template: Template) -> None:
    """`cmb_simulate --protocol tiny` with the phantom instead of MNI152, and few vessels."""
    draw_few_vessels(monkeypatch)
    monkeypatch.setattr("cmb_autoseg.simulation.anatomy.mni152.load_mni152", lambda: phantom_template)
    monkeypatch.setitem(PROTOCOLS, "tiny", TINY)
