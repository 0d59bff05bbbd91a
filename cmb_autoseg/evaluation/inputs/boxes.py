"""Lesions listed as boxes: of a volume, or of its slices."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.inputs.lesion_lists import described, filled, moved, space_of, to_ras_mm
from cmb_autoseg.evaluation.inputs.rows import Row, Rows, is_missing, number
from cmb_autoseg.evaluation.inputs.sides import ListGrid, Space
from cmb_autoseg.evaluation.matching.lesion_set import LesionSet

__all__ = ["BOX_COLUMNS", "SLICE_BOX_COLUMNS", "has_boxes", "has_slice_boxes", "read_boxes"]

SLICE_BOX_COLUMNS = ("x_min", "y_min", "x_max", "y_max")
BOX_COLUMNS = ("x_min", "y_min", "z_min", "x_max", "y_max", "z_max")
BOX_COLUMNS_MM = tuple(f"{name}_mm" for name in BOX_COLUMNS)
SLICE = "slice"
COCO_BOX = "bbox"
"""x, y, width and height in pixels, the picture's corner at 0."""
ALONE = ListGrid(np.eye(4), None, "a grid of 1 mm")
"""For boxes in millimetres, and of pictures whose pixels have no known size."""
FIRST_FACE = -0.5
"""Of voxel 0."""


def has_boxes(columns: Sequence[str]) -> bool:
    there = set(columns)
    return COCO_BOX in there or {*SLICE_BOX_COLUMNS} <= there or {*BOX_COLUMNS_MM} <= there


def has_slice_boxes(columns: Sequence[str]) -> bool:
    """Whether boxes are of slices, which count in voxels whatever else is told."""
    there = set(columns)
    return has_boxes(columns) and not ({*BOX_COLUMNS} <= there or {*BOX_COLUMNS_MM} <= there)


def read_boxes(listed: Rows, space: Space | None = None, grid: ListGrid | None = None) -> LesionSet:
    """The lesions of one case from a list of boxes; every row is a lesion.

    Voxel boxes reach from `x_min` inclusive to `x_max` exclusive: x_min 4, x_max 6 are voxels 4 and 5, whose faces
    are at 3.5 and 5.5. So COCO's `bbox` x, y, width, height is x_min = x and x_max = x + width.

    Args:
        listed: rows with `x_min_mm y_min_mm z_min_mm x_max_mm y_max_mm z_max_mm` (RAS), the same without `_mm`, or
            per slice `x_min y_min x_max y_max` or `bbox`, with `slice` (0 where there is no such column); scores and
            regions as of points.
        space: of columns without `_mm`: voxels from 0 for boxes of slices unless told.
        grid: of a mask of the case, where there is one: the middle of each box must lie in it. Millimetre boxes
            keep their middle and edge lengths and turn to the nearest axes of the grid.

    Returns:
        Lesions of kind `boxes` in the list's order; `boxes` and `affine` are of the grid's canonical axes, without a
        grid of 1 mm voxels.

    Raises:
        InputError: no such columns, no space, voxels without a grid, an edge that is not positive, a bad number;
            names file and line.
    """
    names, per_slice = _columns(listed)
    rows = filled(listed.rows, names)
    about = described(rows, listed.columns)
    if names == BOX_COLUMNS_MM:
        chosen: Space = "ras_mm"
    else:
        chosen = space or "voxel0" if per_slice else space_of(space, str(listed.path), ", ".join(names))
    in_voxels = chosen.startswith("voxel")
    if per_slice and not in_voxels:
        raise InputError(f"{listed.path}: boxes of slices count in voxels; give --space voxel0 or voxel1, not {chosen}")
    own = grid or ALONE
    if in_voxels and not per_slice:
        to_ras_mm(chosen, grid, str(listed.path))  # refuses voxels of an unknown size
    faces = _faces(rows, names, per_slice)
    origin = 1.0 if chosen == "voxel1" else 0.0
    boxes = faces - origin + FIRST_FACE if in_voxels else _mm_faces(faces, chosen, own)
    if per_slice:
        boxes[:, 2] = _slices(rows, SLICE in listed.columns, origin)
    if in_voxels:
        boxes = _in_canonical_axes(boxes, own)
    middles: NDArray[np.float64] = boxes.mean(axis=2)
    _check_inside(rows, middles, own)
    edges = boxes[:, :, 1] - boxes[:, :, 0]
    affine = own.canonical_affine
    return LesionSet(
        kind="boxes",
        centres_mm=moved(affine, middles),
        volumes_mm3=edges.prod(axis=1) * abs(float(np.linalg.det(affine[:3, :3]))),
        regions=about.regions,
        confidence=about.confidence,
        mean_probability=about.mean_probability,
        boxes=boxes,
        affine=affine,
    )


def _columns(listed: Rows) -> tuple[tuple[str, ...], bool]:
    """The columns of the faces, and whether boxes are of slices; an empty list has any."""
    there = set(listed.columns)
    if not there or {*BOX_COLUMNS_MM} <= there:
        return BOX_COLUMNS_MM, False
    if {*BOX_COLUMNS} <= there:
        return BOX_COLUMNS, False
    if {*SLICE_BOX_COLUMNS} <= there:
        return SLICE_BOX_COLUMNS, True
    if COCO_BOX in there:
        return (COCO_BOX,), True
    raise InputError(
        f"{listed.path}: columns {', '.join(name for name in listed.columns if name)} hold no boxes; name them "
        f"{', '.join(BOX_COLUMNS_MM)} (RAS millimetres), {', '.join(BOX_COLUMNS)} with --space, or per slice "
        f"{SLICE}, {', '.join(SLICE_BOX_COLUMNS)}"
    )


def _faces(rows: Sequence[Row], names: tuple[str, ...], per_slice: bool) -> NDArray[np.float64]:
    """(n, 3, 2) in the list's own coordinates; of boxes of slices the third axis is still to be filled."""
    faces = np.zeros((len(rows), 3, 2))
    for n, row in enumerate(rows):
        if names == (COCO_BOX,):
            x, y, width, height = _coco_numbers(row)
            low, high = [x, y], [x + width, y + height]
        else:
            half = len(names) // 2
            low, high = ([number(row, name) for name in part] for part in (names[:half], names[half:]))
        for axis, (first, last) in enumerate(zip(low, high, strict=True)):
            if last <= first:
                raise InputError(
                    f"{row.where}: a box from {first:g} to {last:g} along {'xyz'[axis]} has no extent (the upper end "
                    "of voxel boxes is exclusive); correct it"
                )
        faces[n, : 2 if per_slice else 3] = np.stack([low, high], axis=1)
    return faces


def _coco_numbers(row: Row) -> list[float]:
    cell = row.cells.get(COCO_BOX)
    if not isinstance(cell, list) or len(cell) != 4:
        raise InputError(f"{row.where}: bbox {cell!r}, expected [x, y, width, height]; correct it")
    parts = dict(zip(("x", "y", "width", "height"), cell, strict=True))
    return [number(Row(f"{row.where} bbox", parts), name) for name in parts]


def _slices(rows: Sequence[Row], named: bool, origin: float) -> NDArray[np.float64]:
    """(n, 2): the faces of each box's slice, in voxels from 0."""
    numbers = np.zeros(len(rows))
    for n, row in enumerate(rows):
        if named and not is_missing(row.cells.get(SLICE)):
            value = number(row, SLICE)
            if value != int(value) or value < origin:
                raise InputError(
                    f"{row.where}: slice {value:g} is no whole number from {origin:g} on; correct it, or give --space"
                )
            numbers[n] = value - origin
    return np.stack([numbers - 0.5, numbers + 0.5], axis=1)


def _mm_faces(faces: NDArray[np.float64], space: Space, grid: ListGrid) -> NDArray[np.float64]:
    """Millimetre boxes (n, 3, 2) as voxels of the grid's canonical axes."""
    affine = grid.canonical_affine
    middles_mm = moved(to_ras_mm(space, None, ""), faces[:, :, 0] / 2 + faces[:, :, 1] / 2)
    middles = moved(np.linalg.inv(affine), middles_mm)
    # Canonical axes run most nearly along x, y and z, so an edge keeps its axis.
    edges = (faces[:, :, 1] - faces[:, :, 0]) / np.linalg.norm(affine[:3, :3], axis=0)
    return np.stack([middles - edges / 2, middles + edges / 2], axis=2)


def _in_canonical_axes(boxes: NDArray[np.float64], grid: ListGrid) -> NDArray[np.float64]:
    """Boxes (n, 3, 2) of the stored axes in the axes that masks are turned to, which is a flip or swap of axes."""
    turn = np.rint(np.linalg.inv(grid.canonical_affine) @ grid.affine * 1e6) / 1e6
    corners = np.stack([moved(turn, boxes[:, :, side]) for side in (0, 1)], axis=2)
    return np.sort(corners, axis=2)


def _check_inside(rows: Sequence[Row], middles: NDArray[np.float64], grid: ListGrid) -> None:
    shape = grid.canonical_shape
    if shape is None:
        return
    for row, middle in zip(rows, middles, strict=True):
        if np.any(middle < -0.5) or np.any(middle > np.array(shape) - 0.5):
            raise InputError(
                f"{row.where}: the middle of the box lies outside {grid.name}; check --space, the columns, and that "
                "list and mask are of one scan"
            )
