"""The grid of a network's input, there and back: crop to the brain, then linear interpolation, as nnU-Net does both.

Formulas after nnunetv2 2.8 (`DefaultPreprocessor`, `resample_torch_fornnunet`), whose results they equal; nnunetv2
itself is not needed, since loading it takes longer than a scan.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import mask_box
from cmb_autoseg.records import Triple
from cmb_autoseg.workspace import CONFIGURATION

__all__ = ["NetworkGrid", "mirror_axes", "network_grid"]

THICK_SLICES = 3.0
"""From this ratio of the coarsest to the finest spacing on, slices are not interpolated between: nnU-Net's constant."""

PLANE_AXES = {"axial": 0, "coronal": 1, "sagittal": 2}
"""Axis of (z, y, x) that a mirror in this plane turns round: sagittal swaps left and right."""


@dataclass(frozen=True)
class NetworkGrid:
    """Where a network's input lies in the scan that it was made of.

    Axes are the network's unless said otherwise: axis `a` of the network is axis `transpose_forward[a]` of (z, y, x).
    """

    transpose_forward: Triple[int]
    scan_shape: Triple[int]
    scan_spacing_mm: Triple[float]
    box: tuple[slice, slice, slice]
    """Of the scan, within which the brain lies."""
    brain: NDArray[np.bool_]
    """(a, b, c) in the box: where the scan is not blank, holes filled."""
    spacing_mm: Triple[float]
    shape: Triple[int]
    """Of the box on the network's grid."""

    @property
    def box_shape(self) -> Triple[int]:
        a, b, c = (side.stop - side.start for side in self.box)
        return a, b, c

    @property
    def nnunet_properties(self) -> dict[str, Any]:
        """The same in nnU-Net's words, as it wants them beside a preprocessed case."""
        backward = np.argsort(self.transpose_forward)
        return {
            "spacing": [self.scan_spacing_mm[axis] for axis in backward],
            "shape_before_cropping": self.scan_shape,
            "bbox_used_for_cropping": [[side.start, side.stop] for side in self.box],
            "shape_after_cropping_and_before_resampling": self.box_shape,
        }

    def crop(self, values: NDArray[Any]) -> NDArray[Any]:
        """A view (..., a, b, c) of the box of an array (..., z, y, x)."""
        leading = values.ndim - 3
        turned = values.transpose([*range(leading), *(leading + axis for axis in self.transpose_forward)])
        return turned[(..., *self.box)]

    def onto(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Interpolate (channel, a, b, c) of the box to the network's grid."""
        return _interpolated(values, self.shape, self.scan_spacing_mm, self.spacing_mm)

    def back(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Interpolate (channel, a, b, c) of the network's grid to the box."""
        return _interpolated(values, self.box_shape, self.spacing_mm, self.scan_spacing_mm)

    def in_scan(self, values: NDArray[Any]) -> NDArray[Any]:
        """(i, j, k) of the whole scan, of values (a, b, c) in the box; 0 elsewhere."""
        whole = np.zeros([self.scan_shape[axis] for axis in np.argsort(self.transpose_forward)][::-1], values.dtype)
        self.crop(whole.transpose(2, 1, 0))[:] = values
        return whole


def network_grid(brain: NDArray[np.bool_], spacing_mm: Sequence[float], plans: Mapping[str, Any]) -> NetworkGrid:
    """The grid for a scan.

    Args:
        brain: (z, y, x), where the scan is not blank.
        spacing_mm: (z, y, x).
        plans: nnU-Net's, whose order of axes and spacing they are.

    Raises:
        InputError: the brain is empty.
    """
    first, second, third = (int(axis) for axis in plans["transpose_forward"])
    forward = (first, second, third)
    target = [float(size) for size in plans["configurations"][CONFIGURATION]["spacing"]]
    turned = brain.transpose(forward)
    box = mask_box(turned)
    if box is None:
        raise InputError("no brain: every voxel is zero; export the scan again or leave it out")
    spacing = [float(spacing_mm[axis]) for axis in forward]
    filled = _without_holes(turned[box])
    shape = (max(1, round(old / new * n)) for old, new, n in zip(spacing, target, filled.shape, strict=True))
    return NetworkGrid(
        transpose_forward=forward,
        scan_shape=turned.shape,
        scan_spacing_mm=tuple(spacing),  # type: ignore[arg-type]
        box=box,  # type: ignore[arg-type]
        brain=filled,
        spacing_mm=tuple(target),  # type: ignore[arg-type]
        shape=tuple(shape),
    )


def mirror_axes(planes: Iterable[str], transpose_forward: Sequence[int]) -> tuple[int, ...]:
    """Axes of the network's input, sorted, that mirrors in these planes turn round."""
    return tuple(sorted({list(transpose_forward).index(PLANE_AXES[plane]) for plane in planes}))


def _without_holes(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill what cannot be reached from outside through faces; `scipy.ndimage.binary_fill_holes` in one pass."""
    labels, _ = ndimage.label(~np.pad(mask, 1))
    return np.asarray(labels != labels[0, 0, 0])[1:-1, 1:-1, 1:-1]


def _interpolated(
    values: NDArray[np.float32], shape: Triple[int], old_mm: Sequence[float], new_mm: Sequence[float]
) -> NDArray[np.float32]:
    """Trilinear; with thick slices bilinear in-plane and the nearest slice across."""
    thick = _thick_axis(old_mm)
    thick = _thick_axis(new_mm) if thick is None else thick
    # Axes that shrink come first, so that the others have less to do.
    for axis in sorted(range(3), key=lambda axis: shape[axis] / values.shape[1 + axis]):
        values = _along(values, 1 + axis, shape[axis], nearest=axis == thick)
    return values


def _along(values: NDArray[np.float32], axis: int, length: int, nearest: bool) -> NDArray[np.float32]:
    """Another number of voxels over the same extent of one axis, whose outermost values go on beyond their centres."""
    old = values.shape[axis]
    if length == old:
        return values
    if nearest:
        # In single precision, which decides ties as PyTorch does.
        nearest_old = np.floor((np.arange(length, dtype=np.float32) + 0.5) * np.float32(old / length)).astype(int)
        return np.asarray(np.take(values, nearest_old, axis))
    at = np.clip((np.arange(length) + 0.5) * old / length - 0.5, 0, old - 1)
    below = np.floor(at).astype(int)
    sides = [1] * values.ndim
    sides[axis] = length
    share = (at - below).astype(np.float32).reshape(sides)
    result = np.asarray(np.take(values, below, axis))
    result += share * (np.take(values, np.minimum(below + 1, old - 1), axis) - result)
    return result


def _thick_axis(spacing_mm: Sequence[float]) -> int | None:
    """The one axis that is much coarser than the finest."""
    coarsest = [axis for axis in range(3) if spacing_mm[axis] == max(spacing_mm)]
    return coarsest[0] if max(spacing_mm) / min(spacing_mm) > THICK_SLICES and len(coarsest) == 1 else None
