"""Microbleeds: how many a person has, where they lie and what they are made of.

Defaults follow Greenberg et al. 2009 (Lancet Neurol 8:165; regions by aetiology), the VALDO
challenge's training set (Sudre et al. 2024; counts and visible sizes), and are set so that what can
be *seen* has the published sizes: the iron core is much smaller than that.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.simulation.anatomy.person import Person
from cmb_autoseg.simulation.contents.sources import Inclusion, Kind, Region, Sphere, Tube
from cmb_autoseg.simulation.contents.surroundings import Surroundings, no_brain

__all__ = ["Aetiology", "Habits", "cluster", "draw_aetiology", "draw_core", "draw_count", "draw_microbleeds"]


class Aetiology(StrEnum):
    """What made a person's microbleeds."""

    AMYLOID = "amyloid"
    HYPERTENSIVE = "hypertensive"
    MIXED = "mixed"


def _region_shares() -> dict[Aetiology, dict[Region, float]]:
    return {
        Aetiology.AMYLOID: {Region.LOBAR: 1.0, Region.DEEP: 0.0, Region.INFRATENTORIAL: 0.0},
        Aetiology.HYPERTENSIVE: {Region.LOBAR: 0.0, Region.DEEP: 0.68, Region.INFRATENTORIAL: 0.32},
        Aetiology.MIXED: {Region.LOBAR: 0.6, Region.DEEP: 0.25, Region.INFRATENTORIAL: 0.15},
    }


@dataclass(frozen=True)
class Habits:
    """How often what occurs in people's heads besides tissue, and how large it is."""

    aetiology_shares: dict[Aetiology, float] = field(
        default_factory=lambda: {Aetiology.AMYLOID: 0.38, Aetiology.HYPERTENSIVE: 0.27, Aetiology.MIXED: 0.35}
    )
    region_shares: dict[Aetiology, dict[Region, float]] = field(default_factory=_region_shares)
    mean_count: float = 4.2
    """Of microbleeds in people who have any, at 70 years; the count is log-series distributed."""
    count_growth_per_year: float = 0.015
    """Relative growth of the mean count with age."""
    count_factors: dict[Aetiology, float] = field(
        default_factory=lambda: {Aetiology.AMYLOID: 1.15, Aetiology.HYPERTENSIVE: 0.75, Aetiology.MIXED: 1.1}
    )
    most: int = 40
    """No person has more microbleeds; without this limit, 3 in 1000 would."""
    radius_mm: float = 0.62
    """Median radius of a ball with the core's volume."""
    radius_spread: float = 0.25
    """Standard deviation of its logarithm; `chi_spread` likewise."""
    radius_limits_mm: tuple[float, float] = (0.25, 1.4)
    chi_ppm: float = 1.2
    """Median susceptibility of a core above the tissue around."""
    chi_spread: float = 0.5
    chi_limits_ppm: tuple[float, float] = (0.3, 3.0)
    part_shares: tuple[float, ...] = (0.35, 0.27, 0.19, 0.12, 0.07)
    """Chance that a core is made of 1, 2, ... spheres."""
    beside_vein_share: float = 0.15
    """Of the microbleeds, those put against the wall of a vein."""
    border_share: float = 0.35
    """Of the lobar ones, those put on the border of grey and white matter."""
    posterior_mm: float = 45.0
    """Amyloid microbleeds thin out by a factor e per so many millimetres towards the front."""
    apart_mm: float = 5.0
    """Least distance of two microbleeds, besides one slice's thickness; blooming rarely joins them."""
    touching_share: float = 0.03
    """Of the microbleeds, those that may lie nearer to another than that."""
    calcified_shares: dict[str, float] = field(
        default_factory=lambda: {
            "pallidum": 0.22,
            "choroid plexus": 0.55,
            "pineal": 0.6,
            "falx": 0.15,
            "parenchyma": 0.12,
        }
    )
    """Chance of calcifications by place, at 70 years."""
    cavernoma_share: float = 0.01
    siderosis_share: float = 0.03
    """Of people; three times as often in those with amyloid microbleeds."""
    haemorrhage_share: float = 0.03
    """Of people with microbleeds, those with the remains of a larger haemorrhage."""


def draw_aetiology(rng: np.random.Generator, habits: Habits) -> Aetiology:
    """Draw what makes a person's microbleeds."""
    kinds = list(habits.aetiology_shares)
    return kinds[int(rng.choice(len(kinds), p=_normalised(list(habits.aetiology_shares.values()))))]


def draw_count(rng: np.random.Generator, age: int, aetiology: Aetiology, habits: Habits) -> int:
    """Draw how many microbleeds a person has who has any.

    Log-series (Fisher 1943): most have one or two, few have dozens.
    """
    growth = max(0.2, 1 + habits.count_growth_per_year * (age - 70))
    mean = max(1.01, habits.mean_count * growth * habits.count_factors[aetiology])
    return min(int(rng.logseries(_log_series_parameter(mean))), habits.most)


def _log_series_parameter(mean: float) -> float:
    """The parameter p for which -p / ((1 - p) ln(1 - p)) is `mean`, by bisection."""
    low, high = 1e-6, 1 - 1e-9
    for _ in range(60):
        middle = (low + high) / 2
        if -middle / ((1 - middle) * np.log1p(-middle)) < mean:
            low = middle
        else:
            high = middle
    return low


def draw_microbleeds(
    rng: np.random.Generator,
    around: Surroundings,
    person: Person,
    aetiology: Aetiology,
    tubes: Sequence[Tube],
    habits: Habits,
    slice_mm: float,
) -> list[Inclusion]:
    """Draw one person's microbleeds; fewer than the count where there is no room for more.

    Args:
        rng: of this person's microbleeds.
        around: where they may lie.
        person: age counts.
        aetiology: sets regions and, mildly, the count.
        tubes: vessels; no core lies in one.
        habits: how many, where and how large.
        slice_mm: thickness of the scan's slices, over which blooming is smeared.

    Raises:
        InputError: no brain tissue in view could hold one.
    """
    count = draw_count(rng, person.age, aetiology, habits)
    places = _Places(around, tubes, aetiology, habits)
    microbleeds: list[Inclusion] = []
    for _ in range(30 * count):
        if len(microbleeds) == count:
            break
        region = places.draw_region(rng)
        centre, place = places.draw_point(rng, region)
        lesion = Inclusion(Kind.MICROBLEED, draw_core(rng, centre, habits), region, place)
        apart = 2 * lesion.radius_mm if rng.random() < habits.touching_share else habits.apart_mm + slice_mm
        clear = all(np.linalg.norm(centre - other.centre_mm) >= apart for other in microbleeds)
        if clear and places.clear_of_vessels(centre, lesion.radius_mm):
            microbleeds.append(lesion)
    return microbleeds


def draw_core(rng: np.random.Generator, centre_mm: NDArray[np.float64], habits: Habits) -> tuple[Sphere, ...]:
    """Draw the iron core of one microbleed about a point."""
    radius = _log_normal(rng, habits.radius_mm, habits.radius_spread, habits.radius_limits_mm)
    chi = _log_normal(rng, habits.chi_ppm, habits.chi_spread, habits.chi_limits_ppm)
    parts = 1 + int(rng.choice(len(habits.part_shares), p=_normalised(list(habits.part_shares))))
    return cluster(rng, centre_mm, 4 / 3 * np.pi * radius**3, chi, parts)


def cluster(
    rng: np.random.Generator, centre_mm: NDArray[np.float64], volume_mm3: float, chi_ppm: float, parts: int
) -> tuple[Sphere, ...]:
    """Spheres that touch or overlap by up to a fifth, in a random heap about a point.

    Their volumes add up to `volume_mm3`, their volumes times susceptibilities to `volume_mm3 * chi_ppm`.
    """
    volumes = rng.dirichlet(np.full(parts, 3.0)) * volume_mm3
    radii = np.cbrt(3 * volumes / (4 * np.pi))
    centres = np.zeros((parts, 3))
    for part in range(1, parts):
        other = int(rng.integers(part))
        direction = rng.normal(size=3)
        reach = (radii[part] + radii[other]) * rng.uniform(0.8, 1.0)
        centres[part] = centres[other] + direction / np.linalg.norm(direction) * reach
    centres += centre_mm - np.average(centres, axis=0, weights=volumes)
    chis = rng.uniform(0.8, 1.2, parts)
    chis *= chi_ppm * volume_mm3 / (chis * volumes).sum()
    return tuple(
        Sphere((float(x), float(y), float(z)), float(radius), float(chi))
        for (x, y, z), radius, chi in zip(centres, radii, chis, strict=True)
    )


class _Places:
    """Where one person's microbleeds may lie."""

    def __init__(self, around: Surroundings, tubes: Sequence[Tube], aetiology: Aetiology, habits: Habits) -> None:
        self._around, self._habits = around, habits
        home = ((around.grey + around.white) > 0.75) & (around.depth > 0.8) & (around.brain > 0.5) & around.in_view
        border = (np.minimum(around.grey, around.white) > 0.25) & (around.nuclei < 0.1)
        self._homes = {region: np.argwhere(home & where) for region, where in around.regions.items()}
        self._borders = np.argwhere(home & border & around.regions[Region.LOBAR])
        shares = {region: habits.region_shares[aetiology][region] for region in self._homes}
        possible = {region: share for region, share in shares.items() if len(self._homes[region]) >= 200}
        if not sum(possible.values()):
            # The slab shows none of the regions that this aetiology prefers.
            possible = {region: 1.0 for region, voxels in self._homes.items() if len(voxels)}
        if not possible:
            raise no_brain("this field of view")
        self._shares = possible
        self._posterior = aetiology is Aetiology.AMYLOID
        self._veins = [tube for tube in tubes if tube.kind is Kind.VEIN]
        self._points = np.concatenate([np.zeros((0, 3)), *[tube.points_mm for tube in tubes]])
        self._radii = np.concatenate([np.zeros(0), *[tube.radius_mm for tube in tubes]])
        self._home = home

    def draw_region(self, rng: np.random.Generator) -> Region:
        return list(self._shares)[int(rng.choice(len(self._shares), p=_normalised(list(self._shares.values()))))]

    def draw_point(self, rng: np.random.Generator, region: Region) -> tuple[NDArray[np.float64], str]:
        """A point in a region, shape (3,), and what it is like there."""
        if rng.random() < self._habits.beside_vein_share:
            point = self._beside_a_vein(rng, region)
            if point is not None:
                return point, "beside a vein"
        if region is Region.LOBAR and len(self._borders) and rng.random() < self._habits.border_share:
            return self._in(rng, self._borders), "grey-white border"
        return self._in(rng, self._homes[region]), "tissue"

    def _in(self, rng: np.random.Generator, voxels: NDArray[np.int64]) -> NDArray[np.float64]:
        for _ in range(20):
            voxel = voxels[int(rng.integers(len(voxels)))]
            forward = float(self._around.mni_mm[1][tuple(voxel)]) + 100
            if not self._posterior or rng.random() < np.exp(-max(forward, 0) / self._habits.posterior_mm):
                break
        return self._around.grid.to_mm(voxel + rng.uniform(-0.5, 0.5, 3))

    def _beside_a_vein(self, rng: np.random.Generator, region: Region) -> NDArray[np.float64] | None:
        for _ in range(20 if self._veins else 0):
            vein = self._veins[int(rng.integers(len(self._veins)))]
            at = int(rng.integers(len(vein.points_mm)))
            direction = rng.normal(size=3)
            gap = float(vein.radius_mm[at]) + rng.uniform(1.0, 2.0)
            point = vein.points_mm[at] + direction / np.linalg.norm(direction) * gap
            around = self._around
            if around.nearest(self._home, point[None])[0] and around.nearest(around.regions[region], point[None])[0]:
                return np.asarray(point)
        return None

    def clear_of_vessels(self, centre: NDArray[np.float64], radius: float) -> bool:
        """Whether a ball lies outside of all vessels."""
        gaps = np.linalg.norm(self._points - centre, axis=1) - self._radii
        return bool(gaps.min(initial=np.inf) > radius)


def _log_normal(rng: np.random.Generator, median: float, spread: float, limits: tuple[float, float]) -> float:
    return float(np.clip(median * np.exp(rng.normal(0, spread)), *limits))


def _normalised(weights: list[float]) -> list[float]:
    return [weight / sum(weights) for weight in weights]
