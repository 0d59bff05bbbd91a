"""A hand-made head in MNI152's pose: ellipsoids for brain, white matter, ventricles and nuclei, slits for sulci."""

import numpy as np
import pytest
import torch

from cmb_autoseg.simulation.anatomy.head import Head
from cmb_autoseg.simulation.anatomy.person import Person
from cmb_autoseg.simulation.contents.surroundings import Surroundings, survey
from cmb_autoseg.simulation.grids import Grid, box_blur
from cmb_autoseg.simulation.protocols import Protocol

WHOLE = Protocol("whole", 3.0, (20.0,), (1.0, 1.0, 2.0), (160, 190, 80), (0.0, -18.0, 10.0), snr=30.0)


def ellipsoid(points, centre, semi_axes):
    return sum(((along - c) / a) ** 2 for along, c, a in zip(points, centre, semi_axes, strict=True)) < 1


def make_head() -> Head:
    grid = Grid((84, 100, 76), (2.0, 2.0, 2.0), (-83.0, -117.0, -65.0))
    points = torch.stack(torch.meshgrid(*[axis.float() for axis in grid.axes_mm(torch.device("cpu"))], indexing="ij"))
    x, y, z = points
    mirrored = (x.abs(), y, z)
    brain = ellipsoid(points, (0, -18, 10), (66, 84, 62))
    rim = ellipsoid(points, (0, -18, 10), (70, 88, 66))
    ventricles = ellipsoid(mirrored, (14, -14, 14), (8, 36, 9))
    nuclei = ellipsoid(mirrored, (20, -4, 0), (7, 10, 7))
    inner = ellipsoid(points, (0, -18, 10), (61, 79, 57))
    folds = ((y / 12) % 1 < 0.18) & ~ellipsoid(points, (0, -18, 10), (50, 68, 46))
    fluid = ((folds & rim) | (rim & ~brain) | ventricles) & ~nuclei
    white = brain & inner & ~fluid & ~nuclei
    grey = brain & ~fluid & ~white
    below = (z < -20) & (y < -8) & brain
    deep = ellipsoid(points, (0, -4, 5), (31, 27, 18)) & brain & ~below
    regions = torch.where(below, 3, torch.where(deep, 2, brain.int())).to(torch.uint8)
    zero = torch.zeros(grid.shape)
    return Head(
        grid,
        grey.float(),
        white.float(),
        fluid.float(),
        bone=zero,
        soft=zero,
        air=zero,
        blood=((x.abs() < 3) & (z > 40) & rim & ~brain).float(),
        brain=brain.float(),
        depth=box_blur(box_blur(brain.float(), 5), 5),
        iron_ppm=nuclei * 0.1,
        nuclei=nuclei.float(),
        mni_mm=points,
        regions=regions,
        landmarks={
            "ventricles": ventricles & ~nuclei,
            "pallidum": nuclei,
            "choroid plexus": ellipsoid(mirrored, (16, -42, 12), (4, 6, 4)),
            "pineal": ellipsoid(points, (0, -31, 1), (3, 3, 3)),
            "falx": (x.abs() < 2) & (z > 40) & brain,
        },
    )


@pytest.fixture(scope="session")
def whole() -> Protocol:
    return WHOLE


@pytest.fixture(scope="session")
def head() -> Head:
    return make_head()


@pytest.fixture(scope="session")
def around(head: Head, whole: Protocol) -> Surroundings:
    return survey(head, whole)


@pytest.fixture
def person() -> Person:
    return Person(age=70, sex="F")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(4)
