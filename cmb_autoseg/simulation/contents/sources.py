"""The things in a head that are smaller than a voxel of the tissue grid, as shapes with a susceptibility.

Coordinates are millimetres in the volume's own axes (see `Protocol`); susceptibility is in ppm above
the tissue around. A `Sphere` and a `Tube` have textbook fields; everything else is made of them.
"""

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

__all__ = ["Contents", "Inclusion", "Kind", "Region", "Sphere", "Tube"]

Point = tuple[float, float, float]


class Region(StrEnum):
    """Where a microbleed lies, by the Microbleed Anatomical Rating Scale's three regions."""

    LOBAR = "lobar"
    DEEP = "deep"
    INFRATENTORIAL = "infratentorial"


class Kind(StrEnum):
    """What an inclusion or a tube is; all but microbleeds are mimics."""

    MICROBLEED = "microbleed"
    CALCIFICATION = "calcification"
    CAVERNOMA = "cavernoma"
    HAEMORRHAGE = "haemorrhage"
    SIDEROSIS = "siderosis"
    VEIN = "vein"
    ARTERY = "artery"


@dataclass(frozen=True)
class Sphere:
    """A ball of other susceptibility."""

    centre_mm: Point
    radius_mm: float
    chi_ppm: float


@dataclass(frozen=True)
class Inclusion:
    """A compact thing made of spheres that touch or overlap little; their fields add."""

    kind: Kind
    spheres: tuple[Sphere, ...]
    region: Region
    place: str
    """Where it was put, in words: `grey-white border`, `beside a vein`, `pallidum`, ..."""
    r2star_per_ppm_tesla: float = 40.0
    """R2* inside it, per ppm of its susceptibility and tesla."""
    water: float = 1.0
    """Share of the water signal left inside it: 1 blood products, about 0.2 calcium."""

    @property
    def volume_mm3(self) -> float:
        """Of its spheres, as if they did not overlap: what its total susceptibility is spread over."""
        return float(sum(4 / 3 * np.pi * sphere.radius_mm**3 for sphere in self.spheres))

    @property
    def radius_mm(self) -> float:
        """Of one ball of the same volume."""
        return float(np.cbrt(3 * self.volume_mm3 / (4 * np.pi)))

    @property
    def chi_ppm(self) -> float:
        """Mean over its volume."""
        moment = sum(4 / 3 * np.pi * sphere.radius_mm**3 * sphere.chi_ppm for sphere in self.spheres)
        return float(moment / self.volume_mm3)

    @property
    def centre_mm(self) -> Point:
        """Centre of its volume."""
        weights = np.array([sphere.radius_mm**3 for sphere in self.spheres])
        x, y, z = np.average([sphere.centre_mm for sphere in self.spheres], axis=0, weights=weights)
        return float(x), float(y), float(z)


@dataclass(frozen=True)
class Tube:
    """A curved vessel."""

    kind: Kind
    """`VEIN` or `ARTERY`."""
    points_mm: NDArray[np.float64]
    """Centre line, shape (n, 3), about 1 to 2 mm apart."""
    radius_mm: NDArray[np.float64]
    """At each point, shape (n,)."""
    chi_ppm: float
    """Venous blood 0.19-0.45; arterial about 0."""
    family: str
    """`medullary`, `cortical`, `sulcal`, `deep`, `pial`, ..."""


@dataclass(frozen=True)
class Contents:
    """What is in one head besides tissue."""

    microbleeds: list[Inclusion] = field(default_factory=list)
    mimics: list[Inclusion] = field(default_factory=list)
    """Compact mimics: calcifications, cavernomas, haemorrhages, patches of siderosis."""
    tubes: list[Tube] = field(default_factory=list)
    """Veins and arteries."""
