"""What veins and arteries share: named courses that everyone has, and families of small branches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.simulation.contents.drainage import Descent, Tree, resampled, smoothed
from cmb_autoseg.simulation.contents.surroundings import BoolMap, FloatMap, Surroundings

__all__ = ["Course", "Family", "NamedVessel", "add_named", "grow", "spread", "touched", "with_calibre"]

Course = tuple[tuple[float, float, float], ...]
Branch = tuple[NDArray[np.float64], NDArray[np.float64], str]
"""Centre line (n, 3), radius at each point (n,), family."""


@dataclass(frozen=True)
class NamedVessel:
    """A vessel that everyone has: its course on the right and its radius at the start."""

    name: str
    course_mni: Course
    """From its small end towards the trunk, MNI152 millimetres."""
    radius_mm: float
    paired: bool = True


@dataclass(frozen=True)
class Family:
    """How one kind of small veins grows."""

    name: str
    count: tuple[int, int]
    tip_mm: tuple[float, float]
    drift: float
    most_mm: float


def add_named(
    rng: np.random.Generator, around: Surroundings, tree: Tree, vessels: Sequence[NamedVessel], family: str
) -> tuple[list[float], list[str]]:
    """Put the vessels that everyone has into a tree; returns radius at the start and family of each."""
    tips = []
    for vessel in vessels:
        for side in (1, -1) if vessel.paired else (1,):
            tree.add(_named_course(rng, around, vessel, side), root=True)
            tips.append(vessel.radius_mm * float(rng.uniform(0.75, 1.15)))
    return tips, [family] * len(tips)


def grow(
    rng: np.random.Generator,
    tree: Tree,
    tips: list[float],
    families: list[str],
    descent: Descent,
    homes: dict[Family, NDArray[np.float64]],
) -> None:
    """Start vessels of each family at random where it is at home, the longest way first."""
    for family, weights in homes.items():
        total = weights.sum()
        if not total:
            continue
        count = int(rng.integers(*family.count))
        chosen = rng.choice(weights.size, size=count, p=(weights / total).ravel())
        voxels = np.stack(np.unravel_index(chosen, weights.shape), axis=1) + rng.uniform(-0.5, 0.5, (count, 3))
        starts = descent.grid.to_mm(voxels)
        starts = starts[np.argsort(-descent.times(starts), kind="stable")]
        for course in descent.follow(rng, starts, family.drift, family.most_mm):
            if tree.add(course):
                tips.append(float(rng.uniform(*family.tip_mm)))
                families.append(family.name)


def with_calibre(
    rng: np.random.Generator,
    tree: Tree,
    tips: list[float],
    families: list[str],
    limits_mm: tuple[float, float],
) -> list[Branch]:
    """The tree's courses with their radii and families."""
    radii = tree.radii(np.array(tips), limits_mm)
    # Calibre changes along a vein, as everything does that grows.
    return [
        (course, np.clip(radius * np.exp(_gentle(rng, len(radius), 0.1)), *limits_mm), family)
        for course, radius, family in zip(tree.courses, radii, families, strict=True)
    ]


def _gentle(rng: np.random.Generator, n: int, spread: float) -> NDArray[np.float64]:
    """Smooth noise along a course, shape (n,)."""
    knots = rng.normal(0, spread, n // 6 + 2)
    return np.interp(np.linspace(0, len(knots) - 1, n), np.arange(len(knots)), knots)


def _named_course(
    rng: np.random.Generator, around: Surroundings, vessel: NamedVessel, side: int
) -> NDArray[np.float64]:
    course = np.array(vessel.course_mni) * (side, 1, 1)
    inner = course[1:-1] + rng.normal(0, 1.0, course[1:-1].shape)
    course = np.concatenate([course[:1], inner, course[-1:]])
    return resampled(smoothed(around.from_mni(smoothed(resampled(course), times=4))))


def touched(courses: list[NDArray[np.float64]], around: Surroundings, shape: tuple[int, ...]) -> BoolMap:
    """Voxels of the grid half as fine that courses run through."""
    touched = np.zeros(shape, dtype=bool)
    for course in courses:
        voxels = np.rint((around.grid.to_voxels(course) - 0.5) / 2).astype(int)
        i, j, k = np.clip(voxels, 0, np.array(shape) - 1).T
        touched[i, j, k] = True
    return touched


def spread(array: FloatMap | BoolMap) -> FloatMap:
    """Largest value among the six neighbours and itself."""
    padded = np.pad(np.asarray(array, dtype=np.float32), 1)
    largest = padded[1:-1, 1:-1, 1:-1].copy()
    for axis in range(3):
        for shift in (0, 2):
            part = [slice(1, -1)] * 3
            part[axis] = slice(shift, shift + array.shape[axis])
            np.maximum(largest, padded[tuple(part)], out=largest)
    return largest
