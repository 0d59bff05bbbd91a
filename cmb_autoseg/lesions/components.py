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
    return find_components(mask).labels


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
    labels = np.empty(mask.shape, dtype=np.int32)
    count = int(ndimage.label(mask, structure=CONNECTED_26, output=labels))
    # Lesions fill a tiny part of an image: everything after the labelling looks at their voxels only.
    inside = np.flatnonzero(mask)
    flat = labels.reshape(-1)
    found = flat[inside]
    sizes = np.bincount(found, minlength=count + 1)[1:]
    # ndimage numbers components in the order of their first voxels, so a stable sort keeps that order in ties.
    order = np.argsort(-sizes, kind="stable")
    order = order[sizes[order] >= min_voxels]
    number = np.zeros(count + 1, dtype=np.int32)
    number[order + 1] = np.arange(1, len(order) + 1)
    flat[inside] = number[found]
    axes = np.unravel_index(inside, mask.shape)
    sums = [np.bincount(found, weights=axis, minlength=count + 1)[1:] for axis in axes]
    return Components(labels, sizes[order], np.stack(sums, axis=1)[order] / sizes[order, None])
