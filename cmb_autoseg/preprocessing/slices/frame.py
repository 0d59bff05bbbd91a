"""Which part of an axial slice a picture shows, and how large.

Rows are the array axis j (y), columns the array axis i (x) of canonical volumes. Continuous coordinates have voxel 0
and pixel 0 reach from -0.5 to 0.5.
"""

from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

__all__ = ["SliceFrame"]

AT_A_TIME = 16
"""Slices that are resized at once; more only take more memory."""


@dataclass(frozen=True)
class SliceFrame:
    """A window of the scan's slices and the picture that it becomes.

    Attributes:
        scan: rows and columns of the scan's slices.
        start: first row and column of the window; negative where it begins before the scan.
        window: rows and columns of the window, in voxels.
        size: rows and columns of the picture.
    """

    scan: tuple[int, int]
    start: tuple[int, int]
    window: tuple[int, int]
    size: tuple[int, int]

    @classmethod
    def fit(
        cls,
        rows: int,
        columns: int,
        size: tuple[int, int],
        fit: Literal["crop", "pad"],
        brain: NDArray[np.bool_] | None = None,
    ) -> Self:
        """The window of a scan that has the picture's proportions.

        `crop` takes the largest that lies in the slice, and a larger one where the brain would not fit into it; `pad`
        the smallest that holds the whole slice. A window smaller than the slice lies about the brain's middle.

        Args:
            rows: of the scan's slices.
            columns: of the scan's slices.
            size: rows and columns of the picture.
            fit: see above.
            brain: (rows, columns), where any slice has brain; None where nobody knows.
        """
        scan, seen = (rows, columns), _extents(brain, (rows, columns))
        ratios = [n / side for n, side in zip(scan, size, strict=True)]
        scale = max(ratios)
        if fit == "crop":
            held = [(stop - first) / side for (first, stop), side in zip(seen, size, strict=True)]
            scale = min(ratios) if brain is None else max(min(ratios), *held)
        window = [max(1, round(side * scale)) for side in size]
        start = [_place(n, side, extent) for n, side, extent in zip(scan, window, seen, strict=True)]
        return cls(scan, (start[0], start[1]), (window[0], window[1]), size)

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels for each voxel, along rows and columns."""
        return self.size[0] / self.window[0], self.size[1] / self.window[1]

    def to_pixels(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Slices (..., rows, columns) as pictures (..., h, w), linear and without aliasing; 0 beyond the scan."""
        low, high = self._limits()
        cut = values[..., low[0] : high[0], low[1] : high[1]]
        beyond = [(at - s, s + n - end) for at, s, n, end in zip(low, self.start, self.window, high, strict=True)]
        padded = np.pad(cut, [(0, 0)] * (values.ndim - 2) + beyond) if np.any(beyond) else cut
        return _resized(padded, self.size, averaged=True)

    def to_scan(self, maps: NDArray[Any]) -> NDArray[np.float32]:
        """Maps (..., h, w) of pictures on the scan's slices (..., rows, columns); 0 where the picture saw nothing.

        Linear between pixels and never averaged: where pixels are finer than voxels, an average would halve the
        probability of a microbleed of one voxel, which is small beside its surroundings.
        """
        low, high = self._limits()
        seen = _resized(maps, self.window, averaged=False)
        result = np.zeros((*maps.shape[:-2], *self.scan), dtype=np.float32)
        rows, columns = (slice(at - s, end - s) for at, end, s in zip(low, high, self.start, strict=True))
        result[..., low[0] : high[0], low[1] : high[1]] = seen[..., rows, columns]
        return result

    def pixels_of(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """Continuous (column, row) of the scan's slices, (n, 2), as (x, y) of the picture."""
        start, scale = np.array(self.start[::-1]), np.array(self.scale[::-1])
        return np.asarray((np.asarray(points, dtype=np.float64) - start + 0.5) * scale - 0.5)

    def scan_of(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """Continuous (x, y) of the picture, (n, 2), as (column, row) of the scan's slices."""
        start, scale = np.array(self.start[::-1]), np.array(self.scale[::-1])
        return np.asarray((np.asarray(points, dtype=np.float64) + 0.5) / scale - 0.5 + start)

    def _limits(self) -> tuple[list[int], list[int]]:
        """First row and column of the part of the window that lies in the scan, and those behind its last."""
        low = [min(max(start, 0), n) for start, n in zip(self.start, self.scan, strict=True)]
        high = [
            max(min(start + side, n), at)
            for start, side, n, at in zip(self.start, self.window, self.scan, low, strict=True)
        ]
        return low, high


def _extents(brain: NDArray[np.bool_] | None, scan: tuple[int, int]) -> list[tuple[int, int]]:
    """First row and the one behind the last in which there is brain, and so of columns."""
    if brain is None or not brain.any():
        return [(0, n) for n in scan]
    found = [np.flatnonzero(brain.any(axis=other)) for other in (1, 0)]
    return [(int(index[0]), int(index[-1]) + 1) for index in found]


def _place(n: int, window: int, brain: tuple[int, int]) -> int:
    """Start of a window along one axis: within the scan if it fits, about the brain's middle as far as that allows."""
    if window >= n:
        return (n - window) // 2
    return min(max((brain[0] + brain[1] - window) // 2, 0), n - window)


def _resized(values: NDArray[Any], size: tuple[int, int], averaged: bool) -> NDArray[np.float32]:
    """(..., rows, columns) to (..., *size), linear; pixel centers map as with `align_corners=False`.

    Args:
        values: to resize.
        size: rows and columns that come out.
        averaged: where it shrinks, over all that a pixel covers.
    """
    if values.shape[-2:] == tuple(size):
        return np.ascontiguousarray(values, dtype=np.float32)
    flat = np.ascontiguousarray(values, dtype=np.float32).reshape(-1, 1, *values.shape[-2:])
    result = np.empty((len(flat), 1, *size), dtype=np.float32)
    for first in range(0, len(flat), AT_A_TIME):
        part: Tensor = torch.from_numpy(flat[first : first + AT_A_TIME])
        result[first : first + AT_A_TIME] = functional.interpolate(
            part, size=tuple(size), mode="bilinear", align_corners=False, antialias=averaged
        ).numpy()
    return result.reshape(*values.shape[:-2], *size)
