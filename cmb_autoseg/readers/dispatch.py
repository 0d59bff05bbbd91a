"""Which reader reads which source."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg import geometry
from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import NIFTI_SUFFIXES, Volume
from cmb_autoseg.records import ImageSource

__all__ = [
    "IMAGE_SUFFIXES",
    "PICTURE_SUFFIXES",
    "count_volumes",
    "file_on_disk",
    "read_grid",
    "read_volume",
    "source_files",
]

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
IMAGE_SUFFIXES = (*NIFTI_SUFFIXES, ".mha", ".mhd", ".nrrd", ".nhdr", ".mat", *PICTURE_SUFFIXES)
"""Of files that hold scans or slices, in small letters; longer ones before those that they end in."""

Grid = tuple[tuple[int, int, int], NDArray[np.float64]]
"""Shape (i, j, k), and affine from voxel indices to RAS millimetres."""


def read_grid(source: ImageSource) -> Grid:
    """Shape and affine of the volume that `read_volume` would give, from headers alone.

    Raises:
        InputError: a file is missing or its header unusable; or there is no such echo, or a choice to be made.
    """
    if source.kind == "dicom":
        from cmb_autoseg.readers import dicom

        return dicom.read_grid(source)
    shape, affine = geometry.read_grid(Path(source.path))
    return _one_volume(source, shape), affine


def read_volume(source: ImageSource, dtype: Any = np.float32) -> Volume:
    """Read one sequence of a case on its own grid, axes as stored.

    Args:
        source: its file or files.
        dtype: of the array; scaling that the file asks for is applied.

    Raises:
        InputError: a file is missing, damaged or foreign; or there is no such echo, or a choice to be made.
    """
    if source.kind == "dicom":
        from cmb_autoseg.readers import dicom

        return dicom.read_volume(source, dtype)
    return geometry.read_volume(Path(source.path), source.echo, dtype)


def count_volumes(source: ImageSource) -> int:
    """How many 3D volumes the file holds, from its header.

    Raises:
        InputError: as `read_grid`.
    """
    shape, _ = geometry.read_grid(Path(source.path))
    return shape[3] if len(shape) > 3 else 1


def source_files(source: ImageSource) -> tuple[Path, ...]:
    """The files on disk that hold a sequence, by which one sees whether it has changed."""
    if source.kind == "dicom":
        from cmb_autoseg.readers import dicom

        return dicom.source_files(source)
    return (Path(source.path),)


def _one_volume(source: ImageSource, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """The shape of the one 3D volume that is asked for."""
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    echoes = shape[3] if len(shape) == 4 else 1
    if len(shape) not in (3, 4) or not 1 <= (source.echo or 1) <= echoes:
        raise InputError(f"{source.path}: shape {shape} has no 3D volume {source.echo or 1}; correct the file or echo")
    if echoes > 1 and source.echo is None:
        raise InputError(f"{source.path}: a 4D file with {echoes} volumes; choose one with images.<name>.echo")
    i, j, k = shape[:3]
    return i, j, k


def file_on_disk(path: str) -> Path:
    """The file itself, or the archive that it is a member of."""
    return Path(path)
