"""The table of a detector's boxes, in voxels of the scan as it came, as `cmb_evaluate` reads it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.orientations import inv_ornt_aff, io_orientation
from numpy.typing import NDArray

from cmb_autoseg.files import write_tsv
from cmb_autoseg.geometry import Volume
from cmb_autoseg.inference.ensemble import SliceBox

__all__ = ["write_boxes"]

IN_PLANE = ("x_min", "y_min", "x_max", "y_max")
ALL_AXES = ("x_min", "y_min", "z_min", "x_max", "y_max", "z_max")
ABOUT = ("score", "lesion")
FACE = 0.5
"""From the middle of a voxel to its face: voxel 0 reaches from -0.5 to 0.5, in the file from 0 to 1."""
DECIMALS = 2


def write_boxes(path: Path, boxes: Sequence[SliceBox], scan: Volume) -> None:
    """Write a box a line, slice by slice, the highest score first.

    Columns are `slice x_min y_min x_max y_max score lesion`, in voxels of the stored axes from 0, `x_min` inclusive and
    `x_max` exclusive. In a scan whose third axis is not the one from the feet to the head, boxes of axial slices
    are `x_min y_min z_min x_max y_max z_max score lesion`, one voxel thick; read these with `--space voxel0`.

    Args:
        path: of the file.
        boxes: in voxels of the canonical axes of `scan`.
        scan: as it came.
    """
    orientation = io_orientation(scan.affine)
    faces = _stored_faces(boxes, inv_ornt_aff(orientation, scan.shape))
    sliced = int(orientation[2, 0]) == 2
    rows = [_row(box, own, sliced) for box, own in zip(boxes, faces, strict=True)]
    place = "slice" if sliced else "z_min"
    rows.sort(key=lambda row: (row[place], -row["score"], row["x_min"], row["y_min"]))
    columns = ("slice", *IN_PLANE, *ABOUT) if sliced else (*ALL_AXES, *ABOUT)
    write_tsv(path, columns, rows)


def _stored_faces(boxes: Sequence[SliceBox], to_stored: NDArray[Any]) -> NDArray[np.float64]:
    """(n, 3, 2): faces along each stored axis, voxel 0 reaching from 0 to 1."""
    low = np.array([(box.x_min, box.y_min, box.slice - FACE) for box in boxes], dtype=np.float64).reshape(-1, 3)
    high = np.array([(box.x_max, box.y_max, box.slice + FACE) for box in boxes], dtype=np.float64).reshape(-1, 3)
    corners = [side @ to_stored[:3, :3].T + to_stored[:3, 3] for side in (low, high)]
    faces: NDArray[np.float64] = np.sort(np.stack(corners, axis=2), axis=2) + FACE
    return faces


def _row(box: SliceBox, faces: NDArray[np.float64], sliced: bool) -> dict[str, Any]:
    low, high = faces[:, 0].round(DECIMALS).tolist(), faces[:, 1].round(DECIMALS).tolist()
    row = {**dict(zip(ALL_AXES, (*low, *high), strict=True)), "score": box.score, "lesion": box.lesion}
    return {**row, "slice": round(low[2])} if sliced else row
