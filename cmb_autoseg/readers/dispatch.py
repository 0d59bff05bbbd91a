"""Which reader reads which source."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg import geometry
from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import NIFTI_SUFFIXES, Volume
from cmb_autoseg.readers import archive, itk, matlab, nifti_header, pictures
from cmb_autoseg.records import ImageSource

__all__ = [
    "IMAGE_SUFFIXES",
    "ITK_SUFFIXES",
    "MATLAB_SUFFIX",
    "PICTURE_SUFFIXES",
    "count_volumes",
    "file_on_disk",
    "files_of_volume",
    "read_bytes",
    "read_grid",
    "read_volume",
    "source_files",
]

ITK_SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr")
MATLAB_SUFFIX = ".mat"
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
IMAGE_SUFFIXES = (*NIFTI_SUFFIXES, *ITK_SUFFIXES, MATLAB_SUFFIX, *PICTURE_SUFFIXES)
"""Of files that hold scans or slices, in small letters."""

Shape = tuple[int, int, int]


def read_grid(source: ImageSource) -> tuple[Shape, NDArray[np.float64]]:
    """Shape (i, j, k) and affine (to RAS mm) of the volume that `read_volume` would give, from headers alone.

    Raises:
        InputError: a file is missing or its header unusable; or there is no such echo, or a choice to be made.
    """
    if source.kind == "dicom":
        from cmb_autoseg.readers import dicom

        return dicom.read_grid(source)
    if source.kind == "pictures":
        return pictures.read_shape(source.files or (source.path,)), _given_affine(source)
    shape, affine = _stored_grid(source)
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
    if source.kind == "pictures":
        data = pictures.read_stack(source.files or (source.path,), dtype)
        return Volume(data, _given_affine(source), None, source.path)
    with _on_disk(source.path) as path:
        volume = _read_file(path, source, dtype)
    if source.affine is not None:
        volume = replace(volume, affine=np.array(source.affine, dtype=np.float64), header=None)
    return replace(volume, name=source.path)


def count_volumes(source: ImageSource) -> int:
    """How many 3D volumes the source's file holds, from its header.

    Raises:
        InputError: as `read_grid`.
    """
    if source.kind != "volume":
        return 1
    shape, _ = _stored_grid(source)
    return shape[3] if len(shape) > 3 else 1


def source_files(source: ImageSource) -> tuple[Path, ...]:
    """The files on disk that hold a sequence, by which one sees whether it has changed."""
    if source.kind == "dicom":
        from cmb_autoseg.readers import dicom

        return dicom.source_files(source)
    if source.files:
        return tuple(dict.fromkeys(file_on_disk(file) for file in source.files if file))
    path = file_on_disk(source.path)
    return (path, *itk.data_files(path))


def files_of_volume(path: str) -> tuple[str, ...]:
    """A volume's file, and the one beside it with the voxels where it is a header on its own.

    Args:
        path: a file, or `ARCHIVE!/MEMBER`, as those are that are returned.

    Raises:
        InputError: a damaged archive, or a header that names a file elsewhere.
    """
    if not path.lower().endswith(ITK_SUFFIXES):
        return (path,)
    if archive.split_path(path) is None:
        return (path, *map(str, itk.data_files(Path(path))))
    folder = path[: path.rindex("/") + 1]
    return (path, *(f"{folder}{name}" for name in archive.member_names(path, itk.data_names)))


def file_on_disk(path: str) -> Path:
    """The file itself, or the archive that it is a member of."""
    parts = archive.split_path(path)
    return Path(path) if parts is None else parts[0]


def read_bytes(path: str) -> bytes:
    """All bytes of a file, or of a member of an archive.

    Raises:
        InputError: it is missing or not readable.
    """
    try:
        if archive.split_path(path) is None:
            return Path(path).read_bytes()
        with archive.open_member(path) as stream:
            return stream.read()
    except OSError as error:
        raise InputError(f"{path}: not readable ({error.strerror}); restore the file") from None


def _stored_grid(source: ImageSource) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    """Shape of all that the file holds, and its affine or the one given."""
    quick = _quick_grid(source.path)
    if quick is not None:
        shape, affine = quick
    else:
        with _on_disk(source.path) as path:
            shape, affine = _grid_of_file(path, source)
    return shape, affine if source.affine is None else np.array(source.affine, dtype=np.float64)


def _quick_grid(path: str) -> tuple[tuple[int, ...], NDArray[np.float64]] | None:
    """Of NIfTI in an archive, without unpacking it; None where the first bytes do not tell."""
    if archive.split_path(path) is None or not path.lower().endswith(NIFTI_SUFFIXES):
        return None
    head, size = archive.member_head(path, nifti_header.HEAD_BYTES)
    return nifti_header.grid_of_stream(head, size, path)


def _grid_of_file(path: Path, source: ImageSource) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    suffix = path.suffix.lower()
    if suffix in ITK_SUFFIXES:
        return itk.read_grid(path)
    if suffix == MATLAB_SUFFIX:
        return matlab.read_shape(path, source.variable), _given_affine(source)
    return nifti_header.grid_of_file(path)


def _read_file(path: Path, source: ImageSource, dtype: Any) -> Volume:
    suffix = path.suffix.lower()
    if suffix in ITK_SUFFIXES:
        _one_volume(source, itk.read_grid(path)[0])
        return itk.read_volume(path, source.echo, dtype)
    if suffix == MATLAB_SUFFIX:
        _one_volume(source, matlab.read_shape(path, source.variable))
        array = matlab.read_array(path, source.variable)
        if np.iscomplexobj(array):
            raise InputError(f"{path}: complex values; save magnitude and phase as separate arrays")
        data = array.reshape(*array.shape[:3], -1)[..., (source.echo or 1) - 1]
        return Volume(np.ascontiguousarray(data).astype(dtype), _given_affine(source), None, str(path))
    return geometry.read_volume(path, source.echo, dtype)


@contextmanager
def _on_disk(path: str) -> Iterator[Path]:
    """The file, or a member of an archive unpacked to a temporary one; messages name the member."""
    if archive.split_path(path) is None:
        yield Path(path)
        return
    named = itk.data_names if path.lower().endswith(ITK_SUFFIXES) else None
    with archive.unpacked(path, named) as file:
        try:
            yield file
        except InputError as error:
            raise type(error)(str(error).replace(str(file), path)) from None


def _given_affine(source: ImageSource) -> NDArray[np.float64]:
    """The geometry that the card gives to formats without any: 1 mm along right, front and top where it does not."""
    return np.eye(4) if source.affine is None else np.array(source.affine, dtype=np.float64)


def _one_volume(source: ImageSource, shape: tuple[int, ...]) -> Shape:
    """The shape of the one 3D volume that is asked for."""
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) not in (3, 4):
        listed = " x ".join(map(str, shape))
        raise InputError(f"{source.path}: found {listed} voxels, a 3D volume is needed; give the whole volume")
    echoes = shape[3] if len(shape) == 4 else 1
    if echoes > 1 and source.echo is None:
        raise InputError(
            f"{source.path}: a 4D file with {echoes} volumes; if they are echoes, choose one with --echo 1..{echoes} "
            "(in a card: images.<name>.echo)"
        )
    if not 1 <= (source.echo or 1) <= echoes:
        raise InputError(f"{source.path}: echo {source.echo} asked for, but the file has {echoes}; choose 1..{echoes}")
    i, j, k = shape[:3]
    return i, j, k
