"""What disturbs the field: tissue susceptibility, microbleeds, veins, calcifications.

Susceptibility is in ppm (SI), volume susceptibility relative to water as in the literature on
susceptibility mapping; only differences act. Draws are numpy; maps are torch.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cmb_autoseg.errors import InputError
from cmb_autoseg.simulation.anatomy.head import Anatomy
from cmb_autoseg.simulation.grids import Grid

__all__ = [
    "Region",
    "Sphere",
    "Surroundings",
    "Vein",
    "draw_calcifications",
    "draw_microbleeds",
    "draw_veins",
    "survey",
    "tissue_susceptibility",
]

WHITE_PPM, GREY_PPM, FLUID_PPM = -0.03, 0.02, 0.019
AIR_PPM = 9.4
"""Air against tissue."""
SINUSES_MNI = (
    ((0.0, 78.0, -26.0), (14.0, 6.0, 10.0)),  # frontal sinus
    ((0.0, 36.0, -42.0), (11.0, 16.0, 8.0)),  # ethmoid and sphenoid sinus
    ((56.0, -22.0, -48.0), (9.0, 8.0, 8.0)),  # right petrous bone and ear canal
    ((-56.0, -22.0, -48.0), (9.0, 8.0, 8.0)),
)
"""Air under and before the brain: centre and half-axes, MNI152 millimetres."""

COUNT_WEIGHTS = (0.30, 0.21, 0.15, 0.11, 0.08, 0.06, 0.05, 0.04)
"""Chance of 1, 2, ... 8 microbleeds in a person who has any."""
REGION_WEIGHTS = {"lobar": 0.6, "deep": 0.28, "infratentorial": 0.12}
CORE_RADIUS_MM = (0.4, 0.8)
CHI_PPM = (0.3, 3.0)


class Region(StrEnum):
    """Where a microbleed lies, by the Microbleed Anatomical Rating Scale's three regions."""

    LOBAR = "lobar"
    DEEP = "deep"
    INFRATENTORIAL = "infratentorial"


@dataclass(frozen=True)
class Sphere:
    """A small sphere of other susceptibility: a microbleed's core or a calcification."""

    centre_mm: tuple[float, float, float]
    """Scanner RAS millimetres."""
    radius_mm: float
    chi_ppm: float
    """Above the tissue around it."""
    region: Region


@dataclass(frozen=True)
class Vein:
    """A curved tube of venous blood."""

    points_mm: NDArray[np.float64]
    """Centre line, shape (n, 3), scanner RAS millimetres, about 2 mm apart."""
    radius_mm: NDArray[np.float64]
    """At each point, shape (n,)."""
    chi_ppm: float


def tissue_susceptibility(anatomy: Anatomy) -> Tensor:
    """Susceptibility map of tissue, nuclei and air sinuses in ppm, shape of the anatomy's grid."""
    tissue = anatomy.white * WHITE_PPM + anatomy.grey * GREY_PPM + anatomy.fluid * FLUID_PPM + anatomy.iron_ppm
    air = torch.zeros_like(tissue)
    for centre, axes in SINUSES_MNI:
        square = torch.zeros_like(tissue)
        for along, middle, half in zip(anatomy.mni_mm, centre, axes, strict=True):
            square += ((along - middle) / half) ** 2
        air = torch.maximum(air, torch.sigmoid((1 - square) * 4))
    return tissue + AIR_PPM * air * (1 - anatomy.brain).clamp(min=0)


@dataclass(frozen=True)
class Surroundings:
    """What placing lesions and veins needs to know of an anatomy, as numpy arrays."""

    grid: Grid
    homes: dict[Region, NDArray[np.int64]]
    """Voxels in which a microbleed may lie, shape (n, 3)."""
    fluid: NDArray[np.float32]
    white: NDArray[np.float32]
    inside: NDArray[np.bool_]
    mni_mm: NDArray[np.float32]
    field_of_view_mm: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]

    def value(self, array: NDArray[np.float32], points_mm: NDArray[np.float64]) -> NDArray[np.float32]:
        """The value of a map at the voxel nearest to each point; 0 outside the grid."""
        voxels = np.rint(self.grid.to_voxels(points_mm)).astype(np.int64)
        there = np.all((voxels >= 0) & (voxels < self.grid.shape), axis=-1)
        safe = np.clip(voxels, 0, np.array(self.grid.shape) - 1)
        values: NDArray[np.float32] = np.where(there, array[safe[..., 0], safe[..., 1], safe[..., 2]], 0)
        return values


def survey(anatomy: Anatomy, scan: Grid) -> Surroundings:
    """Find out where microbleeds and veins may lie, so that the scan on grid `scan` shows them whole."""
    view = tuple(
        (origin + 1.5 * step, origin + (n - 2.5) * step)
        for origin, step, n in zip(scan.origin_mm, scan.spacing_mm, scan.shape, strict=True)
    )
    in_view = torch.ones_like(anatomy.brain, dtype=torch.bool)
    for axis, (coordinates, (low, high)) in enumerate(
        zip(anatomy.grid.axes_mm(anatomy.brain.device), view, strict=True)
    ):
        seen = (coordinates >= low) & (coordinates <= high)
        in_view &= seen.reshape([-1 if d == axis else 1 for d in range(3)])
    solid = ((anatomy.grey + anatomy.white) > 0.75) & (anatomy.depth > 0.85)
    regions = _regions(anatomy.mni_mm, anatomy.nuclei)
    home = solid & in_view
    homes = {region: torch.nonzero(home & mask).cpu().numpy() for region, mask in regions.items()}
    return Surroundings(
        anatomy.grid,
        homes,
        anatomy.fluid.cpu().numpy(),
        anatomy.white.cpu().numpy(),
        ((anatomy.brain > 0.5) & in_view).cpu().numpy(),
        anatomy.mni_mm.cpu().numpy(),
        view,  # type: ignore[arg-type]
    )


def _regions(mni_mm: Tensor, nuclei: Tensor) -> dict[Region, Tensor]:
    """Rough division of the average brain: below the tentorium, central nuclei and capsules, lobes."""
    x, y, z = mni_mm[0].abs(), mni_mm[1], mni_mm[2]
    cerebellum = (y < -32) & (z < -20 - 0.1 * x)
    brainstem = (x < 16) & (y > -45) & (y < -8) & (z < -10)
    below = cerebellum | brainstem
    capsules = ((x / 31) ** 2 + ((y + 4) / 27) ** 2 + ((z - 5) / 18) ** 2) < 1
    deep = ((nuclei > 0.5) | capsules) & ~below
    return {Region.LOBAR: ~below & ~deep, Region.DEEP: deep, Region.INFRATENTORIAL: below}


def draw_microbleeds(rng: np.random.Generator, around: Surroundings, apart_mm: float) -> list[Sphere]:
    """Draw 1 to 8 microbleeds in brain tissue, at least `apart_mm` from each other."""
    count = 1 + int(rng.choice(len(COUNT_WEIGHTS), p=COUNT_WEIGHTS))
    weights = {region: REGION_WEIGHTS[region] for region, voxels in around.homes.items() if len(voxels) >= 200}
    if not weights:
        raise InputError("protocol: its field of view holds no brain tissue; move centre_mm or enlarge matrix")
    spheres: list[Sphere] = []
    for _ in range(20 * count):
        if len(spheres) == count:
            break
        region = list(weights)[int(rng.choice(len(weights), p=_normalised(list(weights.values()))))]
        centre = _jittered(rng, around, around.homes[region])
        radius = _log_normal(rng, 0.66, 0.2, CORE_RADIUS_MM)
        chi = _log_normal(rng, 1.2, 0.5, CHI_PPM)
        if _far_from(centre, spheres, apart_mm):
            spheres.append(Sphere(centre, radius, chi, region))
    return spheres


def draw_calcifications(
    rng: np.random.Generator, around: Surroundings, others: list[Sphere], apart_mm: float
) -> list[Sphere]:
    """Draw few diamagnetic specks in the basal ganglia and the choroid plexus, away from `others`."""
    spheres: list[Sphere] = []
    homes = np.concatenate([around.homes[Region.DEEP], _ventricle_voxels(around)])
    if not len(homes):
        return spheres
    for _ in range(min(3, int(rng.poisson(0.6)))):
        centre = _jittered(rng, around, homes)
        sphere = Sphere(centre, float(rng.uniform(0.4, 0.9)), -float(rng.uniform(0.5, 3.0)), Region.DEEP)
        if _far_from(centre, others + spheres, apart_mm):
            spheres.append(sphere)
    return spheres


def _ventricle_voxels(around: Surroundings) -> NDArray[np.int64]:
    x, y, z = np.abs(around.mni_mm[0]), around.mni_mm[1], around.mni_mm[2]
    box = (x > 12) & (x < 32) & (y > -50) & (y < -25) & (z > 0) & (z < 20)
    return np.argwhere(box & around.inside & (around.fluid > 0.7))


def _log_normal(rng: np.random.Generator, median: float, spread: float, limits: tuple[float, float]) -> float:
    return float(np.clip(median * np.exp(rng.normal(0, spread)), *limits))


def _normalised(weights: list[float]) -> list[float]:
    return [weight / sum(weights) for weight in weights]


def _jittered(rng: np.random.Generator, around: Surroundings, voxels: NDArray[np.int64]) -> tuple[float, float, float]:
    voxel = voxels[int(rng.integers(len(voxels)))] + rng.uniform(-0.5, 0.5, 3)
    x, y, z = (float(value) for value in around.grid.to_mm(voxel))
    return x, y, z


def _far_from(centre: tuple[float, float, float], spheres: list[Sphere], apart_mm: float) -> bool:
    return all(np.linalg.norm(np.subtract(centre, sphere.centre_mm)) >= apart_mm for sphere in spheres)


def draw_veins(rng: np.random.Generator, around: Surroundings) -> list[Vein]:
    """Draw sulcal veins that follow the fluid, medullary veins towards the ventricles, and midline veins."""
    oxygenation_ppm = float(rng.uniform(0.22, 0.42))
    veins = _sulcal_veins(rng, around, int(rng.integers(45, 65)))
    veins += _medullary_veins(rng, around, int(rng.integers(30, 45)))
    veins += _midline_veins(rng, around)
    return [
        Vein(points, radius, float(np.clip(oxygenation_ppm * rng.normal(1, 0.08), 0.19, 0.45)))
        for points, radius in veins
    ]


Course = tuple[NDArray[np.float64], NDArray[np.float64]]
STEP_MM = 2.0


def _sulcal_veins(rng: np.random.Generator, around: Surroundings, count: int) -> list[Course]:
    x, y, z = np.abs(around.mni_mm[0]), around.mni_mm[1], around.mni_mm[2]
    ventricles = (x < 34) & (y > -48) & (y < 36) & (z > -12) & (z < 32)
    sulci = np.argwhere((around.fluid > 0.35) & around.inside & ~ventricles)
    courses: list[Course] = []
    for _ in range(count if len(sulci) else 0):
        start = around.grid.to_mm(sulci[int(rng.integers(len(sulci)))])
        points = _walk_in_fluid(rng, around, start, steps=int(rng.integers(6, 20)))
        if len(points) >= 4:
            thick = float(rng.uniform(0.25, 0.7))
            courses.append((points, np.linspace(thick, 0.55 * thick, len(points))))
    return courses


def _walk_in_fluid(
    rng: np.random.Generator, around: Surroundings, start: NDArray[np.float64], steps: int
) -> NDArray[np.float64]:
    """Follow the fluid: at each step, of 12 directions that bend little, take the one with most fluid."""
    points = [start]
    direction = _unit(rng.normal(size=3))
    for _ in range(steps):
        options = _unit(direction + 0.45 * rng.normal(size=(12, 3)))
        ahead = points[-1] + STEP_MM * options
        fluid = around.value(around.fluid, ahead)
        best = int(fluid.argmax())
        if fluid[best] < 0.15:
            break
        direction = options[best]
        points.append(ahead[best])
    return _smoothed(np.array(points))


def _medullary_veins(rng: np.random.Generator, around: Surroundings, count: int) -> list[Course]:
    """Thin veins that fan out from beside the lateral ventricles through the white matter."""
    x, y, z = np.abs(around.mni_mm[0]), around.mni_mm[1], around.mni_mm[2]
    beside = (x > 16) & (x < 30) & (y > -50) & (y < 32) & (z > 14) & (z < 30)
    starts = np.argwhere(beside & (around.white > 0.8) & around.inside)
    courses: list[Course] = []
    for _ in range(count if len(starts) else 0):
        voxel = starts[int(rng.integers(len(starts)))]
        mni = around.mni_mm[:, voxel[0], voxel[1], voxel[2]].astype(np.float64)
        outwards = mni - np.array([np.sign(mni[0]) * 6, np.clip(mni[1], -40, 20), 12.0])
        points = [around.grid.to_mm(voxel)]
        direction = _unit(outwards + rng.normal(0, 3, 3))
        for _step in range(int(rng.integers(4, 10))):
            direction = _unit(direction + 0.12 * rng.normal(size=3))
            ahead = points[-1] + STEP_MM * direction
            if around.value(around.white, ahead[None])[0] < 0.4:
                break
            points.append(ahead)
        if len(points) >= 4:
            thick = float(rng.uniform(0.2, 0.36))
            courses.append((_smoothed(np.array(points)), np.linspace(thick, 0.6 * thick, len(points))))
    return courses


MIDLINE_MNI = (
    (((3.0, -2.0, 12.0), (2.5, -12.0, 16.0), (2.5, -24.0, 14.0), (2.0, -34.0, 9.0)), 0.7),
    (((14.0, 8.0, 14.0), (17.0, 0.0, 18.0), (14.0, -4.0, 17.0), (6.0, -4.0, 13.0), (3.0, -2.0, 12.0)), 0.5),
    (((3.0, 26.0, 4.0), (2.5, 16.0, 15.0), (3.0, 4.0, 14.0), (3.0, -2.0, 12.0)), 0.4),
)
"""Internal cerebral, thalamostriate and septal vein of the right side: course and radius."""


def _midline_veins(rng: np.random.Generator, around: Surroundings) -> list[Course]:
    # The head lies in the scanner nearly as in MNI152 space; the nearest voxel of the warp maps back.
    courses: list[Course] = []
    for course, radius in MIDLINE_MNI:
        for side in (1, -1):
            goal = np.array(course) * (side, 1, 1) + rng.normal(0, 1.2, (len(course), 3))
            dense = _resampled(goal)
            points = np.array([_scanner_point(around, point) for point in dense])
            thick = radius * float(rng.uniform(0.7, 1.1))
            courses.append((_smoothed(points), np.full(len(points), thick)))
    return courses


def _scanner_point(around: Surroundings, mni_point: NDArray[np.float64]) -> NDArray[np.float64]:
    """Invert the warp at one point by fixed-point iteration."""
    point = mni_point.copy()
    for _ in range(6):
        voxel = np.clip(np.rint(around.grid.to_voxels(point)).astype(int), 0, np.array(around.grid.shape) - 1)
        there = around.mni_mm[:, voxel[0], voxel[1], voxel[2]]
        point = around.grid.to_mm(voxel) + (mni_point - there)
    return point


def _resampled(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points about `STEP_MM` apart along a polyline."""
    lengths = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    at = np.linspace(0, lengths[-1], max(4, int(lengths[-1] / STEP_MM) + 1))
    return np.stack([np.interp(at, lengths, points[:, axis]) for axis in range(3)], axis=1)


def _smoothed(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Take the corners off a polyline; the ends stay."""
    for _ in range(2):
        inner = 0.25 * points[:-2] + 0.5 * points[1:-1] + 0.25 * points[2:]
        points = np.concatenate([points[:1], inner, points[-1:]])
    return points


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    unit: NDArray[np.float64] = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return unit
