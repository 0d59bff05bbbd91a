"""Exact area under the ROC curve of all voxels of all cases, without holding them.

Two passes over the cases. The first keeps the probabilities of each case's lesion voxels, a few thousand. The second
counts, for each of these, how many other voxels of each case are less probable; an image at a time, and of it a slab.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.errors import InputError

__all__ = ["LesionValues", "count_wins"]

VOXELS_OF_SLAB = 1 << 22


@dataclass(frozen=True)
class LesionValues:
    """The probabilities of the lesion voxels of one case."""

    values: NDArray[np.floating[Any]]
    """(n,): each value there is, rising."""
    counts: NDArray[np.int64]
    """(n,): voxels that have it."""

    @classmethod
    def of(cls, probability: NDArray[Any], marked: NDArray[np.bool_]) -> "LesionValues":
        """Keep what is needed of one case.

        Args:
            probability: (i, j, k), 0 to 1; float32 stays float32.
            marked: likewise, True where the reference has a lesion.

        Raises:
            InputError: a value is not within 0 to 1.
        """
        values, counts = np.unique(_floats(probability[marked]), return_counts=True)
        _check(values)
        return cls(values, counts.astype(np.int64))

    @property
    def n_voxels(self) -> int:
        return int(self.counts.sum())


def count_wins(
    lesions: Sequence[LesionValues], probability: NDArray[Any], marked: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """How often each case's lesion voxels are more probable than the other voxels of one case; ties count half.

    The results of all cases, stacked as columns, are what `voxel_histogram.areas_under_curve` takes.

    Args:
        lesions: of n cases.
        probability: of the one case, (i, j, k).
        marked: likewise, True where its reference has a lesion.

    Returns:
        (n,); exact below 2^52 pairs.

    Raises:
        InputError: a value is not within 0 to 1.
    """
    values = np.concatenate([own.values for own in lesions]) if lesions else np.empty(0, np.float32)
    # Twice the number of voxels below plus half of those equal, so that whole numbers suffice.
    doubled = np.zeros(len(values), np.int64)
    for n_zeros, above_zero in _sorted_parts(probability, marked):
        doubled += np.where(values > 0, 2 * n_zeros, n_zeros)
        doubled += np.searchsorted(above_zero, values, side="left")
        doubled += np.searchsorted(above_zero, values, side="right")
    wins, start = np.zeros(len(lesions)), 0
    for index, own in enumerate(lesions):
        wins[index] = own.counts @ doubled[start : start + len(own.values)] / 2
        start += len(own.values)
    return wins


def _sorted_parts(
    probability: NDArray[Any], marked: NDArray[np.bool_]
) -> Iterator[tuple[int, NDArray[np.floating[Any]]]]:
    """Voxels outside `marked`, part by part: how many are 0, and the others in order.

    Nearly all voxels of a map are 0 and need no sorting, so that most maps are one part.
    """
    n_zeros, held = 0, [np.empty(0, np.float32)]
    for part, inside in _slabs(probability, marked):
        others = _floats(part[~inside])
        held.append(others[others != 0])
        n_zeros += len(others) - len(held[-1])
        if sum(map(len, held)) >= VOXELS_OF_SLAB:
            yield n_zeros, _in_order(held)
            n_zeros, held = 0, held[:1]
    yield n_zeros, _in_order(held)


def _in_order(parts: Sequence[NDArray[np.floating[Any]]]) -> NDArray[np.floating[Any]]:
    whole = np.concatenate(parts)
    whole.sort()
    _check(whole)
    return whole


def _slabs(probability: NDArray[Any], marked: NDArray[np.bool_]) -> Iterator[tuple[NDArray[Any], NDArray[np.bool_]]]:
    """Parts of both arrays along the axis whose steps are longest in memory."""
    axis = int(np.argmax(np.abs(probability.strides)))
    rows, inside = np.moveaxis(probability, axis, 0), np.moveaxis(marked, axis, 0)
    step = max(1, VOXELS_OF_SLAB // max(1, rows[:1].size))
    for start in range(0, len(rows), step):
        yield rows[start : start + step], inside[start : start + step]


def _floats(values: NDArray[Any]) -> NDArray[np.floating[Any]]:
    return values if values.dtype in (np.float32, np.float64) else values.astype(np.float32)


def _check(rising: NDArray[np.floating[Any]]) -> None:
    if len(rising) and not (rising[0] >= 0 and rising[-1] <= 1):  # written so that NaN, which sorts last, fails too
        raise InputError(
            f"voxel AUC: found values from {rising[0]:g} to {rising[-1]:g}, expected probabilities from 0 to 1"
        )
