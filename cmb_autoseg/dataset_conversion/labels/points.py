"""Microbleeds marked as points: a ball about each."""

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.dataset_conversion.labels.result import LabelResult, count_lesions
from cmb_autoseg.dataset_conversion.labels.shapes import Ellipsoid, draw, is_inside, nearest_voxel, rasterize
from cmb_autoseg.dataset_conversion.labels.tables import (
    Row,
    check_column,
    is_empty,
    number,
    read_table,
    rows_of_case,
)
from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import Volume
from cmb_autoseg.records import LabelSource

__all__ = ["from_file_to_ras_mm", "read_points"]

AXES = ("x", "y", "z")


def read_points(source: LabelSource, grid: Volume) -> LabelResult:
    """A ball about each point, on `grid`.

    Raises:
        InputError: unreadable table, a missing column, no number, a point outside the grid.
    """
    points = [_locate(row, source, grid) for row in _rows(source)]
    data = draw([rasterize(ball, grid.shape, float(ball.half[0])) for ball in points], grid.shape)
    n_lesions = count_lesions(data)
    notes: tuple[str, ...] = ()
    if n_lesions != len(points):
        notes = (f"{len(points)} points share or touch voxels and are counted as {n_lesions} lesions",)
    return LabelResult(grid.with_data(data), n_lesions, notes)


def _rows(source: LabelSource) -> list[Row]:
    """The points of the case; in a table of many, a row without x, y and z says that none was found."""
    columns = [source.columns.get(axis, axis) for axis in AXES]
    if source.rows is None:
        table = read_table(source.path, source.sheet, source.variable)
    else:
        table = rows_of_case(source.path, source.sheet, source.rows)
        if source.rows.wide:
            columns = list(AXES)
    if table.columns:  # Also where no row follows: a wrong column must not turn into "read, no lesion".
        for column in columns:
            check_column(table.columns, column, f"{table.path} header")
    if source.rows is not None and not source.rows.wide:
        return [row for row in table.rows if not is_empty(row, columns)]
    return list(table.rows)


def _locate(row: Row, source: LabelSource, grid: Volume) -> Ellipsoid:
    """The ball of one row, in RAS millimetres."""
    wide = source.rows is not None and source.rows.wide
    names = {} if wide else source.columns
    position = np.array([number(row, names.get(axis, axis)) for axis in AXES])
    radius_mm = source.radius_mm
    if "radius_mm" in names or not is_empty(row, ["radius_mm"]):
        radius_mm = number(row, names.get("radius_mm", "radius_mm"))
    if radius_mm <= 0:
        raise InputError(f"{row.where}: radius_mm {radius_mm:g} is not positive; correct it")
    to_ras_mm = from_file_to_ras_mm(source.space, grid)
    centre_mm = to_ras_mm[:3, :3] @ position + to_ras_mm[:3, 3]
    if not is_inside(nearest_voxel(grid.to_voxels(centre_mm[None])[0]), grid.shape):
        raise InputError(
            f"{row.where}: point ({', '.join(f'{value:g}' for value in position)}) lies outside {grid.name}; "
            f"check labels.cmb.space (now {source.space}) and the columns"
        )
    return Ellipsoid(centre_mm, np.full(3, radius_mm), grid.affine)


def from_file_to_ras_mm(space: str, grid: Volume) -> NDArray[np.float64]:
    """(4, 4): coordinates of a space of cards to RAS millimetres; voxels are those of the grid's file."""
    if space == "ras_mm":
        return np.eye(4)
    if space == "lps_mm":
        return np.diag([-1.0, -1.0, 1.0, 1.0])
    from_zero = np.eye(4)
    if space == "voxel1":
        from_zero[:3, 3] = -1
    to_ras_mm: NDArray[np.float64] = grid.affine @ from_zero
    return to_ras_mm
