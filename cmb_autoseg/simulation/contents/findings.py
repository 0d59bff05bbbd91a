"""Rare findings that bleed or once bled: cavernoma, superficial siderosis, remains of a haemorrhage."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.simulation.contents.microbleeds import Aetiology, Habits
from cmb_autoseg.simulation.contents.sources import Inclusion, Kind, Region, Sphere
from cmb_autoseg.simulation.contents.surroundings import Surroundings
from cmb_autoseg.simulation.contents.visibility import dilated

__all__ = ["draw_findings"]

SIDEROSIS_MM = (8.0, 25.0)
"""Length of sulcus that a patch of siderosis lines."""
SLIT_STEP_MM = 1.6
"""Distance of the balls that the remains of a haemorrhage are filled with."""


def draw_findings(
    rng: np.random.Generator,
    around: Surroundings,
    microbleeds: Sequence[Inclusion],
    aetiology: Aetiology | None,
    habits: Habits,
    apart_mm: float,
) -> list[Inclusion]:
    """Draw one person's rare findings, with all their parts at least `apart_mm` from each microbleed.

    Args:
        rng: of this person's mimics.
        around: where they may lie.
        microbleeds: which none may touch.
        aetiology: of the microbleeds; None in people without.
        habits: how often what occurs.
        apart_mm: from each microbleed's centre to the nearest part.
    """
    amyloid = aetiology is Aetiology.AMYLOID
    chances = (
        (_cavernoma, habits.cavernoma_share),
        (_siderosis, habits.siderosis_share * (3 if amyloid else 1)),
        (_haemorrhage, habits.haemorrhage_share if aetiology else 0.0),
    )
    findings = []
    for draw, chance in chances:
        if rng.random() < chance:
            finding = draw(rng, around)
            if finding and _clear(finding, microbleeds, apart_mm):
                findings.append(finding)
    return findings


def _clear(finding: Inclusion, microbleeds: Sequence[Inclusion], apart_mm: float) -> bool:
    centres = np.array([sphere.centre_mm for sphere in finding.spheres])
    return all(np.linalg.norm(centres - other.centre_mm, axis=1).min() >= apart_mm for other in microbleeds)


def _cavernoma(rng: np.random.Generator, around: Surroundings) -> Inclusion | None:
    """A popcorn: caverns of old blood of all ages, densest in haemosiderin at the rim."""
    centre = _in(rng, around, (around.white > 0.75) & (around.depth > 0.9) & around.in_view)
    if centre is None:
        return None
    half_mm = float(rng.uniform(2.5, 6.0))
    spheres = []
    for _ in range(int(rng.integers(10, 31))):
        offset = rng.normal(size=3)
        reach = half_mm * np.cbrt(rng.random())
        rim = reach > 0.7 * half_mm
        at = centre + offset / np.linalg.norm(offset) * reach
        spheres.append(
            _sphere(
                at,
                float(rng.uniform(0.12, 0.3)) * half_mm,
                float(rng.uniform(0.5, 1.2) if rim else rng.uniform(0.0, 0.5)),
            )
        )
    return Inclusion(Kind.CAVERNOMA, tuple(spheres), around.region_at(centre), "white matter")


def _siderosis(rng: np.random.Generator, around: Surroundings) -> Inclusion | None:
    """Haemosiderin on the surface of the cortex along one sulcus: many specks between fluid and grey."""
    lobar = around.regions[Region.LOBAR] & (around.brain > 0.5) & around.in_view
    lining = _lining(around) & lobar
    centre = _in(rng, around, lining & (around.mni_mm[2] > 0))
    if centre is None:
        return None
    points = around.grid.to_mm(np.argwhere(lining))
    near = points[np.linalg.norm(points - centre, axis=1) < float(rng.uniform(*SIDEROSIS_MM)) / 2]
    chosen = near[rng.permutation(len(near))[: int(rng.integers(80, 200))]]
    chi_ppm = float(rng.uniform(0.4, 1.0))
    spheres = tuple(
        _sphere(point + rng.uniform(-0.4, 0.4, 3), float(rng.uniform(0.25, 0.45)), chi_ppm) for point in chosen
    )
    return Inclusion(Kind.SIDEROSIS, spheres, Region.LOBAR, "sulcus")


def _lining(around: Surroundings) -> NDArray[np.bool_]:
    """Fluid of the sulci that borders on grey matter."""
    fluid = (around.fluid > 0.3) & ~around.ventricles
    return np.asarray(fluid & dilated(around.grey > 0.5))


def _haemorrhage(rng: np.random.Generator, around: Surroundings) -> Inclusion | None:
    """The remains of a haemorrhage: a slit lined with haemosiderin, in the outer capsule or a lobe."""
    x, y, z = np.abs(around.mni_mm[0]), around.mni_mm[1], around.mni_mm[2]
    outer_capsule = (x > 27) & (x < 33) & (np.abs(y) < 15) & (np.abs(z) < 10)
    solid = (around.white + around.grey > 0.75) & (around.depth > 0.9) & around.in_view
    deep = rng.random() < 0.6
    centre = _in(rng, around, solid & (outer_capsule if deep else around.regions[Region.LOBAR]))
    if centre is None:
        return None
    half_axes = np.array([rng.uniform(1.0, 2.0), rng.uniform(6.0, 11.0), rng.uniform(4.0, 8.0)])
    turn = float(rng.normal(0, 0.35))
    along = np.array([[np.cos(turn), np.sin(turn), 0], [-np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    chi_ppm = float(rng.uniform(0.2, 0.6))
    steps = [np.arange(-np.floor(half / SLIT_STEP_MM), half / SLIT_STEP_MM) * SLIT_STEP_MM for half in half_axes]
    offsets = np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 3)
    offsets = offsets[np.linalg.norm(offsets / half_axes, axis=1) <= rng.uniform(0.8, 1.2, len(offsets))]
    offsets = offsets + rng.normal(0, 0.2 * SLIT_STEP_MM, offsets.shape)
    spheres = [
        _sphere(centre + offset @ along, float(rng.uniform(0.5, 0.7)) * SLIT_STEP_MM, chi_ppm) for offset in offsets
    ]
    place = "outer capsule" if deep else "lobe"
    return Inclusion(Kind.HAEMORRHAGE, tuple(spheres), around.region_at(centre), place)


def _in(rng: np.random.Generator, around: Surroundings, where: NDArray[np.bool_]) -> NDArray[np.float64] | None:
    voxels = np.argwhere(where)
    if not len(voxels):
        return None
    return around.grid.to_mm(voxels[int(rng.integers(len(voxels)))] + rng.uniform(-0.5, 0.5, 3))


def _sphere(centre: NDArray[np.float64], radius_mm: float, chi_ppm: float) -> Sphere:
    x, y, z = (float(value) for value in centre)
    return Sphere((x, y, z), radius_mm, chi_ppm)
