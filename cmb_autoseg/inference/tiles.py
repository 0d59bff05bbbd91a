"""Where a network's windows lie, and how they are weighted where they overlap."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.records import Triple

__all__ = ["Windows", "fitted_windows", "gaussian_weights", "nnunet_windows", "pad_to", "summed_weights"]

Number = TypeVar("Number", bound=np.generic)

OVERLAP = 1 / 16
"""Of fitted windows at least, as a share of the patch (docs/concepts/speed.md)."""
SMALLEST, LARGEST = 0.8, 1.25
"""Sides of fitted windows, as shares of the patch that the network has learned on."""
MARGIN = 1
"""Voxels beyond the brain that windows reach, for interpolation at its surface."""
GAUSSIAN_SIGMA = 1 / 8
"""Of the weights' bell, as a share of the window: nnU-Net's."""


@dataclass(frozen=True)
class Windows:
    """Windows of one size, each by its first voxel (a, b, c)."""

    size: Triple[int]
    places: tuple[Triple[int], ...]


def nnunet_windows(brain: NDArray[np.bool_], patch: Triple[int], step: float) -> Windows:
    """Windows of the patch's size, as nnU-Net spreads them, without those that hold air alone.

    Args:
        brain: (a, b, c), no smaller than the patch.
        patch: that the network has learned on.
        step: from one window to the next at most, as a share of the patch.
    """
    counts = [math.ceil((length - side) / (side * step)) + 1 for length, side in zip(brain.shape, patch, strict=True)]
    return _with_brain(brain, patch, counts)


def fitted_windows(brain: NDArray[np.bool_], patch: Triple[int], divisors: Triple[int]) -> Windows:
    """Windows about as large as the patch, whose size is chosen so that they overlap little more than they must.

    Args:
        brain: (a, b, c), no smaller than the patch.
        patch: that the network has learned on.
        divisors: what a window's sides must be multiples of, for the network's pooling.
    """
    fitted = [_fit(length, side, unit) for length, side, unit in zip(brain.shape, patch, divisors, strict=True)]
    (a, _), (b, _), (c, _) = fitted
    return _with_brain(brain, (a, b, c), [count for _, count in fitted])


def _fit(length: int, side: int, unit: int) -> tuple[int, int]:
    """Side and number of the windows along an axis: as few voxels as can be, the side as near to the patch's."""
    overlap = round(OVERLAP * side)
    choices = {(length, 1)} if length == side else set[tuple[int, int]]()
    for window in range(math.ceil(SMALLEST * side / unit) * unit, int(LARGEST * side) + 1, unit):
        if window <= length:
            choices.add((window, math.ceil((length - overlap) / max(window - overlap, 1))))
    choices.add((side, max(1, math.ceil((length - overlap) / max(side - overlap, 1)))))
    return min(choices, key=lambda choice: (choice[0] * choice[1], abs(choice[0] - side)))


def _with_brain(brain: NDArray[np.bool_], size: Triple[int], counts: Sequence[int]) -> Windows:
    """So many windows along each axis, evenly spread from end to end."""
    starts = [
        [round(index * (length - side) / max(count - 1, 1)) for index in range(count)]
        for length, side, count in zip(brain.shape, size, counts, strict=True)
    ]
    near = (
        tuple(slice(max(n - MARGIN, 0), n + side + MARGIN) for n, side in zip(place, size, strict=True))
        for place in product(*starts)
    )
    places = zip(product(*starts), near, strict=True)
    return Windows(size, tuple((a, b, c) for (a, b, c), box in places if brain[box].any()))


def gaussian_weights(size: Sequence[int]) -> NDArray[np.float32]:
    """Weights (a, b, c) of a window's voxels: 1 in the middle, falling off as nnU-Net's."""
    a, b, c = (_bell(side) for side in size)
    weights: NDArray[np.float32] = (a[:, None, None] * b[:, None] * c).astype(np.float32)
    return weights


def summed_weights(windows: Windows, shape: Sequence[int]) -> tuple[NDArray[np.float32], ...]:
    """The sum of all windows' weights, as one factor for each axis; right in the brain, of which no window is left out.

    Args:
        windows: as the functions above lay them: all combinations of some first voxels of each axis.
        shape: of the volume.
    """
    factors = []
    for axis, (side, length) in enumerate(zip(windows.size, shape, strict=True)):
        total = np.zeros(length)
        for start in {place[axis] for place in windows.places}:
            total[start : start + side] += _bell(side)
        factors.append(np.where(total > 0, total, 1).astype(np.float32))
    return tuple(factors)


def _bell(side: int) -> NDArray[np.float64]:
    distance = (np.arange(side) - side // 2) / (side * GAUSSIAN_SIGMA)
    return np.asarray(np.exp(-0.5 * distance**2))


def pad_to(values: NDArray[Number], size: Sequence[int]) -> tuple[NDArray[Number], tuple[slice, slice, slice]]:
    """Pad the last three axes with zeros on both sides until a window fits; and where the old voxels lie."""
    shape = values.shape[-3:]
    missing = [max(side - n, 0) for side, n in zip(size, shape, strict=True)]
    first, second, third = (slice(lack // 2, lack // 2 + n) for lack, n in zip(missing, shape, strict=True))
    sides = [(0, 0)] * (values.ndim - 3) + [(lack // 2, lack - lack // 2) for lack in missing]
    padded = np.pad(values, sides) if any(missing) else values
    return padded, (first, second, third)
