"""Arteries: the circle of Willis, its large branches and small ones in the sulci.

Arterial blood has nearly the tissue's susceptibility; fast flow leaves a void (or inflow a bright
spot), which mimics a microbleed where the vessel is cut across. Courses of the named arteries run
against the blood, towards the heart, in MNI152 millimetres.
"""

from __future__ import annotations

import numpy as np

from cmb_autoseg.simulation.contents.drainage import Tree, descent_in, halved, random_speed
from cmb_autoseg.simulation.contents.sources import Kind, Tube
from cmb_autoseg.simulation.contents.surroundings import Surroundings
from cmb_autoseg.simulation.contents.vessels import Family, NamedVessel, add_named, grow, spread, touched, with_calibre

__all__ = ["draw_arteries"]

CHI_PPM = 0.0
RADIUS_MM = (0.1, 1.8)
CAROTID = (11.0, 6.0, -18.0)
"""Where the internal carotid artery ends."""
BASILAR = (0.0, -18.0, -18.0)

NAMED = (
    NamedVessel("internal carotid artery", (CAROTID, (13, 2, -24), (11, 8, -30), (14, 0, -38)), 1.6),
    NamedVessel("basilar artery", (BASILAR, (0, -21, -28), (1, -23, -38), (0, -24, -48)), 1.4, False),
    NamedVessel(
        "middle cerebral artery",
        ((42, -28, 14), (43, -14, 6), (41, -2, -3), (36, 6, -14), (26, 7, -19), CAROTID),
        0.7,
    ),
    NamedVessel(
        "anterior cerebral artery",
        ((2, -30, 44), (2, -2, 40), (2, 24, 28), (2, 37, 8), (2, 27, -8), (3, 14, -17), CAROTID),
        0.5,
    ),
    NamedVessel(
        "posterior cerebral artery",
        ((14, -72, 6), (15, -54, 2), (21, -38, -4), (20, -24, -12), (10, -15, -17), BASILAR),
        0.5,
    ),
    NamedVessel("posterior communicating artery", ((10, -15, -17), (11, -4, -18), CAROTID), 0.4),
    NamedVessel("superior cerebellar artery", ((26, -52, -22), (22, -38, -22), (14, -26, -22), BASILAR), 0.4),
)  # fmt: skip

PIAL = Family("pial", (60, 85), (0.12, 0.3), 0.6, 110.0)


def draw_arteries(rng: np.random.Generator, around: Surroundings) -> list[Tube]:
    """Draw all arteries of one person."""
    tree = Tree(around.grid)
    tips, families = add_named(rng, around, tree, NAMED, "arterial")
    fluid, brain = halved(around.fluid), halved(around.brain)
    ventricles = spread(spread(halved(around.ventricles)))
    sulci = (fluid > 0.2) & (brain > 0.5) & (ventricles == 0)
    speed = np.where(ventricles > 0, 0.03, 0.05 + fluid)
    descent = descent_in(
        around,
        (speed * random_speed(rng, speed.shape, 0.4)).astype(np.float32),
        touched(tree.courses, around, speed.shape),
    )
    grow(rng, tree, tips, families, descent, {PIAL: sulci.astype(np.float64)})
    return [
        Tube(Kind.ARTERY, points, radii, CHI_PPM, family)
        for points, radii, family in with_calibre(rng, tree, tips, families, RADIUS_MM)
    ]
