"""Lesions listed as points."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.inputs.lesion_lists import described, filled, moved, space_of, to_ras_mm
from cmb_autoseg.evaluation.inputs.rows import Row, Rows, is_missing, number
from cmb_autoseg.evaluation.inputs.sides import ListGrid, Space
from cmb_autoseg.evaluation.matching.lesion_set import LesionSet

__all__ = ["POINT_COLUMNS", "read_points"]

POINT_COLUMNS = (("x_mm", "y_mm", "z_mm"), ("x", "y", "z"))
"""RAS millimetres; in the space that the user names."""
HALF_VOXEL = 0.5
ROUNDING = 1e-3
"""Voxels by which a point may leave the grid, since tables are rounded."""


def read_points(listed: Rows, space: Space | None = None, grid: ListGrid | None = None) -> LesionSet:
    """The lesions of one case from a list of points.

    Args:
        listed: rows with `x_mm y_mm z_mm` (RAS) or `x y z`, and, where known, a score (see `SCORE_COLUMNS`),
            `prob_mean`, `volume_mm3` or `diameter_mm`, and `region`. No row: read, no lesion.
        space: of `x y z`; voxel indices are those of the stored axes, a voxel's centre at a whole number.
        grid: of a mask of the case, where there is one: points must lie in it.

    Returns:
        Lesions of kind `points`, in the list's order; `affine` is of the grid's canonical axes.

    Raises:
        InputError: no such columns, no space for `x y z`, a bad number; names file and line.
    """
    names = _columns(listed)
    rows = filled(listed.rows, names)
    about = described(rows, listed.columns)
    positions = np.array([[number(row, name) for name in names] for row in rows], dtype=np.float64).reshape(-1, 3)
    if names == POINT_COLUMNS[0]:
        centres_mm = positions
    else:
        chosen = space_of(space, str(listed.path), ", ".join(names))
        centres_mm = moved(to_ras_mm(chosen, grid, str(listed.path)), positions)
    if grid is not None:
        _check_inside(rows, positions, centres_mm, grid)
    return LesionSet(
        kind="points",
        centres_mm=centres_mm,
        volumes_mm3=_volumes_mm3(rows, listed.columns),
        regions=about.regions,
        confidence=about.confidence,
        mean_probability=about.mean_probability,
        affine=None if grid is None else grid.canonical_affine,
    )


def _columns(listed: Rows) -> tuple[str, ...]:
    for names in POINT_COLUMNS:
        if set(names) <= set(listed.columns) or not listed.columns:
            return names
    raise InputError(
        f"{listed.path}: columns {', '.join(name for name in listed.columns if name)} hold no points; name them "
        "x_mm, y_mm, z_mm (RAS millimetres), or x, y, z with --space"
    )


def _check_inside(
    rows: Sequence[Row], positions: NDArray[np.float64], centres_mm: NDArray[np.float64], grid: ListGrid
) -> None:
    if grid.shape is None:
        return
    voxels = moved(np.linalg.inv(grid.affine), centres_mm)
    least, most = -HALF_VOXEL - ROUNDING, np.array(grid.shape[:3]) - HALF_VOXEL + ROUNDING
    for row, position, voxel in zip(rows, positions, voxels, strict=True):
        if np.any(voxel < least) or np.any(voxel > most):
            shown = ", ".join(f"{value:g}" for value in position)
            raise InputError(
                f"{row.where}: point ({shown}) lies outside {grid.name}; check --space, the columns, and that list "
                "and mask are of one scan"
            )


def _volumes_mm3(rows: Sequence[Row], columns: Sequence[str]) -> NDArray[np.float64]:
    """(n,); NaN where the list does not say."""
    volumes = np.full(len(rows), np.nan)
    for n, row in enumerate(rows):
        for column in ("volume_mm3", "diameter_mm"):
            if column in columns and not is_missing(row.cells.get(column)):
                size = number(row, column)
                if size <= 0:
                    raise InputError(f"{row.where}: {column} {size:g} is not positive; correct it or leave it empty")
                volumes[n] = size if column == "volume_mm3" else np.pi / 6 * size**3
                break
    return volumes
