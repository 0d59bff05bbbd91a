"""MetaImage (.mha, .mhd) and NRRD (.nrrd, .nhdr) through SimpleITK, which keeps geometry as LPS."""

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.errors import InputError
from cmb_autoseg.files import as_text
from cmb_autoseg.geometry import MOST_GZIP_PACKS, Volume, check_affine, check_claim

if TYPE_CHECKING:
    import SimpleITK

__all__ = ["data_files", "data_names", "read_grid", "read_volume"]

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
META_SUFFIXES = (".mha", ".mhd")
NRRD_SUFFIXES = (".nrrd", ".nhdr")
META_DATA = re.compile(rb"ElementDataFile[ \t]*[=:]?[ \t]*([^\r\n]*)", re.IGNORECASE)
META_END = re.compile(rb"(?:\A|\n)[ \t]*ElementDataFile[ \t]*[=:]")
NRRD_DATA = re.compile(rb"[\r\n]data ?file[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE)
NRRD_END = re.compile(rb"\r?\n\r?\n")
IN_THE_HEADER = "LOCAL"
LONGEST_HEADER = 1 << 20


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
    """The files beside a header that hold its voxels; none of a file with both, or of one that is not read."""
    if path.suffix.lower() not in (*META_SUFFIXES, *NRRD_SUFFIXES):
        return []
    try:
        with path.open("rb") as stream:
            names = data_names(str(path), stream.read(LONGEST_HEADER))
    except (OSError, InputError):
        return []
    return [path.parent / name for name in names if (path.parent / name).is_file()]


def data_names(path: str, head: bytes) -> list[str]:
    """Names of the files in a header's own folder that hold its voxels; none of a file with both.

    A header could name any file of the machine, and by `LIST` or a pattern with numbers several.

    Args:
        path: of the header, for messages; its suffix tells the format.
        head: its first bytes, `LONGEST_HEADER` of them if there are so many.

    Raises:
        InputError: a file that is not simply named, or a header without end.
    """
    if path.lower().endswith(META_SUFFIXES):
        if META_END.search(head) is None:
            raise InputError(f"{path}: its header has no ElementDataFile; export the scan again")
        found = META_DATA.findall(head)
    elif path.lower().endswith(NRRD_SUFFIXES):
        end = NRRD_END.search(head)
        if end is None and len(head) >= LONGEST_HEADER:
            raise InputError(f"{path}: its header is longer than {LONGEST_HEADER} bytes; export the scan again")
        found = NRRD_DATA.findall(head[: end.start()] if end is not None else head)
    else:
        return []
    told = [name.decode("utf-8", "surrogateescape").strip() for name in found]
    return list(dict.fromkeys(_plain_name(path, name) for name in told if name.upper() != IN_THE_HEADER))


def _plain_name(path: str, named: str) -> str:
    name = named.removeprefix("./")
    if name in ("", ".", "..") or name.startswith("LIST") or any(sign in name for sign in "/\\%:\0"):
        raise InputError(
            f"{path}: names {as_text(named)!r} as its data; one file in the header's own folder is read, "
            "so export the scan as one .mha or .nrrd file"
        )
    return name


def _opened(path: Path) -> "SimpleITK.ImageFileReader":
    """A reader that has read the header and nothing else."""
    if not path.is_file():
        raise InputError(f"{path}: {'is a folder; give the file itself' if path.is_dir() else 'no such file'}")
    with path.open("rb") as stream:
        names = data_names(str(path), stream.read(LONGEST_HEADER))
    absent = next((name for name in names if not (path.parent / name).is_file()), None)
    if absent is not None:
        raise InputError(f"{path}: its data file {as_text(absent)} is not beside it; restore the file")
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("MetaImageIO" if path.suffix.lower() in META_SUFFIXES else "NrrdImageIO")
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
