"""What a reader can see of a microbleed: the reference mask."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.simulation.contents.sources import Inclusion
from cmb_autoseg.simulation.grids import Grid

__all__ = ["Mark", "dilated", "mark_visible"]

DROP = 0.22
"""Voxels that lose more than this share of their signal belong to the lesion."""
NOISE_SDS = 3.0
"""A reader sees a lesion whose drop exceeds this many noise standard deviations in some voxel."""
REACH_MM = 8.0
"""No visible region extends further beyond its core's surface."""

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Mark:
    """One simulated microbleed and what of it can be seen."""

    lesion: Inclusion
    voxels: NDArray[np.int64]
    """Voxels of the reference mask, shape (n, 3); none when a reader cannot see the lesion."""
    all_voxels: NDArray[np.int64]
    """The region of visible signal loss of a scan without noise, shape (n, 3): `voxels` where a reader
    sees the lesion, what noise hides where not."""
    contrast: float
    """Share of its signal that the darkest voxel loses, 0..1."""
    peak_drop_sds: float
    """Largest loss of signal in a voxel, in standard deviations of the noise."""

    @property
    def visible(self) -> bool:
        """Whether a reader could see the lesion."""
        return len(self.voxels) > 0


def mark_visible(
    with_lesions: NDArray[np.float32],
    without_lesions: NDArray[np.float32],
    brain: NDArray[np.bool_],
    lesions: Sequence[Inclusion],
    grid: Grid,
    noise_sd: float,
) -> list[Mark]:
    """Find the visible region of each microbleed by comparison with the same scan without them.

    The region is the 26-connected set of voxels around the core whose noise-free magnitude falls by
    more than `DROP`. Where two lesions' losses run together, a voxel belongs to the lesion that it is
    nearer to, measured in cube roots of their total susceptibilities (the sizes of their fields).

    Args:
        with_lesions: noise-free magnitude, shape (i, j, k).
        without_lesions: the same without microbleeds, all else equal.
        brain: voxels that the scan keeps.
        lesions: the microbleeds, in the frame of `grid`.
        grid: of the arrays.
        noise_sd: in units of the magnitudes.
    """
    centres = np.array([lesion.centre_mm for lesion in lesions]).reshape(-1, 3)
    sizes = np.array([np.cbrt(lesion.volume_mm3 * abs(lesion.chi_ppm)) for lesion in lesions])
    marks = []
    for number, lesion in enumerate(lesions):
        box = _box_about(grid, centres[number], lesion.radius_mm + REACH_MM)
        before = without_lesions[box].astype(np.float64)
        loss = np.where(brain[box], before - with_lesions[box], 0)
        points = _points(grid, box)
        loss[~_nearest_to(points, number, centres, sizes)] = 0
        core = np.all(np.abs(points - centres[number]) <= np.array(grid.spacing_mm) + lesion.radius_mm, axis=-1)
        region = _connected(loss > DROP * before, core, loss)
        darkest = np.where(region if region.any() else core, loss, 0)
        voxels = np.argwhere(region) + [part.start for part in box]
        peak_sds = float(darkest.max(initial=0) / noise_sd)
        marks.append(
            Mark(
                lesion,
                voxels if peak_sds > NOISE_SDS else voxels[:0],
                voxels,
                float(np.max(darkest / np.maximum(before, 1e-12), initial=0)),
                peak_sds,
            )
        )
    return marks


def _box_about(grid: Grid, centre_mm: NDArray[np.float64], reach_mm: float) -> Box:
    shape = np.array(grid.shape)
    low = np.clip(np.ceil(grid.to_voxels(centre_mm - reach_mm)), 0, shape).astype(int)
    high = np.clip(np.floor(grid.to_voxels(centre_mm + reach_mm)) + 1, low, shape).astype(int)
    i, j, k = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return i, j, k


def _points(grid: Grid, box: Box) -> NDArray[np.float64]:
    """Millimetres of each voxel of a box, shape (i, j, k, 3)."""
    axes = [
        origin + step * np.arange(part.start, part.stop)
        for part, step, origin in zip(box, grid.spacing_mm, grid.origin_mm, strict=True)
    ]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


def _nearest_to(
    points: NDArray[np.float64], number: int, centres: NDArray[np.float64], sizes: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Points that belong to lesion `number` rather than to another, shape of the box."""
    near = np.flatnonzero(np.linalg.norm(centres - centres[number], axis=1) < 4 * REACH_MM)
    distance = np.linalg.norm(points[..., None, :] - centres[near], axis=-1) / sizes[near]
    mine: NDArray[np.bool_] = near[distance.argmin(axis=-1)] == number
    return mine


def _connected(dark: NDArray[np.bool_], core: NDArray[np.bool_], loss: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The dark voxels that chains of 26-neighbours join to the one at the core that loses most."""
    region = np.zeros_like(dark)
    seeds = dark & core
    if not seeds.any():
        return region
    region[np.unravel_index(np.where(seeds, loss, -1).argmax(), dark.shape)] = True
    while True:
        grown = dilated(region) & dark
        if np.array_equal(grown, region):
            return region
        region = grown


def dilated(region: NDArray[np.bool_], axes: tuple[int, ...] = (0, 1, 2)) -> NDArray[np.bool_]:
    """The region and its neighbours one step along any of the axes at once (26 for all three)."""
    for axis in axes:
        wide = region.copy()
        ahead, behind = [slice(None)] * 3, [slice(None)] * 3
        ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
        wide[tuple(ahead)] |= region[tuple(behind)]
        wide[tuple(behind)] |= region[tuple(ahead)]
        region = wide
    return region
