"""Which candidates are right, and the boxes that a detector is to find about them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from cmb_autoseg.geometry import Volume
from cmb_autoseg.lesions import find_components

__all__ = ["TrueLesions"]


@dataclass(frozen=True)
class TrueLesions:
    """The lesions of one reading, 26-connected components of its mask, numbered from 1.

    Attributes:
        voxels: (v, 3), indices (i, j, k) of all their voxels.
        numbers: (v,), of the lesion that each belongs to.
        boxes: (b, 6): lesion, slice k, then i_min, j_min, i_max, j_max of its voxels' faces in that slice, in voxel
            indices, where voxel 0 reaches from -0.5 to 0.5.
        spacing_mm: voxel size along i, j, k.
    """

    voxels: NDArray[np.int64]
    numbers: NDArray[np.int64]
    boxes: NDArray[np.float64]
    spacing_mm: tuple[float, float, float]

    @classmethod
    def of(cls, reading: Volume) -> "TrueLesions":
        """Of a mask (i, j, k)."""
        labels = find_components(reading.data > 0).labels
        voxels = np.argwhere(labels)
        numbers = labels[tuple(voxels.T)].astype(np.int64)
        pairs, pair_of = np.unique(np.stack([numbers, voxels[:, 2]], axis=1), axis=0, return_inverse=True)
        boxes = np.empty((len(pairs), 6))
        for pair, (lesion, slice_index) in enumerate(pairs):
            inside = voxels[pair_of.reshape(-1) == pair, :2]
            boxes[pair] = (lesion, slice_index, *(inside.min(axis=0) - 0.5), *(inside.max(axis=0) + 0.5))
        return cls(voxels, numbers, boxes, reading.spacing_mm)

    def __len__(self) -> int:
        return int(self.numbers.max(initial=0))

    def hit_by(self, points: NDArray[np.int64], near_mm: float) -> NDArray[np.int64]:
        """Number of the lesion that each point (n, 3) lies in or nearest to, (n,); 0 where none is near.

        Args:
            points: voxel indices.
            near_mm: farthest distance from the middle of a lesion's voxel; the next slice is near however thick.
        """
        if not len(self.voxels) or not len(points):
            return np.zeros(len(points), dtype=np.int64)
        scale = np.array([*self.spacing_mm[:2], min(self.spacing_mm[2], near_mm)])
        distances, nearest = cKDTree(self.voxels * scale).query(points * scale)
        return np.where(distances <= near_mm + 1e-6, self.numbers[nearest], 0)

    def middle_voxel(self, lesion: int) -> NDArray[np.int64]:
        """(3,): the lesion's own voxel that is nearest to its centre of mass."""
        own = self.voxels[self.numbers == lesion]
        away_mm = (own - own.mean(axis=0)) * self.spacing_mm
        middle: NDArray[np.int64] = own[int(np.argmin((away_mm**2).sum(axis=1)))]
        return middle

    def boxes_in(self, slice_index: int, lesion: int) -> NDArray[np.float64]:
        """(n, 4): i_min, j_min, i_max, j_max of the lesions in a slice.

        Args:
            slice_index: k.
            lesion: one that is shown by its nearest slice where it does not reach this one; 0 for none.
        """
        here = self.boxes[self.boxes[:, 1] == slice_index]
        if lesion and lesion not in here[:, 0]:
            own = self.boxes[self.boxes[:, 0] == lesion]
            here = np.concatenate([here, own[[int(np.argmin(np.abs(own[:, 1] - slice_index)))]]])
        found: NDArray[np.float64] = here[:, 2:]
        return found
