"""Venous trees: deep, medullary, cortical and cerebellar veins that end in the sinuses of the dura.

Courses of the named veins are in MNI152 millimetres, set by hand to where they run by textbook
anatomy; all others grow by `drainage`.
"""

from __future__ import annotations

import numpy as np

from cmb_autoseg.simulation.contents.drainage import Tree, descent_in, halved, random_speed, resampled
from cmb_autoseg.simulation.contents.sources import Kind, Tube
from cmb_autoseg.simulation.contents.surroundings import Surroundings
from cmb_autoseg.simulation.contents.vessels import (
    Branch,
    Course,
    Family,
    NamedVessel,
    add_named,
    grow,
    spread,
    touched,
    with_calibre,
)

__all__ = ["draw_veins"]

CHI_PPM = (0.19, 0.45)
"""Venous blood above tissue; one person's oxygenation sets all veins, with little spread."""
RADIUS_MM = (0.1, 1.6)


GALEN = (0.0, -40.0, 6.0)
FORAMEN = (3.0, -3.0, 13.0)
"""Where the internal cerebral vein begins."""

NAMED = (
    NamedVessel("straight sinus", (GALEN, (0, -48, 8), (0, -58, 2), (0, -70, -8), (0, -84, -14)), 1.3, False),
    NamedVessel("internal cerebral vein", (FORAMEN, (2.6, -12, 16.5), (2.6, -24, 15), (2, -34, 9.5), GALEN), 0.7),
    NamedVessel(
        "thalamostriate vein",
        ((27, -38, 19), (24, -31, 23), (21, -21, 23), (19, -9, 20.5), (16, 0, 18), (11, 1, 15.5), (6, -1, 14),
         FORAMEN),
        0.3,
    ),
    NamedVessel("anterior caudate vein", ((17, 27, 9), (18, 19, 16), (19, 10, 20), (16, 0, 18)), 0.22),
    NamedVessel("septal vein", ((9, 28, 8), (5, 25, 9), (2.6, 18, 14), (2.6, 7, 15), FORAMEN), 0.3),
    NamedVessel(
        "medial atrial vein",
        ((28, -60, 12), (27, -50, 15), (22, -43, 15), (14, -38, 13), (6, -36, 9), (2, -34, 9.5)),
        0.3,
    ),
    NamedVessel(
        "basal vein",
        ((16, 2, -18), (15, -7, -17), (18, -17, -12), (17, -26, -6), (11, -34, -1), (4, -38, 3), GALEN),
        0.5,
    ),
    NamedVessel("inferior ventricular vein", ((36, -10, -16), (35, -24, -7), (30, -32, -3), (20, -27, -6)), 0.2),
)  # fmt: skip
"""Those that others end on come first; an end joins the nearest earlier course."""

SINUSES_MNI: tuple[Course, ...] = (
    ((0, 68, 20), (0, 52, 46), (0, 24, 67), (0, -8, 79), (0, -40, 79), (0, -68, 64), (0, -92, 34), (0, -104, 2)),
    ((0, -100, -14), (22, -96, -18), (44, -80, -24), (56, -58, -30), (52, -42, -38)),
    ((0, -100, -14), (-22, -96, -18), (-44, -80, -24), (-56, -58, -30), (-52, -42, -38)),
    ((34, 12, -22), (50, 8, -14), (56, -4, 2), (58, -20, 12)),
    ((-34, 12, -22), (-50, 8, -14), (-56, -4, 2), (-58, -20, 12)),
)
"""Superior sagittal sinus, transverse sinuses, and the superficial middle cerebral veins over the Sylvian fissure."""


MEDULLARY = Family("medullary", (95, 130), (0.12, 0.24), 0.3, 70.0)
STRIATE = Family("deep", (12, 20), (0.12, 0.22), 0.4, 60.0)
CORTICAL = Family("cortical", (125, 165), (0.2, 0.5), 0.55, 110.0)
SUBCORTICAL = Family("subcortical", (45, 70), (0.12, 0.22), 0.4, 60.0)
CEREBELLAR = Family("cerebellar", (28, 42), (0.16, 0.38), 0.5, 80.0)


def draw_veins(rng: np.random.Generator, around: Surroundings) -> list[Tube]:
    """Draw all veins of one person, about 300 branches of 6 to 12 metres in all."""
    oxygenation_ppm = float(rng.uniform(0.22, 0.42))
    veins = _deep_system(rng, around) + _superficial_system(rng, around)
    return [
        Tube(Kind.VEIN, points, radii, float(np.clip(oxygenation_ppm * rng.normal(1, 0.06), *CHI_PPM)), family)
        for points, radii, family in veins
    ]


def _deep_system(rng: np.random.Generator, around: Surroundings) -> list[Branch]:
    """Named deep veins, and what drains to them along the walls of the ventricles."""
    tree = Tree(around.grid)
    tips, families = add_named(rng, around, tree, NAMED, "deep")
    ventricles = halved(around.ventricles)
    sinks = touched(tree.courses[1:], around, ventricles.shape)
    white, grey, nuclei = halved(around.white), halved(around.grey), halved(around.nuclei)
    wall = (spread(ventricles) > 0) & (ventricles < 0.6)
    speed = 0.04 + 0.9 * white + 0.25 * grey + 0.4 * nuclei
    speed = np.where(ventricles > 0.6, 0.1, speed * np.where(wall, 3.0, 1.0))
    descent = descent_in(around, (speed * random_speed(rng, speed.shape, 0.25)).astype(np.float32), sinks)
    away = spread(spread(spread(ventricles))) == 0
    deep = halved(around.depth) > 0.9
    homes = {
        MEDULLARY: np.where(deep & away & (white > 0.7), np.exp(-descent.time / 40), 0),
        STRIATE: ((nuclei > 0.5) & away).astype(np.float64),
    }
    grow(rng, tree, tips, families, descent, homes)
    return with_calibre(rng, tree, tips, families, RADIUS_MM)


def _superficial_system(rng: np.random.Generator, around: Surroundings) -> list[Branch]:
    """Veins on the surface of the brain and those that reach it through the cortex."""
    tree = Tree(around.grid)
    fluid, grey, white = halved(around.fluid), halved(around.grey), halved(around.white)
    ventricles, brain, depth = halved(around.ventricles), halved(around.brain), halved(around.depth)
    sinks = halved(around.blood) > 0.4
    if not sinks.any():
        courses = [resampled(around.from_mni(np.array(course, dtype=np.float64))) for course in SINUSES_MNI]
        sinks = touched(courses, around, sinks.shape)
    speed = 0.06 + fluid + 0.12 * grey + 0.06 * white + 0.3 * (brain < 0.3)
    speed = np.where(spread(ventricles) > 0, 0.03, speed)
    descent = descent_in(around, (speed * random_speed(rng, speed.shape, 0.35)).astype(np.float32), sinks)
    y, z = halved(around.mni_mm[1]), halved(around.mni_mm[2])
    below = (y < -32) & (z < -18)
    sulci = (fluid > 0.25) & (brain > 0.5) & (ventricles == 0) & (spread(ventricles) == 0)
    shallow = (white > 0.7) & (depth < 0.97)
    homes = {
        # Veins from deep inside the sulci come first and get the tributaries.
        CORTICAL: (sulci & ~below) * (0.3 + depth),
        CEREBELLAR: ((sulci | (grey > 0.7)) & below & (brain > 0.5)).astype(np.float64),
        SUBCORTICAL: (shallow & ~below & (brain > 0.9)).astype(np.float64),
    }
    tips: list[float] = []
    families: list[str] = []
    grow(rng, tree, tips, families, descent, homes)
    return with_calibre(rng, tree, tips, families, RADIUS_MM)
