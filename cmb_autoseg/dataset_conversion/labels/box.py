"""One box about a microbleed, and what is legal for it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.dataset_conversion.labels.shapes import Ellipsoid, is_inside, nearest_voxel
from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import Volume
from cmb_autoseg.records import LabelSource

__all__ = ["Box", "Picture", "box_in_voxels", "is_microbleed"]

AXES = "xyz"
WIDTHS = ("width", "height", "depth")
OVERLAP_VOXELS = 0.51
"""Boxes may reach half a voxel beyond the picture: programs round, and count pixels from their middle or edge."""


@dataclass(frozen=True)
class Picture:
    """A slice, or a whole volume, in which a file of boxes marks microbleeds."""

    file: str
    """The boxes; '' where there is no file."""
    image: str
    """The picture or scan itself, by its path."""
    slice: int | None
    """Index of the slice on the grid; None of a volume with boxes of three dimensions."""


@dataclass(frozen=True)
class Box:
    """A box whose faces lie between voxels, in coordinates that `to_file` gives."""

    where: str
    low: NDArray[np.float64]
    """(3,)"""
    high: NDArray[np.float64]
    """(3,)"""
    to_file: NDArray[np.float64]
    """(4, 4), voxel indices of the grid to the coordinates of the box."""
    slice: int | None = None
    """Of a box of two dimensions."""

    @property
    def inscribed(self) -> Ellipsoid:
        return Ellipsoid((self.low + self.high) / 2, (self.high - self.low) / 2, self.to_file)


def box_in_voxels(
    where: str, low: NDArray[np.float64], high: NDArray[np.float64], picture: Picture, grid: Volume
) -> Box:
    """A box by its faces in voxels of the grid, of which voxel 0 reaches from -0.5 to 0.5.

    Args:
        where: what messages call it.
        low: (2,) on a slice, (3,) in a volume.
        high: as `low`.
        picture: in which it is.
        grid: of the label.

    Raises:
        InputError: a size that is not positive, a box beyond the picture, two dimensions in a volume
            of several slices, three in a slice.
    """
    if len(low) == 2:
        at = picture.slice if picture.slice is not None else 0 if grid.shape[2] == 1 else None
        if at is None:
            raise InputError(
                f"{where}: a 2D box in a volume of {grid.shape[2]} slices; give three dimensions, or a file a slice"
            )
        low, high = np.append(low, at - 0.5), np.append(high, at + 0.5)
    elif picture.slice is not None:
        raise InputError(f"{where}: a 3D box in a picture; give x, y, width and height")
    else:
        at = None
    check_size(where, low, high)
    shape = np.array(grid.shape)
    if np.any(low < -0.5 - OVERLAP_VOXELS) or np.any(high > shape - 0.5 + OVERLAP_VOXELS):
        listed = " ".join(f"{axis} {a + 0.5:g}..{b + 0.5:g}" for axis, a, b in zip(AXES, low, high, strict=True))
        size = " x ".join(map(str, grid.shape if at is None else grid.shape[:2]))
        raise InputError(
            f"{where}: box {listed} (from 0) reaches beyond the {size} voxels of the image; correct the box"
        )
    return Box(where, np.maximum(low, -0.5), np.minimum(high, shape - 0.5), np.eye(4), at)


def check_size(where: str, low: NDArray[np.float64], high: NDArray[np.float64]) -> None:
    """Raises InputError where a box has no extent along an axis."""
    for name, extent in zip(WIDTHS, high - low, strict=True):
        if extent <= 0:
            raise InputError(f"{where}: {name} {extent:g} is not positive; correct the box")


def check_middle(box: Box, grid: Volume) -> None:
    """Raises InputError where a box lies outside the scan."""
    to_voxels = np.linalg.inv(box.to_file)
    middle = to_voxels[:3, :3] @ box.inscribed.centre + to_voxels[:3, 3]
    if not is_inside(nearest_voxel(middle), grid.shape):
        place = ", ".join(f"{value:g}" for value in box.inscribed.centre)
        raise InputError(f"{box.where}: the box about ({place}) lies outside {grid.name}; check labels.cmb.space")


def is_microbleed(found: int | str, name: str | None, source: LabelSource, where: str) -> bool:
    """Whether a box of this class is a microbleed's.

    Args:
        found: number or name of the class, as the box has it.
        name: of a class with a number, where the file gives one.
        source: whose `values` list the classes.
        where: what messages call the box.

    Raises:
        InputError: the class is not listed.
    """
    known = {str(found), *([name] if name else [])}
    for label, value in source.values.items():
        if str(value) in known:
            return label == "cmb"
    shown = name or found
    listed = ", ".join(f"{label} = {value}" for label, value in source.values.items()) or "none"
    raise InputError(
        f"{where}: found class {shown}, legal are {listed}; if it is the microbleeds', write values: {{cmb: {shown}}}; "
        "if it is something else, list it under another name in labels.cmb.values"
    )
