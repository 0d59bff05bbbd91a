"""Where volumes lie whose files do not say it: MATLAB arrays and pictures."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.errors import InputError
from cmb_autoseg.records import Affine

__all__ = ["Slice", "affine_by_axes", "affine_by_slices"]

DIRECTIONS = {"R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}
OFF_LINE_MM = 0.2
"""Tables are rounded; middles of slices that lie farther from one line are not of one stack."""
MOST_TILT_DEG = 45.0
"""Slices that are tilted by more are better described by other axes."""


@dataclass(frozen=True)
class Slice:
    """Where one picture lies."""

    number: int
    """Of the slice, as the stack counts."""
    middle_mm: tuple[float, float, float]
    """Middle of the picture, RAS millimetres."""
    pixel_mm: float
    slice_mm: float


def affine_by_axes(spacing_mm: Sequence[float], axes: str) -> Affine:
    """Axes that run straight to where their letters say, the first voxel at the origin.

    Args:
        spacing_mm: along i, j, k.
        axes: where i, j, k run, as in `LPS`.
    """
    affine = np.eye(4)
    affine[:3, :3] = _directions(axes) * np.asarray(spacing_mm, dtype=np.float64)
    return _rows(affine)


def affine_by_slices(slices: Sequence[Slice], axes: str, picture_shape: tuple[int, int]) -> Affine:
    """The affine of a stack of pictures whose middles are known.

    Slices follow each other along the line through their middles. Pictures are taken to stand at right angles to
    it: of an oblique stack the columns and rows are those of `axes`, turned the shortest way.

    Args:
        slices: at least one, by number; the first becomes k = 0.
        axes: where columns, rows and slices run, as in `LPS`; slices may run the other way.
        picture_shape: columns and rows of each picture.

    Raises:
        InputError: sizes differ between slices, or their middles do not lie on one line, evenly, near the axes.
    """
    sizes = {(one.pixel_mm, one.slice_mm) for one in slices}
    if len(sizes) > 1:
        raise InputError("slices differ in pixel_mm or slice_mm; a scan has one size")
    pixel_mm, slice_mm = next(iter(sizes))
    nominal = _directions(axes)
    step_mm = _step_mm(slices, nominal[:, 2] * slice_mm)
    along = step_mm / np.linalg.norm(step_mm)
    facing = nominal[:, 2] if along @ nominal[:, 2] > 0 else -nominal[:, 2]
    tilt_deg = math.degrees(math.acos(float(np.clip(along @ facing, -1, 1))))
    if tilt_deg > MOST_TILT_DEG:
        raise InputError(
            f"slices follow each other {tilt_deg:.0f} degrees off the third of axes ({axes}); correct axes"
        )
    turn = _shortest_turn(facing, along)
    affine = np.eye(4)
    affine[:3, :2] = (turn @ nominal)[:, :2] * pixel_mm
    affine[:3, 2] = step_mm
    middle = np.array([*((size - 1) / 2 for size in picture_shape), 0])
    affine[:3, 3] = np.array(slices[0].middle_mm) - affine[:3, :3] @ middle
    return _rows(affine)


def _directions(axes: str) -> NDArray[np.float64]:
    """Unit vectors (RAS) of the three axes as columns."""
    return np.array([DIRECTIONS[letter] for letter in axes], dtype=np.float64).T


def _step_mm(slices: Sequence[Slice], alone_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """From the middle of one slice to that of the next; of a single slice `alone_mm`."""
    if len(slices) == 1:
        return alone_mm
    numbers = np.array([one.number for one in slices], dtype=np.float64)
    middles = np.array([one.middle_mm for one in slices])
    step_mm = (middles[-1] - middles[0]) / (numbers[-1] - numbers[0])
    expected = middles[0] + (numbers - numbers[0])[:, None] * step_mm
    off_mm = np.linalg.norm(middles - expected, axis=1)
    if not np.linalg.norm(step_mm) > 0 or off_mm.max() > OFF_LINE_MM:
        worst = slices[int(off_mm.argmax())].number
        raise InputError(
            f"the middle of slice {worst} is {off_mm.max():.2f} mm off the line of evenly spaced slices; "
            "correct the table"
        )
    return np.asarray(step_mm, dtype=np.float64)


def _shortest_turn(start: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rotation that takes one unit vector to another the shortest way (Rodrigues); they must not be opposite."""
    axis = np.cross(start, end)
    skew = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    turn: NDArray[np.float64] = np.eye(3) + skew + skew @ skew / (1 + float(start @ end))
    return turn


def _rows(affine: NDArray[np.float64]) -> Affine:
    a, b, c, d = ((float(w), float(x), float(y), float(z)) for w, x, y, z in affine)
    return a, b, c, d
