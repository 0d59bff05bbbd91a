"""What a reader can see of a microbleed: the reference mask."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.simulation.contents.draws import Sphere
from cmb_autoseg.simulation.grids import Grid

__all__ = ["Mark", "mark_visible"]

DROP = 0.22
"""Voxels that lose more than this share of their signal belong to the lesion."""
NOISE_SDS = 3.0
"""A reader sees a lesion whose drop exceeds this many noise standard deviations in some voxel."""
REACH_MM = 6.0
"""No visible region extends further from its core."""


@dataclass(frozen=True)
class Mark:
    """One simulated microbleed and what of it is visible."""

    sphere: Sphere
    voxels: NDArray[np.int64]
    """Voxels of the mask, shape (n, 3); none when a reader cannot see the lesion."""

    @property
    def visible(self) -> bool:
        return len(self.voxels) > 0


def mark_visible(
    with_lesions: NDArray[np.float32],
    without_lesions: NDArray[np.float32],
    brain: NDArray[np.bool_],
    spheres: list[Sphere],
    grid: Grid,
    noise_sd: float,
) -> list[Mark]:
    """Find the visible region of each microbleed by comparison with the same scan without them.

    The region is the 26-connected set of voxels around the core whose noise-free magnitude falls by
    more than `DROP`. Regions of different lesions are kept a voxel apart.

    Args:
        with_lesions: noise-free magnitude, shape (i, j, k).
        without_lesions: the same without microbleeds, all else equal.
        brain: voxels that the scan keeps.
        spheres: the microbleeds.
        grid: of the arrays.
        noise_sd: in units of the magnitudes.
    """
    loss = without_lesions - with_lesions
    dark = (loss > DROP * without_lesions) & brain
    taken = np.zeros(dark.shape, dtype=bool)
    marks = []
    for sphere in spheres:
        voxels = _region(dark & ~taken, loss, sphere, grid)
        if len(voxels) and loss[tuple(voxels.T)].max() <= NOISE_SDS * noise_sd:
            voxels = voxels[:0]
        for offset in np.ndindex(3, 3, 3):
            shifted = np.clip(voxels + np.array(offset) - 1, 0, np.array(dark.shape) - 1)
            taken[tuple(shifted.T)] = True
        marks.append(Mark(sphere, voxels))
    return marks


def _region(dark: NDArray[np.bool_], loss: NDArray[np.float32], sphere: Sphere, grid: Grid) -> NDArray[np.int64]:
    """The connected dark voxels about a core, grown from the darkest one next to it, shape (n, 3)."""
    centre = np.array(sphere.centre_mm)
    spacing = np.array(grid.spacing_mm)
    near = _voxels_within(grid, centre, REACH_MM + spacing.max())
    near = np.compress(dark[tuple(near.T)], near, axis=0)
    distance = np.abs(grid.to_mm(near) - centre)
    seeds = near[np.all(distance <= spacing + sphere.radius_mm, axis=1)]
    if not len(seeds):
        return near[:0]
    seed = seeds[int(loss[tuple(seeds.T)].argmax())]
    return _grow(near, seed)


def _grow(voxels: NDArray[np.int64], seed: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those of `voxels` that a chain of 26-neighbours joins to `seed`, in the order given."""
    joined = np.all(voxels == seed, axis=1)
    front = joined.copy()
    while front.any():
        steps = np.abs(voxels[:, None] - voxels[None, front]).max(axis=2)
        front = (steps <= 1).any(axis=1) & ~joined
        joined |= front
    grown: NDArray[np.int64] = voxels[joined]
    return grown


def _voxels_within(grid: Grid, centre_mm: NDArray[np.float64], radius_mm: float) -> NDArray[np.int64]:
    middle = grid.to_voxels(centre_mm)
    reach = radius_mm / np.array(grid.spacing_mm)
    low = np.maximum(np.ceil(middle - reach), 0).astype(np.int64)
    high = np.minimum(np.floor(middle + reach), np.array(grid.shape) - 1).astype(np.int64)
    axes = [np.arange(a, b + 1) for a, b in zip(low, high, strict=True)]
    box = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    within: NDArray[np.int64] = box[np.linalg.norm(grid.to_mm(box) - centre_mm, axis=1) <= radius_mm]
    return within
