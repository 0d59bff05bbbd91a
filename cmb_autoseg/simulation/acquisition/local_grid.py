"""Things smaller than a voxel of the signal grid, on local grids of their own.

Around inclusions and vessels each voxel of the signal grid is divided into points. At every point the
fields of all things there add up; what the spins of one voxel then sum to is a complex factor of the
tissue's signal, and what the blood in it adds is a complex summand. So two things in one voxel see
each other's field, and a vessel through a bleed is not counted as tissue.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cmb_autoseg.simulation.acquisition.fields import cylinder_field, sphere_field
from cmb_autoseg.simulation.acquisition.polylines import Course, Nearest, ball_offsets, nearest_on_course
from cmb_autoseg.simulation.contents.sources import Inclusion, Kind, Sphere, Tube
from cmb_autoseg.simulation.grids import Grid
from cmb_autoseg.simulation.protocols import Protocol
from cmb_autoseg.simulation.tissue import TissueValues, radians_per_ppm

__all__ = ["LocalFactors", "LocalGrid"]

NEAR_POINT_MM, FAR_POINT_MM = 0.2, 0.34
"""Distance of points where a thing's edge is near, and where only its smooth far field is."""
FAINT_RAD = 0.02
"""Phase at the last echo below which an inclusion is left out."""
VESSEL_FAINT_RAD = 0.1
SMALL_REACH_MM = 12.0
"""An inclusion reaches no further than this or five radii of its sphere, whichever is more."""


@dataclass(frozen=True)
class LocalFactors:
    """What local grids make of the signal, at voxels in the order of slices."""

    voxels: Tensor
    """Ascending k * (n_i * n_j) + i * n_j + j of the signal grid, shape (n,)."""
    tissue: Tensor
    """Multiplies the tissue's signal, complex, shape (echo, n)."""
    blood: Tensor
    """Signal of blood, to be turned by the tissue's phase and added, complex, shape (echo, n)."""

    def within(self, first_slice: int, last_slice: int, slice_size: int) -> "LocalFactors":
        """Those of slices first..last-1, numbered from the first slice's first voxel."""
        bounds = torch.tensor([first_slice * slice_size, last_slice * slice_size], device=self.voxels.device)
        low, high = torch.searchsorted(self.voxels, bounds).tolist()
        return LocalFactors(
            self.voxels[low:high] - first_slice * slice_size, self.tissue[:, low:high], self.blood[:, low:high]
        )


@dataclass(frozen=True)
class _Points:
    """Points in some voxels, and what is known of each: shape (voxel, point)."""

    voxels: Tensor
    centres_mm: Tensor
    inside_mm: Tensor
    """Points of one voxel about its centre, shape (point, 3)."""
    field_ppm: Tensor
    lumen_field_ppm: Tensor
    core_rate: Tensor
    """R2* of haemosiderin, per second."""
    water: Tensor
    lumen_amplitude: Tensor
    """Of blood, 0 outside vessels."""
    lumen_rate: Tensor

    @classmethod
    def of(cls, voxels: Tensor, grid: Grid, point_mm: float) -> "_Points":
        inside = _division(grid, point_mm, voxels.device)
        zeros = torch.zeros(len(voxels), len(inside), device=voxels.device)
        return cls(
            voxels,
            _centres_mm(voxels, grid),
            inside,
            zeros,
            zeros.clone(),
            zeros.clone(),
            zeros + 1,
            zeros.clone(),
            zeros.clone(),
        )

    def rows(self, voxels: Tensor) -> tuple[Tensor, Tensor]:
        """Which of `voxels` (ascending) are here: their rows here, and their places in the argument."""
        if not len(self.voxels):
            return voxels[:0], voxels[:0]
        at = torch.searchsorted(self.voxels, voxels).clamp(max=len(self.voxels) - 1)
        here = torch.nonzero(self.voxels[at] == voxels)[:, 0]
        return at[here], here

    def about(self, rows: Tensor, origins_mm: Tensor) -> "_Offsets":
        """Where the points of some rows lie from an origin (3,) or one for each row (n, 3)."""
        return _Offsets(self.centres_mm[rows] - origins_mm, self.inside_mm)


@dataclass(frozen=True)
class _Offsets:
    """Vectors to points: one to each voxel, and from there to its points; never held as (voxel, point, 3)."""

    voxels_mm: Tensor
    inside_mm: Tensor

    def square(self) -> Tensor:
        """Squared length, shape (voxel, point)."""
        mixed = self.voxels_mm @ self.inside_mm.T
        ends = self.voxels_mm.square().sum(1)[:, None] + self.inside_mm.square().sum(1)
        return ends.add_(mixed, alpha=2).clamp_(min=0)

    def along(self, direction: Tensor) -> Tensor:
        """Component along a direction (3,) or one for each voxel (n, 3), shape (voxel, point)."""
        if direction.dim() == 1:
            return (self.voxels_mm @ direction)[:, None] + self.inside_mm @ direction
        return (self.voxels_mm * direction).sum(1)[:, None] + direction @ self.inside_mm.T


class LocalGrid:
    """Local grids around all things of one head.

    Args:
        grid: the signal grid.
        protocol: echo times and main field.
        values: of blood.
        things: whose surroundings get local grids.
    """

    def __init__(
        self,
        grid: Grid,
        protocol: Protocol,
        values: TissueValues,
        things: Sequence[Inclusion | Tube],
        device: torch.device,
    ) -> None:
        self._grid, self._protocol, self._values = grid, protocol, values
        self._b0 = torch.tensor(protocol.b0_direction, dtype=torch.float32, device=device)
        self._places = {id(thing): self._place(thing, device) for thing in things}
        near = _union([place.near for place in self._places.values()], device)
        every = _union([place.voxels for place in self._places.values()], device)
        far = every[~torch.isin(every, near, assume_unique=True)]
        self._tiers = [_Points.of(near, grid, NEAR_POINT_MM), _Points.of(far, grid, FAR_POINT_MM)]

    def add(self, things: Sequence[Inclusion | Tube]) -> Tensor:
        """Add fields, decay and blood of some of the things; the voxels that they touch, ascending."""
        for thing in things:
            place = self._places[id(thing)]
            for tier in self._tiers:
                if isinstance(thing, Tube):
                    self._add_tube(tier, thing, place)
                else:
                    self._add_inclusion(tier, thing, place.voxels)
        places = [self._places[id(thing)].voxels for thing in things]
        return _union(places, self._tiers[0].voxels.device)

    def factors(self, voxels: Tensor) -> LocalFactors:
        """Sum the spins of these voxels (ascending), with everything added so far."""
        shape = (len(self._protocol.echo_times_ms), len(voxels))
        tissue = torch.ones(shape, dtype=torch.complex64, device=voxels.device)
        blood = torch.zeros(shape, dtype=torch.complex64, device=voxels.device)
        for tier in self._tiers:
            rows, places = tier.rows(voxels)
            field = tier.field_ppm[rows] + tier.lumen_field_ppm[rows]
            amplitude = tier.lumen_amplitude[rows]
            lumen = amplitude > 0
            for echo, time_ms in enumerate(self._protocol.echo_times_ms):
                seconds = time_ms / 1000
                spins = torch.polar(
                    tier.water[rows] * torch.exp(-seconds * tier.core_rate[rows]),
                    field * radians_per_ppm(self._protocol.field_strength_t, time_ms),
                )
                tissue[echo, places] = (spins * ~lumen).mean(dim=1)
                blood[echo, places] = (spins * amplitude * torch.exp(-seconds * tier.lumen_rate[rows])).mean(dim=1)
        return LocalFactors(voxels, tissue, blood)

    def _place(self, thing: Inclusion | Tube, device: torch.device) -> "_Place":
        if isinstance(thing, Tube):
            return self._place_tube(thing, device)
        places = [self._place_sphere(sphere, device) for sphere in thing.spheres]
        return _Place(
            _union([voxels for voxels, _ in places], device), _union([near for _, near in places], device), None
        )

    def _place_sphere(self, sphere: Sphere, device: torch.device) -> tuple[Tensor, Tensor]:
        reach = _sphere_reach_mm(sphere, self._protocol)
        offsets = ball_offsets(self._grid, reach + _half_diagonal(self._grid))
        middle = np.rint(self._grid.to_voxels(np.array([sphere.centre_mm]))).astype(np.int64)
        voxels = _inside(middle, offsets, self._grid, device)
        distance = (
            _centres_mm(voxels, self._grid) - torch.tensor(sphere.centre_mm, dtype=torch.float32, device=device)
        ).norm(dim=1)
        return voxels, voxels[distance <= 1.5 * sphere.radius_mm + 0.2 + _half_diagonal(self._grid)]

    def _place_tube(self, tube: Tube, device: torch.device) -> "_Place":
        course = Course.of(tube, device)
        reach = _tube_reach_mm(tube, self._protocol)
        # Balls about points a millimetre apart that are this much wider cover the tube's surroundings.
        steps = np.rint(self._grid.to_voxels(course.dense_mm(1.0))).astype(np.int64)
        offsets = ball_offsets(self._grid, math.hypot(reach, 0.5) + _half_diagonal(self._grid))
        voxels = _inside(steps, offsets, self._grid, device)
        nearest = nearest_on_course(_centres_mm(voxels, self._grid), course)
        close = nearest.distance_mm <= reach
        voxels, nearest = voxels[close], nearest.select(close)
        edge = nearest.radius_mm + 0.1 + _half_diagonal(self._grid)
        return _Place(voxels, voxels[nearest.distance_mm <= edge], nearest)

    def _add_inclusion(self, tier: _Points, inclusion: Inclusion, voxels: Tensor) -> None:
        rows, _ = tier.rows(voxels)
        field = torch.zeros(len(rows), len(tier.inside_mm), device=rows.device)
        rate = torch.zeros_like(field)
        inside = torch.zeros_like(field, dtype=torch.bool)
        for sphere in inclusion.spheres:
            offsets = tier.about(rows, torch.tensor(sphere.centre_mm, dtype=torch.float32, device=rows.device))
            square = offsets.square()
            field += sphere_field(square, offsets.along(self._b0), sphere.radius_mm, sphere.chi_ppm)
            core = square <= sphere.radius_mm**2
            inside |= core
            rate = torch.where(core, rate + max(sphere.chi_ppm, 0.0), rate)
        tier.field_ppm[rows] += field
        tier.core_rate[rows] += rate * inclusion.r2star_per_ppm_tesla * self._protocol.field_strength_t
        tier.water[rows] *= torch.where(inside, inclusion.water, 1.0)

    def _add_tube(self, tier: _Points, tube: Tube, place: "_Place") -> None:
        rows, here = tier.rows(place.voxels)
        if not len(rows) or place.nearest is None:
            return
        nearest = place.nearest.select(here)
        offsets = tier.about(rows, nearest.foot_mm)
        along = offsets.along(nearest.axis)
        square = offsets.square().sub_(along.square()).clamp_(min=0)
        cosine = (nearest.axis @ self._b0)[:, None]
        radius = nearest.radius_mm[:, None]
        field = cylinder_field(square, offsets.along(self._b0) - along * cosine, cosine, radius, tube.chi_ppm)
        distance = square.sqrt()
        # Past its ends a tube fades instead of stopping, and so does its field towards its reach.
        beyond = nearest.beyond_mm[:, None]
        fading = torch.exp(-beyond / radius) * _taper(distance / _tube_reach_mm(tube, self._protocol))
        lumen = (distance <= radius) & (beyond <= 0)
        amplitude, rate = self._blood(tube)
        tier.field_ppm[rows] += torch.where(lumen, 0, field * fading)
        tier.lumen_field_ppm[rows] = torch.where(lumen, field, tier.lumen_field_ppm[rows])
        tier.lumen_amplitude[rows] = torch.where(lumen, amplitude, tier.lumen_amplitude[rows])
        tier.lumen_rate[rows] = torch.where(lumen, rate, tier.lumen_rate[rows])

    def _blood(self, tube: Tube) -> tuple[float, float]:
        """Amplitude after the pulse and R2* per second."""
        tesla = self._protocol.field_strength_t
        if tube.kind is Kind.ARTERY:
            return self._values.arterial_amplitude(self._protocol), self._values.venous_r2star(0.0, tesla)
        return self._values.amplitude("blood", self._protocol), self._values.venous_r2star(tube.chi_ppm, tesla)


@dataclass(frozen=True)
class _Place:
    """Voxels that a thing touches (ascending), those at its edge, and for tubes what of it is nearest."""

    voxels: Tensor
    near: Tensor
    nearest: Nearest | None


def _sphere_reach_mm(sphere: Sphere, protocol: Protocol) -> float:
    """Distance at which the sphere's phase has fallen to `FAINT_RAD`."""
    strength = radians_per_ppm(protocol.field_strength_t, protocol.echo_time_ms) * abs(sphere.chi_ppm) * 2 / 3
    reach = sphere.radius_mm * max(2.0, math.cbrt(strength / FAINT_RAD))
    return min(reach, max(SMALL_REACH_MM, 5 * sphere.radius_mm))


def _tube_reach_mm(tube: Tube, protocol: Protocol) -> float:
    """Distance at which the phase of the tube's widest part has fallen to `VESSEL_FAINT_RAD`, six radii at most."""
    radius = float(tube.radius_mm.max())
    strength = radians_per_ppm(protocol.field_strength_t, protocol.echo_time_ms) * abs(tube.chi_ppm) / 2
    return min(max(radius * math.sqrt(strength / VESSEL_FAINT_RAD), radius + 0.4), 6 * radius + 0.6)


def _taper(share: Tensor) -> Tensor:
    """1 up to two thirds of the reach, then down to 0 as a cosine."""
    return 0.5 + 0.5 * torch.cos(math.pi * (3 * share - 2).clamp(0, 1))


def _half_diagonal(grid: Grid) -> float:
    return 0.5 * math.hypot(*grid.spacing_mm)


def _division(grid: Grid, point_mm: float, device: torch.device) -> Tensor:
    """Points that divide a voxel evenly, about its centre, shape (point, 3)."""
    parts = []
    for step in grid.spacing_mm:
        n = math.ceil(step / point_mm - 1e-6)
        parts.append(((torch.arange(n, device=device) + 0.5) / n - 0.5) * step)
    return torch.stack(torch.meshgrid(*parts, indexing="ij"), dim=-1).reshape(-1, 3)


def _inside(middles: NDArray[np.int64], offsets: NDArray[np.int64], grid: Grid, device: torch.device) -> Tensor:
    """Voxels at `offsets` (m, 3) from any of `middles` (n, 3) that lie in the grid, as ascending numbers."""
    order = [2, 0, 1]
    low = (middles.min(axis=0) + offsets.min(axis=0))[order]
    high = (middles.max(axis=0) + offsets.max(axis=0) + 1)[order]
    stride = np.array([(high - low)[1] * (high - low)[2], (high - low)[2], 1])
    taken = np.zeros(int(np.prod(high - low)), dtype=bool)
    taken[((np.unique(middles, axis=0)[:, order] - low) @ stride)[:, None] + offsets[:, order] @ stride] = True
    first, end = np.maximum(low, 0), np.minimum(high, np.array(grid.shape)[order])
    box = taken.reshape(high - low)[tuple(slice(a - c, max(b - c, 0)) for a, b, c in zip(first, end, low, strict=True))]
    k, i, j = np.nonzero(box)
    numbers = ((k + first[0]) * grid.shape[0] + i + first[1]) * grid.shape[1] + j + first[2]
    return torch.from_numpy(numbers).to(device)


def _centres_mm(voxels: Tensor, grid: Grid) -> Tensor:
    n_i, n_j, _ = grid.shape
    rows = torch.div(voxels, n_j, rounding_mode="floor")
    index = torch.stack([rows % n_i, voxels % n_j, torch.div(rows, n_i, rounding_mode="floor")], dim=1)
    spacing, origin = (
        torch.tensor(t, dtype=torch.float64, device=voxels.device) for t in (grid.spacing_mm, grid.origin_mm)
    )
    centres: Tensor = (index * spacing + origin).float()
    return centres


def _union(parts: Sequence[Tensor], device: torch.device) -> Tensor:
    if not parts:
        return torch.zeros(0, dtype=torch.int64, device=device)
    union: Tensor = torch.unique(torch.cat(list(parts)))
    return union
