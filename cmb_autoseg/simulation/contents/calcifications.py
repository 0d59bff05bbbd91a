"""Calcifications: diamagnetic, hold little water, and look like microbleeds on magnitude images."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.simulation.anatomy.person import Person
from cmb_autoseg.simulation.contents.microbleeds import Habits, cluster
from cmb_autoseg.simulation.contents.sources import Inclusion, Kind
from cmb_autoseg.simulation.contents.surroundings import Surroundings

__all__ = ["draw_calcifications"]

WATER = 0.2
"""Share of the water signal that is left in calcified tissue."""
CHI_PPM = (-3.0, -0.5)
PINEAL_MNI = (0.0, -31.0, 1.0)
FALX_MNI = ((0.0, 20.0, 55.0), (0.0, -55.0, 60.0))
"""From front to back along the falx above the corpus callosum."""
ATRIUM_MNI = (25.0, -40.0, 10.0)
"""Where the choroid plexus of the right side is thickest."""
GROWTH_PER_YEAR = 0.02
"""Relative growth of the chance of a calcification with age about 70 years."""


def draw_calcifications(
    rng: np.random.Generator,
    around: Surroundings,
    person: Person,
    microbleeds: Sequence[Inclusion],
    habits: Habits,
    apart_mm: float,
) -> list[Inclusion]:
    """Draw one person's calcifications, all at least `apart_mm` from each microbleed."""
    found: list[Inclusion] = []
    for place, share in habits.calcified_shares.items():
        chance = share * max(0.1, 1 + GROWTH_PER_YEAR * (person.age - 70))
        if rng.random() < chance:
            found += _PLACES[place](rng, around)
    return [
        speck
        for speck in found
        if all(np.linalg.norm(np.subtract(speck.centre_mm, other.centre_mm)) >= apart_mm for other in microbleeds)
    ]


def _speck(
    rng: np.random.Generator,
    around: Surroundings,
    centre_mm: NDArray[np.float64],
    radius_mm: float,
    parts: int,
    place: str,
) -> Inclusion:
    spheres = cluster(rng, centre_mm, 4 / 3 * np.pi * radius_mm**3, float(rng.uniform(*CHI_PPM)), parts)
    return Inclusion(Kind.CALCIFICATION, spheres, around.region_at(centre_mm), place, water=WATER)


def _pallidum(rng: np.random.Generator, around: Surroundings) -> list[Inclusion]:
    """Both sides in most people, several specks a side, more of them towards the middle."""
    voxels = np.argwhere(around.landmarks["pallidum"]) if "pallidum" in around.landmarks else np.zeros((0, 3), int)
    left = around.mni_mm[0][tuple(voxels.T)] < 0
    sides = [voxels[left], voxels[~left]]
    if rng.random() < 0.25:
        sides = sides[:: int(rng.choice([-1, 1]))][:1]
    specks = []
    for side in sides:
        for _ in range(int(rng.integers(1, 5)) if len(side) else 0):
            # The mean of two voxels of a convex body lies inside, near its middle more often than not.
            centre = around.grid.to_mm(side[rng.integers(len(side), size=2)].mean(axis=0))
            radius = float(rng.uniform(0.35, 0.9))
            specks.append(_speck(rng, around, centre, radius, int(rng.integers(1, 6)), "pallidum"))
    return specks


def _choroid_plexus(rng: np.random.Generator, around: Surroundings) -> list[Inclusion]:
    voxels = np.argwhere(around.landmarks.get("choroid plexus", np.zeros(around.grid.shape, dtype=bool)))
    specks = []
    for side in (-1, 1):
        atrium = around.from_mni(np.array([ATRIUM_MNI]) * (side, 1, 1))
        centres = around.grid.to_mm(voxels) if len(voxels) else atrium
        near = np.linalg.norm(centres - atrium, axis=1)
        centres = centres[near <= max(10.0, float(near.min()))]
        for _ in range(int(rng.integers(1, 4))):
            centre = centres[int(rng.integers(len(centres)))] + rng.uniform(-0.5, 0.5, 3)
            radius = float(rng.uniform(0.4, 1.2))
            specks.append(_speck(rng, around, centre, radius, int(rng.integers(3, 9)), "choroid plexus"))
    return specks


def _pineal(rng: np.random.Generator, around: Surroundings) -> list[Inclusion]:
    where = around.landmarks.get("pineal")
    if where is not None and where.any():
        centre = around.grid.to_mm(np.argwhere(where)).mean(axis=0)
    else:
        centre = around.from_mni(np.array([PINEAL_MNI]))[0]
    radius = float(rng.uniform(0.8, 1.9))
    return [_speck(rng, around, centre + rng.normal(0, 0.7, 3), radius, int(rng.integers(4, 12)), "pineal")]


def _falx(rng: np.random.Generator, around: Surroundings) -> list[Inclusion]:
    """A flat plaque: a short row of specks along the falx."""
    start, end = around.from_mni(np.array(FALX_MNI))
    specks = []
    for _ in range(int(rng.integers(1, 4))):
        centre = start + rng.random() * (end - start) + rng.normal(0, (0.3, 2.0, 3.0))
        radius = float(rng.uniform(0.6, 1.5))
        specks.append(_speck(rng, around, centre, radius, int(rng.integers(3, 9)), "falx"))
    return specks


def _parenchyma(rng: np.random.Generator, around: Surroundings) -> list[Inclusion]:
    """The rest of an old infection or bleed, anywhere in the brain."""
    voxels = np.argwhere((around.white + around.grey > 0.75) & (around.depth > 0.8) & around.in_view)
    if not len(voxels):
        return []
    centre = around.grid.to_mm(voxels[int(rng.integers(len(voxels)))] + rng.uniform(-0.5, 0.5, 3))
    return [_speck(rng, around, centre, float(rng.uniform(0.4, 1.0)), int(rng.integers(1, 4)), "parenchyma")]


_PLACES = {
    "pallidum": _pallidum,
    "choroid plexus": _choroid_plexus,
    "pineal": _pineal,
    "falx": _falx,
    "parenchyma": _parenchyma,
}
