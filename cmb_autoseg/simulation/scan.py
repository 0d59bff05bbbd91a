"""A person's scan as the simulator hands it on: images, reference and truth."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.simulation.anatomy.person import Person
from cmb_autoseg.simulation.contents.sources import Contents
from cmb_autoseg.simulation.contents.visibility import Mark
from cmb_autoseg.simulation.grids import Grid
from cmb_autoseg.simulation.protocols import Protocol

__all__ = ["IMAGES", "SimulatedScan"]

IMAGES = ("mag", "phase", "swi", "minip", "qsm", "t1w")
"""What a scan can hold."""


@dataclass(frozen=True)
class SimulatedScan:
    """One session of one person. Arrays have the grid's shape (i, j, k); the whole head is in them.

    Points of the truth are in the volume's own axes; `to_ras` and `affine` lead to patient space.
    """

    person: Person
    protocol: Protocol
    grid: Grid
    images: dict[str, NDArray[np.float32]]
    """`mag` and `phase` (radians, in the vendor's sign) of shape (i, j, k, echo); `swi`, `minip`,
    `qsm` (ppm) and `t1w` of shape (i, j, k)."""
    brain: NDArray[np.bool_]
    marks: list[Mark]
    contents: Contents
    noise_sd: float
    """Of one complex channel, in units of `mag`."""
    with_lesions: NDArray[np.float32]
    """Magnitude of the last echo without noise, in units of `mag`."""
    without_lesions: NDArray[np.float32]
    """The same without the microbleeds."""
    t1w_shift: NDArray[np.float64]
    """Where the head lay during `t1w`, against its place during the rest: RAS millimetres to RAS
    millimetres, shape (4, 4); the identity unless the scan was deliberately misaligned."""

    @property
    def affine(self) -> NDArray[np.float64]:
        """Voxel index to RAS millimetres, shape (4, 4); oblique where the protocol is."""
        turn = np.eye(4)
        turn[:3, :3] = self.protocol.to_scanner
        return np.asarray(turn @ self.grid.affine, dtype=np.float64)

    def to_ras(self, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points (n, 3) of the volume's axes to RAS millimetres."""
        return np.asarray(points_mm @ np.array(self.protocol.to_scanner).T, dtype=np.float64)

    def last_echo(self, image: str) -> NDArray[np.float32]:
        """An image, shape (i, j, k); of several echoes the last one."""
        values = self.images[image]
        return values[..., -1] if values.ndim == 4 else values

    @property
    def mask(self) -> NDArray[np.uint8]:
        """1 in the visible region of each microbleed that a reader could see."""
        mask = np.zeros(self.grid.shape, dtype=np.uint8)
        for mark in self.marks:
            mask[tuple(mark.voxels.T)] = 1
        return mask
