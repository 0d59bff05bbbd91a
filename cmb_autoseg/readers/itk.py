"""MetaImage (.mha, .mhd) and NRRD (.nrrd, .nhdr) through SimpleITK, which keeps geometry as LPS."""

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import MOST_GZIP_PACKS, Volume, check_affine, check_claim

if TYPE_CHECKING:
    import SimpleITK

__all__ = ["data_files", "read_grid", "read_volume"]

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
DATA_FILE = re.compile(rb"^(?:ElementDataFile *=|data ?file:) *(.+?) *\r?$", re.IGNORECASE | re.MULTILINE)
LONGEST_HEADER = 1 << 16


def read_grid(path: Path) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    """Shape and affine from the header; where there are several volumes, their number is the fourth size.

    Raises:
        InputError: the file is missing or its header unusable.
    """
    reader = _opened(path)
    return _shape(reader), _affine(reader, path)


def read_volume(path: Path, echo: int | None, dtype: Any) -> Volume:
    """Read one 3D volume.

    Args:
        path: the header, or header and voxels in one.
        echo: which volume of a 4D file, or which value of voxels that hold several, from 1; checked by the caller.
        dtype: of the array returned.

    Raises:
        InputError: as `read_grid`; or the voxels are damaged or missing.
    """
    import SimpleITK

    reader = _opened(path)
    number = (echo or 1) - 1
    components = reader.GetNumberOfComponents()
    size = list(reader.GetSize())
    if len(size) == 4:
        reader.SetExtractIndex([0, 0, 0, number // components])
        reader.SetExtractSize([*size[:3], 0])
    try:
        image = reader.Execute()
        if components > 1:
            image = SimpleITK.VectorIndexSelectionCast(image, number % components)
        array = SimpleITK.GetArrayFromImage(image)
    except MemoryError:
        raise InputError(f"{path}: does not fit into memory; use a larger machine") from None
    except RuntimeError as error:
        raise InputError(f"{path}: damaged or truncated ({_reason(error)}); copy the file again") from None
    if np.iscomplexobj(array):
        raise InputError(f"{path}: complex values; export magnitude and phase as separate files")
    data = np.ascontiguousarray(array.T).astype(dtype)
    return Volume(data, _affine(reader, path), None, str(path))


def data_files(path: Path) -> list[Path]:
    """The files that hold the voxels of a header on its own (.mhd, .nhdr); none of a file with both."""
    if path.suffix.lower() not in (".mhd", ".nhdr"):
        return []
    try:
        with path.open("rb") as stream:
            found = DATA_FILE.search(stream.read(LONGEST_HEADER))
    except OSError:
        return []
    if found is None:
        return []
    named = path.parent / found[1].decode("utf-8", "surrogateescape")
    return [named] if named.is_file() else []


def _opened(path: Path) -> "SimpleITK.ImageFileReader":
    """A reader that has read the header and nothing else."""
    if not path.is_file():
        raise InputError(f"{path}: {'is a folder; give the file itself' if path.is_dir() else 'no such file'}")
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("MetaImageIO" if path.suffix.lower() in (".mha", ".mhd") else "NrrdImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise InputError(f"{path}: not readable as its name says ({_reason(error)}); export it again") from None
    shape = _shape(reader)
    if reader.GetDimension() not in (3, 4):
        listed = " x ".join(map(str, reader.GetSize()))
        raise InputError(f"{path}: found {listed} voxels, a 3D volume is needed; export the whole volume")
    held_bytes = sum(file.stat().st_size for file in (path, *data_files(path))) * MOST_GZIP_PACKS
    check_claim(str(path), shape, _bytes_a_value(reader), 0, held_bytes)
    return reader


def _shape(reader: "SimpleITK.ImageFileReader") -> tuple[int, ...]:
    size = reader.GetSize()
    volumes = math.prod(size[3:]) * reader.GetNumberOfComponents()
    return (*size[:3], volumes) if volumes > 1 else tuple(size[:3])


def _bytes_a_value(reader: "SimpleITK.ImageFileReader") -> int:
    import SimpleITK

    name = SimpleITK.GetPixelIDValueAsString(reader.GetPixelID())
    bits = re.search(r"(\d+)-bit", name)
    return int(bits[1]) // 8 if bits else 1


def _affine(reader: "SimpleITK.ImageFileReader", path: Path) -> NDArray[np.float64]:
    dimension = reader.GetDimension()
    direction = np.array(reader.GetDirection()).reshape(dimension, dimension)[:3, :3]
    lps = np.eye(4)
    lps[:3, :3] = direction * reader.GetSpacing()[:3]
    lps[:3, 3] = reader.GetOrigin()[:3]
    affine: NDArray[np.float64] = LPS_TO_RAS @ lps
    check_affine(str(path), affine)
    return affine


def _reason(error: Exception) -> str:
    """The last line of what ITK says, which is the one with the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].partition("ERROR: ")[2] or lines[-1] if lines else type(error).__name__
