"""Which voxels are one lesion: the 26-connected components of a mask."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["Components", "find_components", "label_components"]

CONNECTED_26 = np.ones((3, 3, 3), dtype=bool)


def label_components(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Number the 26-connected components of a mask of shape (i, j, k).

    Returns:
        An array of the same shape: 0 outside, 1 for the largest component, and so on by falling
        number of voxels; of equal ones, the one that comes first in the array has the lower number.
    """
    labels = np.empty(mask.shape, dtype=np.int32)
    count = int(ndimage.label(mask, structure=CONNECTED_26, output=labels))
    sizes = np.bincount(labels[labels > 0], minlength=count + 1)[1:]
    # ndimage numbers components in the order of their first voxels, so a stable sort keeps that order in ties.
    order = np.argsort(-sizes, kind="stable")
    rank = np.zeros(count + 1, dtype=np.int32)
    rank[order + 1] = np.arange(1, count + 1)
    numbered: NDArray[np.int32] = rank[labels]
    return numbered


@dataclass(frozen=True)
class Components:
    """The components of one mask, numbered as `label_components` does; number n is at index n - 1."""

    labels: NDArray[np.int32]
    """(i, j, k), 0 outside."""
    sizes: NDArray[np.int64]
    """(n,), voxels."""
    centres: NDArray[np.float64]
    """(n, 3), centre of mass of the mask in voxel indices (i, j, k), every voxel weighing the same."""

    def __len__(self) -> int:
        return len(self.sizes)


def find_components(mask: NDArray[np.bool_], min_voxels: float = 0.0) -> Components:
    """Find the components of a mask (i, j, k) that have at least `min_voxels` voxels."""
    labels = label_components(mask)
    voxels = np.nonzero(labels)
    numbers = labels[voxels]
    sizes = np.bincount(numbers)[1:]
    # Components come by falling size, so those that are large enough are the first ones.
    kept = int(np.count_nonzero(sizes >= min_voxels))
    sums = [np.bincount(numbers, weights=axis, minlength=len(sizes) + 1)[1:] for axis in voxels]
    centres = np.stack(sums, axis=1)[:kept] / sizes[:kept, None]
    return Components(np.where(labels <= kept, labels, np.int32(0)), sizes[:kept], centres)
