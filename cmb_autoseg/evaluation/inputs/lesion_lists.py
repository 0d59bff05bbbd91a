"""What lists of points and of boxes share: scores, regions and sizes of the lesions, and the place of their numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.inputs.rows import Row, cell_text, first_of, is_missing, number
from cmb_autoseg.evaluation.inputs.sides import SPACES, ListGrid, Space

__all__ = ["REGIONS", "SCORE_COLUMNS", "Described", "described", "filled", "moved", "space_of", "to_ras_mm"]

SCORE_COLUMNS = ("score", "probability", "confidence", "prob_max", "prob")
MEAN_COLUMN = "prob_mean"
REGIONS = ("lobar", "deep", "infratentorial", "unknown")
SCORE_TOLERANCE = 1e-6
"""Means over folds overshoot 1 by a rounding error now and then."""


@dataclass(frozen=True)
class Described:
    """What a list says of its lesions beside their places."""

    confidence: NDArray[np.float64] | None
    """(n,)."""
    mean_probability: NDArray[np.float64] | None
    """(n,)."""
    regions: tuple[str, ...]


def described(rows: Sequence[Row], columns: Sequence[str]) -> Described:
    """Scores and regions of the lesions of a list.

    A list without columns (0 bytes) speaks of no lesion, so its confidences are known: there are none.

    Raises:
        InputError: a score that is no number within 0..1, a region of another name; names file and line.
    """
    score, mean = first_of(columns, SCORE_COLUMNS), MEAN_COLUMN if MEAN_COLUMN in columns else None
    if score is None and not columns:
        confidence: NDArray[np.float64] | None = np.zeros(0)
    else:
        confidence = _scores(rows, score or mean)
    regions = tuple(_region(row) for row in rows)
    return Described(confidence, confidence if mean is None else _scores(rows, mean), regions)


def filled(rows: Sequence[Row], columns: Sequence[str]) -> list[Row]:
    """The rows that hold a place; one without any says that its case was read and holds no lesion."""
    return [row for row in rows if not all(is_missing(row.cells.get(column)) for column in columns)]


def _scores(rows: Sequence[Row], column: str | None) -> NDArray[np.float64] | None:
    """(n,); None where the column is not there, or is empty in all rows."""
    if column is None or (rows and all(is_missing(row.cells.get(column)) for row in rows)):
        return None
    scores = np.array([number(row, column) for row in rows], dtype=np.float64)
    for row, score in zip(rows, scores, strict=True):
        if not -SCORE_TOLERANCE <= score <= 1 + SCORE_TOLERANCE:
            raise InputError(
                f"{row.where}: {column} {score:g} is not within 0 and 1; write probabilities (percent divided by 100, "
                "logits through a sigmoid)"
            )
    return np.clip(scores, 0.0, 1.0)


def _region(row: Row) -> str:
    cell = row.cells.get("region")
    if is_missing(cell):
        return "unknown"
    if cell_text(cell) not in REGIONS:
        raise InputError(f"{row.where}: region {cell_text(cell)!r}, legal are {', '.join(REGIONS)}; correct it")
    return cell_text(cell)


def to_ras_mm(space: Space, grid: ListGrid | None, where: str) -> NDArray[np.float64]:
    """(4, 4): coordinates of a list to RAS millimetres.

    Args:
        space: of the coordinates.
        grid: whose voxels they count, where they do.
        where: the list, for messages.

    Raises:
        InputError: voxels without a grid.
    """
    if space == "ras_mm":
        return np.eye(4)
    if space == "lps_mm":
        return np.diag([-1.0, -1.0, 1.0, 1.0])
    if grid is None:
        raise InputError(
            f"{where}: counts in voxels ({space}), but neither side of the case has a mask whose voxels are known; "
            "give the voxel size with --spacing, or coordinates in millimetres"
        )
    if grid.planar:
        raise InputError(f"{where}: counts in voxels of three axes, so --spacing needs three sizes, such as 0.5 0.5 2")
    from_zero = np.eye(4)
    if space == "voxel1":
        from_zero[:3, 3] = -1
    affine: NDArray[np.float64] = grid.affine @ from_zero
    return affine


def space_of(space: Space | None, where: str, columns: str) -> Space:
    """The space that was given for columns that do not say it themselves.

    Raises:
        InputError: none was.
    """
    if space is None:
        raise InputError(
            f"{where}: columns {columns} do not say in which space; give --space {'|'.join(SPACES)}, or name the "
            f"columns {', '.join(f'{name}_mm' for name in columns.split(', '))} where they are RAS millimetres"
        )
    return space


def moved(affine: NDArray[Any], positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Positions (n, 3) through an affine (4, 4)."""
    mapped: NDArray[np.float64] = positions @ affine[:3, :3].T + affine[:3, 3]
    return mapped
