"""Which voxels are one lesion: the 26-connected components of a mask."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cmb_autoseg.geometry import mask_box

__all__ = ["Components", "Connectivity", "components_of_labels", "find_components", "label_components"]

Connectivity = Literal[6, 18, 26]
"""Neighbours of a voxel that belong to the same lesion: those that share a face; an edge, too; a corner, too."""
NEIGHBOURS = {6: 1, 18: 2, 26: 3}
"""How many axes a neighbour may differ in."""


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

    def take(self, indices: NDArray[np.intp]) -> "Components":
        """Some of the components (rising indices), numbered anew; the voxels of the others become background."""
        number = np.zeros(len(self) + 1, dtype=np.int32)
        number[indices + 1] = np.arange(1, len(indices) + 1)
        return Components(number[self.labels], self.sizes[indices], self.centres[indices])


def find_components(mask: NDArray[np.bool_], min_voxels: float = 0.0, connectivity: Connectivity = 26) -> Components:
    """Find the components of a mask (i, j, k) that have at least `min_voxels` voxels."""
    labels = np.zeros(mask.shape, dtype=np.int32)
    structure = ndimage.generate_binary_structure(3, NEIGHBOURS[connectivity])
    box = mask_box(mask) or (slice(0),) * mask.ndim  # microbleeds are few, and to go through a whole scan takes long
    count = int(ndimage.label(mask[box], structure=structure, output=labels[box]))
    return components_of_labels(labels, count, min_voxels)


def components_of_labels(labels: NDArray[np.int32], count: int, min_voxels: float = 0.0) -> Components:
    """Describe numbered components, which are numbered anew in place, by falling size.

    Args:
        labels: (i, j, k), 0 outside; taken over.
        count: the highest number.
        min_voxels: smaller components become background.
    """
    # Lesions fill a tiny part of an image: everything after the labelling looks at their voxels only.
    flat = labels.reshape(-1)
    inside = np.flatnonzero(flat)
    found = flat[inside]
    sizes = np.bincount(found, minlength=count + 1)[1:]
    # Components come in the order of their first voxels, so a stable sort keeps that order in ties.
    order = np.argsort(-sizes, kind="stable")
    order = order[sizes[order] >= min_voxels]
    number = np.zeros(count + 1, dtype=np.int32)
    number[order + 1] = np.arange(1, len(order) + 1)
    flat[inside] = number[found]
    axes = np.unravel_index(inside, labels.shape)
    sums = [np.bincount(found, weights=axis, minlength=count + 1)[1:] for axis in axes]
    return Components(labels, sizes[order], np.stack(sums, axis=1)[order] / sizes[order, None])
