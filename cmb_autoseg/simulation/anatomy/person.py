"""What makes one person's head differ from the template: pose, size, shape, age and iron."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["IRON_NUCLEI", "Person", "draw_person"]

Triple = tuple[float, float, float]

IRON_NUCLEI = ("caudate", "putamen", "pallidum", "thalamus", "red nucleus", "substantia nigra", "dentate")
"""Nuclei whose iron is drawn for each person."""
_RISING = ("caudate", "putamen")
"""Iron there still rises in old age; elsewhere it is on a plateau from about 40 (Hallgren & Sourander 1958)."""

WARP_COEFFICIENTS = (9, 10, 9)
WARP_SD_MM = 5.0
FOLD_COEFFICIENTS = (18, 22, 18)
FOLD_SD_MM = 3.5
TEXTURE_SD = 3.0
"""Standard deviations are those of spline coefficients; the field's own is a third of them."""


@dataclass(frozen=True)
class Person:
    """One person. Random fields are B-spline coefficients over the template's grid."""

    age: int
    sex: str
    """`F` or `M`."""
    rotation_rad: Triple = (0.0, 0.0, 0.0)
    """Pitch (chin up), roll and yaw of the head in the scanner."""
    scale: Triple = (1.0, 1.0, 1.0)
    shift_mm: Triple = (0.0, 0.0, 0.0)
    warp_mm: NDArray[np.float32] = field(default_factory=lambda: np.zeros((3, *WARP_COEFFICIENTS), np.float32))
    """Velocity of the coarse warp, shape (3, a, b, c)."""
    iron: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(IRON_NUCLEI, 1.0))
    """Multiplies the susceptibility of each nucleus."""
    fold_mm: NDArray[np.float32] = field(default_factory=lambda: np.zeros((3, *FOLD_COEFFICIENTS), np.float32))
    """Velocity of the fine warp, which shifts single gyri, shape (3, a, b, c)."""
    texture: NDArray[np.float32] = field(default_factory=lambda: np.zeros((2, *FOLD_COEFFICIENTS), np.float32))
    """Leaning of the template's averages towards fluid and towards white matter, standard
    deviation about 1."""
    atrophy: float = 0.0
    """Sulcal widening: 0 as in the template, about 1 in a shrunken old brain, below 0 in a full one."""
    ventricle_pull_mm: float = 0.0
    """How far the walls of the ventricles move outwards; negative: inwards."""


def draw_person(
    rng: np.random.Generator,
    age_mean: float = 71.0,
    age_sd: float = 8.0,
    age_limits: tuple[int, int] = (45, 92),
    share_female: float = 0.5,
) -> Person:
    """Draw age, sex, pose, size, shape, atrophy and iron of one person."""
    age = int(np.clip(round(rng.normal(age_mean, age_sd)), *age_limits))
    sex = "F" if rng.random() < share_female else "M"
    pitch, roll, yaw = (float(angle) for angle in np.deg2rad(rng.normal(0, (5.0, 2.0, 2.0))))
    size = (0.98 if sex == "F" else 1.02) * rng.normal(1, 0.02)
    scale = size * rng.normal(1, 0.015, 3)
    shift = rng.normal(0, (1.5, 3.0, 3.0))
    warp = rng.normal(0, WARP_SD_MM, (3, *WARP_COEFFICIENTS)).astype(np.float32)
    fold = rng.normal(0, FOLD_SD_MM, (3, *FOLD_COEFFICIENTS)).astype(np.float32)
    texture = rng.normal(0, TEXTURE_SD, (2, *FOLD_COEFFICIENTS)).astype(np.float32)
    shrinking = (age - 60) / 30
    atrophy = float(np.clip(0.5 + 0.8 * shrinking + rng.normal(0, 0.3), -0.5, 1.8))
    pull = float(np.clip(1.4 + 3.0 * shrinking + rng.normal(0, 1.3), -1.5, 6.0))
    growth = 0.008 * (age - 60)
    iron = {name: max(0.4, float(rng.normal(1 + growth * (name in _RISING), 0.15))) for name in IRON_NUCLEI}
    return Person(
        age,
        sex,
        (pitch, roll, yaw),
        _triple(scale),
        _triple(shift),
        warp,
        iron,
        fold,
        texture,
        atrophy,
        pull,
    )


def _triple(values: NDArray[np.float64]) -> Triple:
    x, y, z = (float(value) for value in values)
    return x, y, z
