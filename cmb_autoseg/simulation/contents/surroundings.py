"""What placing lesions and vessels needs to know of a head, as numpy arrays about the brain."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from cmb_autoseg.errors import InputError
from cmb_autoseg.simulation.anatomy.head import Head
from cmb_autoseg.simulation.contents.sources import Region
from cmb_autoseg.simulation.grids import Grid
from cmb_autoseg.simulation.protocols import Protocol

__all__ = ["Surroundings", "no_brain", "survey"]

MARGIN_MM = 10.0
"""Kept around the brain: the sinuses of the dura lie there."""
SLICES_AT_THE_ENDS = 1.5
"""A lesion this close to the end of the slab would not be seen whole."""

REGIONS = (Region.LOBAR, Region.DEEP, Region.INFRATENTORIAL)
"""In the order of their numbers in `Head.regions`."""

FloatMap = NDArray[np.float32]
BoolMap = NDArray[np.bool_]


@dataclass(frozen=True)
class Surroundings:
    """A head's tissues about the brain. Maps have the grid's shape and lie in 0..1.

    Points are millimetres in the volume's own axes, shape (n, 3).
    """

    grid: Grid
    grey: FloatMap
    white: FloatMap
    fluid: FloatMap
    blood: FloatMap
    brain: FloatMap
    depth: FloatMap
    nuclei: FloatMap
    mni_mm: FloatMap
    """Position in the average head, shape (3, i, j, k)."""
    region_map: NDArray[np.uint8]
    """0 outside the brain, else 1 + the place in `REGIONS`."""
    landmarks: dict[str, BoolMap]
    view_mm: NDArray[np.float64]
    """Corners of the part of the volume in which a lesion is seen whole, shape (2, 3)."""

    @cached_property
    def ventricles(self) -> BoolMap:
        return self.landmarks.get("ventricles", np.zeros(self.grid.shape, dtype=bool))

    @cached_property
    def regions(self) -> dict[Region, BoolMap]:
        """Where each region is."""
        return {region: self.region_map == number for number, region in enumerate(REGIONS, start=1)}

    @cached_property
    def in_view(self) -> BoolMap:
        inside = np.ones(self.grid.shape, dtype=bool)
        for axis, coordinates in enumerate(self.grid.axes_mm(torch.device("cpu"))):
            seen = (coordinates.numpy() >= self.view_mm[0, axis]) & (coordinates.numpy() <= self.view_mm[1, axis])
            inside &= seen.reshape([-1 if d == axis else 1 for d in range(3)])
        return inside

    def region_at(self, point_mm: NDArray[np.float64]) -> Region:
        """The region of one point, shape (3,); lobar outside the brain."""
        return REGIONS[max(int(self.nearest(self.region_map, point_mm[None])[0]), 1) - 1]

    def nearest(self, array: NDArray[np.generic], points_mm: NDArray[np.float64]) -> NDArray[np.generic]:
        """The value of a map at the voxel nearest to each point; the edge is repeated outside."""
        i, j, k = self._clipped(points_mm).T
        return np.asarray(array[i, j, k])

    def linear(self, array: FloatMap, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """The value of a map (..., i, j, k) between voxels, shape (..., n); the edge is repeated outside."""
        position = np.clip(self.grid.to_voxels(points_mm), 0, np.array(self.grid.shape) - 1)
        below = np.minimum(position.astype(np.int64), np.array(self.grid.shape) - 2)
        share = position - below
        total = np.zeros((*array.shape[:-3], len(points_mm)))
        for corner in np.ndindex(2, 2, 2):
            i, j, k = (below + corner).T
            weight = np.prod(np.where(corner, share, 1 - share), axis=1)
            total += weight * array[..., i, j, k]
        return total

    def from_mni(self, points_mni: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where points of the average head (MNI152 millimetres) lie in this one, shape (n, 3)."""
        step = 4
        coarse = self.mni_mm[:, ::step, ::step, ::step]
        candidates = coarse.reshape(3, -1).T
        square = (candidates**2).sum(axis=1) - 2 * points_mni.astype(np.float32) @ candidates.T
        voxels = np.stack(np.unravel_index(square.argmin(axis=1), coarse.shape[1:]), axis=1) * step
        points = self.grid.to_mm(voxels)
        for _ in range(5):
            points = points + (points_mni - self.linear(self.mni_mm, points).T)
        return points

    def _clipped(self, points_mm: NDArray[np.float64]) -> NDArray[np.int64]:
        voxels: NDArray[np.int64] = np.clip(
            np.rint(self.grid.to_voxels(points_mm)).astype(np.int64), 0, np.array(self.grid.shape) - 1
        )
        return voxels


def survey(head: Head, protocol: Protocol) -> Surroundings:
    """Cut out of a head what is about its brain.

    Raises:
        InputError: the protocol's field of view holds no brain.
    """
    box = _box_about(head.brain > 0.5, head.grid, protocol.name)
    shape = tuple(part.stop - part.start for part in box)
    origin = head.grid.to_mm(np.array([part.start for part in box]))
    grid = Grid(shape, head.grid.spacing_mm, tuple(float(value) for value in origin))  # type: ignore[arg-type]
    maps = {
        name: getattr(head, name)[box].float().cpu().numpy()
        for name in ("grey", "white", "fluid", "blood", "brain", "depth", "nuclei")
    }
    half = (np.array(protocol.matrix) / 2 - (1.5, 1.5, SLICES_AT_THE_ENDS)) * protocol.spacing_mm
    around = Surroundings(
        grid,
        **maps,
        mni_mm=head.mni_mm[(slice(None), *box)].float().cpu().numpy(),
        region_map=head.regions[box].cpu().numpy(),
        landmarks={name: mask[box].cpu().numpy() for name, mask in head.landmarks.items()},
        view_mm=np.stack([protocol.centre_mm - half, protocol.centre_mm + half]),
    )
    if not (around.in_view & (around.brain > 0.5)).any():
        raise no_brain(f"protocol {protocol.name}")
    return around


def _box_about(mask: torch.Tensor, grid: Grid, protocol: str) -> tuple[slice, slice, slice]:
    if not mask.any():
        raise no_brain(f"protocol {protocol}")
    parts = []
    for axis, step in enumerate(grid.spacing_mm):
        others = [d for d in range(3) if d != axis]
        there = torch.nonzero(mask.any(dim=others[1]).any(dim=others[0])).flatten()
        margin = int(MARGIN_MM / step)
        parts.append(slice(max(int(there[0]) - margin, 0), min(int(there[-1]) + margin + 1, grid.shape[axis])))
    return parts[0], parts[1], parts[2]


def no_brain(where: str) -> InputError:
    """The error of a scan beside the brain."""
    return InputError(f"{where}: it holds no brain tissue; move the protocol's centre_mm or enlarge its matrix")
