"""The grid of a NIfTI file from its first bytes: tens of thousands of headers in seconds.

What is at all odd is left to `geometry.read_grid`, which is slow and says what is wrong.
"""

import io
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np

from cmb_autoseg import geometry
from cmb_autoseg.geometry import MOST_GZIP_PACKS, Grid

__all__ = ["HEAD_BYTES", "grid_of_file", "grid_of_stream"]

HEAD_BYTES = 4096
"""Read from the start of a file: more than a header, and enough of a packed file to hold one."""
KINDS = {b"n+1\0": (344, 348, nib.Nifti1Header), b"n+2\0": (4, 540, nib.Nifti2Header)}
"""By the mark of a file that holds header and voxels: where the mark stands, and the header's length."""
KNOWN_CODES = 4
"""Of what a qform or sform refers to."""


def grid_of_file(path: Path) -> Grid:
    """Shape and affine of a NIfTI file, as `geometry.read_grid` gives them.

    Raises:
        InputError: as `geometry.read_grid`.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
            held_bytes = stream.seek(0, io.SEEK_END)
    except OSError:
        return geometry.read_grid(path)
    grid = grid_of_stream(head, held_bytes, str(path)) if geometry.is_nifti(path) else None
    return grid if grid is not None else geometry.read_grid(path)


def grid_of_stream(head: bytes, held_bytes: int, name: str) -> Grid | None:
    """Shape and affine from the first bytes of a file; None where they do not tell.

    Args:
        head: the file's beginning, packed if the name ends in `.gz`.
        held_bytes: size of the whole file as it is stored.
        name: of the file.
    """
    if name.lower().endswith(".gz"):
        held_bytes *= MOST_GZIP_PACKS
        try:
            head = zlib.decompressobj(wbits=31).decompress(head, HEAD_BYTES)
        except zlib.error:
            return None
    for mark, (position, length, kind) in KINDS.items():
        if head[position : position + len(mark)] == mark and len(head) >= length:
            return _grid(kind, head[:length], held_bytes, name)
    return None


def _grid(kind: type[nib.Nifti1Header], block: bytes, held_bytes: int, name: str) -> Grid | None:
    try:
        header = kind(block, check=False)
        if not _is_plain(header):
            return None
        shape = tuple(int(size) for size in header.get_data_shape())
        affine = np.asarray(header.get_best_affine(), dtype=np.float64)
        itemsize = header.get_data_dtype().itemsize
        geometry.check_claim(name, shape, itemsize, int(header.get_data_offset()), held_bytes)
        geometry.check_affine(name, affine)
    except Exception:  # nibabel has errors of its own for each oddity; geometry.read_grid says what is wrong
        return None
    return shape, affine


def _is_plain(header: nib.Nifti1Header) -> bool:
    """Whether nibabel would take the fields for the grid as they are, without mending any."""
    return bool(
        header["pixdim"][0] in (-1, 1)
        and 0 <= header["qform_code"] <= KNOWN_CODES
        and 0 <= header["sform_code"] <= KNOWN_CODES
        and header["vox_offset"] >= len(header.binaryblock)
    )
