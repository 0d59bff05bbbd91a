"""What reading a label gives."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cmb_autoseg.geometry import Volume
from cmb_autoseg.records import Role

__all__ = ["TWENTY_SIX", "LabelResult", "SliceFaces", "count_lesions"]

TWENTY_SIX = np.ones((3, 3, 3), dtype=bool)

SliceFaces = tuple[int, float, float, float, float]
"""A box as it was drawn: slice, x_min, y_min, x_max, y_max in voxels of the stored axes, voxel 0 from 0 to 1."""


@dataclass(frozen=True)
class LabelResult:
    """A case's microbleeds."""

    volume: Volume
    """uint8, 1 in microbleeds, on the axes of the grid on which they are marked."""
    n_lesions: int
    notes: tuple[str, ...] = ()
    """What the conversion log should say, such as points counted as one lesion."""
    grid: Role | None = None
    """The sequence whose grid the volume has; None for the reference."""
    boxes: tuple[SliceFaces, ...] | None = None
    """What boxes in slices said before they became ellipses; None of other labels."""


def count_lesions(mask: NDArray[Any]) -> int:
    """Number of 26-connected components of the nonzero voxels."""
    return int(ndimage.label(mask != 0, TWENTY_SIX)[1])
