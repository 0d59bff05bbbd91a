"""Microbleeds marked as voxels of a mask."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.dataset_conversion.labels.result import LabelResult, count_lesions
from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import Volume, check_same_grid, from_canonical, same_grid, to_canonical
from cmb_autoseg.preprocessing.resampling import resample_lesions_to
from cmb_autoseg.readers import read_volume
from cmb_autoseg.records import ImageSource, LabelSource

__all__ = ["read_mask", "values_that_occur"]

SAME_AXES_MM = 1e-3
"""A step from voxel to voxel differs by less in rounding, and by more when axes are turned."""


def read_mask(source: LabelSource, grid: Volume) -> LabelResult:
    """The voxels whose value is that of `cmb`, on `grid`.

    Raises:
        InputError: unreadable file, a value that is not listed.
        GeometryError: the mask is on another grid and may not be resampled, or resampling would
            lose or merge a lesion.
    """
    volume = _read(source, grid.affine)
    _check_values(source, volume)
    mask = volume.with_data((volume.data == source.values["cmb"]).astype(np.uint8))
    if source.resample == "refuse":
        mask, notes = _with_axes_of(grid, mask)
        check_same_grid(mask, grid, "set labels.cmb.resample: nearest to allow another grid")
        return LabelResult(grid.with_data(mask.data), count_lesions(mask.data), notes)
    moved, notes = resample_lesions_to(mask, grid)
    return LabelResult(grid.with_data(moved.data), count_lesions(moved.data), notes)


def _with_axes_of(grid: Volume, mask: Volume) -> tuple[Volume, tuple[str, ...]]:
    """A mask of the same voxels in another order of axes, as viewers save them, in the grid's order; lossless."""
    same_axes = mask.shape == grid.shape and np.allclose(mask.affine[:3, :3], grid.affine[:3, :3], atol=SAME_AXES_MM)
    if same_axes or not same_grid((mask.shape, mask.affine), (grid.shape, grid.affine)):
        return mask, ()
    data = from_canonical(to_canonical(mask).data, grid)
    return grid.with_data(data), ("mask: its axes run otherwise than the scan's; the voxels are the same",)


def _read(source: LabelSource, affine: NDArray[np.float64]) -> Volume:
    """The mask as it is stored; formats without geometry get the one given."""
    rows: Any = tuple(tuple(map(float, row)) for row in affine)
    if source.files:
        image = ImageSource(kind="pictures", path=source.path, files=source.files, affine=rows)
    else:
        bare = source.path.lower().endswith(".mat")
        image = ImageSource(path=source.path, variable=source.variable, affine=rows if bare else None)
    return read_volume(image, dtype=np.float64)


def values_that_occur(sources: Sequence[LabelSource]) -> list[float]:
    """Values besides 0 in any of the masks.

    Raises:
        InputError: a mask cannot be read.
    """
    found: set[float] = set()
    for source in sources:
        for path in source.raters.values() or (source.path,):
            volume = _read(source.model_copy(update={"path": path}), np.eye(4))
            found.update(np.unique(volume.data).tolist())
    return sorted(found - {0})


def _check_values(source: LabelSource, volume: Volume) -> None:
    legal = {0, *source.values.values()}
    foreign = [value for value in np.unique(volume.data) if value not in legal]
    if foreign:
        listed = ", ".join(f"{name} = {value}" for name, value in source.values.items())
        raise InputError(
            f"{source.path}: found label value {foreign[0]:g}, legal are 0 and {listed}; {_cure(foreign[0])}"
        )


def _cure(value: float) -> str:
    """What to do about a value of a mask that the card does not list."""
    if not float(value).is_integer():
        return "correct the mask, only whole numbers can be listed under labels.cmb.values"
    return (
        f"if it is the microbleeds' value, write values: {{cmb: {value:g}}}; "
        "if it is something else, list it under another name in labels.cmb.values"
    )
