"""Volumes on their grid: reading, checking, reorienting and writing NIfTI.

Affines map voxel indices (i, j, k) to RAS millimetres. Arrays are in file order (i, j, k); only
what goes into a network is (z, y, x), as nnU-Net has it.
"""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.imageglobals import logger as NIBABEL_LOG
from nibabel.openers import ImageOpener
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation, ornt_transform
from numpy.typing import NDArray

from cmb_autoseg.errors import GeometryError, InputError
from cmb_autoseg.files import atomic_path

__all__ = [
    "MOST_GZIP_PACKS",
    "NIFTI_SUFFIXES",
    "Grid",
    "Volume",
    "canonical_grid",
    "check_affine",
    "check_claim",
    "check_same_grid",
    "from_canonical",
    "grids_agree",
    "has_echoes",
    "is_nifti",
    "mask_box",
    "nifti_stem",
    "quiet",
    "read_grid",
    "read_volume",
    "same_grid",
    "to_canonical",
    "write_volume",
]

NIFTI_SUFFIXES = (".nii.gz", ".nii")
AFFINE_TOLERANCE_MM = 0.01
"""Two grids are one when no corner voxel moves by more than this."""
VOXEL_SIZES_MM = (0.01, 100.0)
"""Smallest and largest that a scan of a head may have; others are another unit or a broken header."""
FARTHEST_MM = 1e5
"""No voxel of a scanner lies farther from its centre."""
FLATTEST = 1e-3
"""Volume of a voxel as a share of the box with its edges; less, and axes run nearly parallel."""
MOST_GZIP_PACKS = 1032
"""Largest ratio of deflate: a file cannot hold more than this times its size."""
LARGEST_HEADER = 1 << 26
"""Bytes before the first voxel."""
Grid = tuple[tuple[int, ...], NDArray[np.float64]]
"""Shape, and affine from voxel indices to RAS millimetres."""


@dataclass(frozen=True)
class Volume:
    """A 3D array with its place in the world.

    `data` has shape (i, j, k); `affine` maps voxel indices to RAS millimetres. `header` is the
    NIfTI header that the volume came with, kept so that results carry the same qform, sform and
    codes; None for volumes made here.
    """

    data: NDArray[Any]
    affine: NDArray[np.float64]
    header: Any = None
    name: str = "volume"
    """What messages call it: usually the file."""

    @property
    def shape(self) -> tuple[int, int, int]:
        i, j, k = self.data.shape
        return i, j, k

    @cached_property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along i, j, k in millimetres."""
        i, j, k = (float(length) for length in np.linalg.norm(self.affine[:3, :3], axis=0))
        return i, j, k

    @cached_property
    def voxel_volume_mm3(self) -> float:
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def with_data(self, data: NDArray[Any]) -> "Volume":
        """The same grid with another array of the same shape."""
        if data.shape != self.data.shape:
            raise GeometryError(f"{self.name}: array of shape {data.shape} does not fit the grid {self.data.shape}")
        return replace(self, data=data)

    def to_ras_mm(self, voxels: NDArray[Any]) -> NDArray[np.float64]:
        """Map voxel indices of shape (n, 3) to RAS millimetres of shape (n, 3)."""
        mapped: NDArray[np.float64] = np.asarray(voxels, dtype=np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3]
        return mapped

    def to_voxels(self, points_ras_mm: NDArray[Any]) -> NDArray[np.float64]:
        """Map RAS millimetres of shape (n, 3) to fractional voxel indices of shape (n, 3)."""
        inverse = np.linalg.inv(self.affine)
        mapped: NDArray[np.float64] = np.asarray(points_ras_mm, dtype=np.float64) @ inverse[:3, :3].T + inverse[:3, 3]
        return mapped


def is_nifti(path: Path) -> bool:
    return path.name.lower().endswith(NIFTI_SUFFIXES)


def nifti_stem(path: Path) -> str:
    """The file's name without `.nii` or `.nii.gz`."""
    return (
        path.name[: -len(".nii.gz")] if path.name.lower().endswith(".nii.gz") else path.name.removesuffix(path.suffix)
    )


def read_grid(path: Path) -> Grid:
    """Shape and affine of a NIfTI file, from the header alone.

    Raises:
        InputError: the file is missing, or its header is unreadable, claims more than the file can
            hold, or says nothing usable of the voxels' place and size.
    """
    image = _open(path)
    return tuple(int(n) for n in image.shape), np.asarray(image.affine, dtype=np.float64)


def read_volume(path: Path, echo: int | None = None, dtype: Any = np.float32) -> Volume:
    """Read one 3D volume of a NIfTI file.

    Args:
        path: `.nii` or `.nii.gz`.
        echo: which volume of a 4D file, counted from 1; must be None or 1 for a 3D file.
        dtype: of the array returned; scaling by the header's slope and intercept is applied.

    Raises:
        InputError: missing, truncated or foreign file; 4D without `echo`; `echo` out of range;
            a header as in `read_grid`.
    """
    image = _open(path)
    shape = tuple(int(n) for n in image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) not in (3, 4):
        cure = "split the file into 3D volumes" if len(shape) > 4 else "give the whole scan, not a slice of it"
        raise InputError(f"{path}: found shape {image.shape}, a 3D volume is needed; {cure}")
    echoes = shape[3] if len(shape) == 4 else 1
    if echoes > 1 and echo is None:
        raise InputError(
            f"{path}: a 4D file with {echoes} volumes; if they are echoes, choose one with --echo 1..{echoes} "
            "(in a card: images.<name>.echo)"
        )
    chosen = 1 if echo is None else echo
    if not 1 <= chosen <= echoes:
        raise InputError(f"{path}: echo {chosen} asked for, but the file has {echoes}; choose 1..{echoes}")
    try:
        proxy = image.dataobj
        with quiet():
            raw = np.asanyarray(proxy[(..., *(0,) * (len(image.shape) - 3))] if echoes == 1 else proxy[..., chosen - 1])
    except MemoryError:
        claim = _claim(image.shape, image.header.get_data_dtype().itemsize)
        raise InputError(f"{path}: {claim} does not fit into memory; use a larger machine") from None
    except Exception as error:  # nibabel, gzip and zlib each raise their own kinds for damaged data
        raise InputError(f"{path}: damaged or truncated ({_first_line(error)}); copy the file again") from None
    if np.iscomplexobj(raw):
        raise InputError(f"{path}: complex values; export magnitude and phase as separate files")
    if raw.dtype.fields is not None:
        raise InputError(f"{path}: colour (RGB) values; export the scan as grey values")
    with quiet():
        data = raw.astype(dtype)
    return Volume(data, np.asarray(image.affine, dtype=np.float64), image.header.copy(), str(path))


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what nibabel and numpy remark on odd headers and values from the terminal; threads may overlap."""
    _QUIET.enter()
    try:
        yield
    finally:
        _QUIET.leave()


class _Quiet:
    """Silence as long as any thread wants it; what it sets belongs to the process."""

    def __init__(self) -> None:
        self.lock, self.wanted = Lock(), 0
        self.before = False
        self.filters = warnings.catch_warnings()

    def enter(self) -> None:
        with self.lock:
            if not self.wanted:
                self.before, NIBABEL_LOG.disabled = NIBABEL_LOG.disabled, True
                self.filters = warnings.catch_warnings()
                self.filters.__enter__()
                warnings.simplefilter("ignore")
            self.wanted += 1

    def leave(self) -> None:
        with self.lock:
            self.wanted -= 1
            if not self.wanted:
                self.filters.__exit__(None, None, None)
                NIBABEL_LOG.disabled = self.before


_QUIET = _Quiet()


def _open(path: Path) -> Any:
    """The image with its header checked and its voxels not yet read."""
    if not path.is_file():
        raise InputError(f"{path}: {_why_no_file(path)}")
    if not is_nifti(path):
        raise InputError(f"{path}: not a NIfTI file name; expected one of {', '.join(NIFTI_SUFFIXES)}")
    try:
        with quiet():
            image: Any = nib.load(path)
            stored = _stored_sizes_mm(image)
            affine = np.asarray(image.affine, dtype=np.float64)
    except Exception as error:  # see read_volume
        raise InputError(f"{path}: not readable as NIfTI ({_first_line(error)}); copy or convert it again") from None
    if not isinstance(image, nib.Nifti1Pair):
        raise InputError(f"{path}: found {type(image).__name__}, NIfTI is needed; convert it")
    held = path.stat().st_size * (MOST_GZIP_PACKS if path.suffix.lower() == ".gz" else 1)
    check_claim(str(path), image.shape, image.header.get_data_dtype().itemsize, int(image.dataobj.offset), held)
    check_affine(str(path), affine, stored)
    return image


def _why_no_file(path: Path) -> str:
    if path.is_dir():
        return "is a folder; give the NIfTI file itself"
    return f"a link to {path.readlink()}, which is not there; restore it" if path.is_symlink() else "no such file"


def _claim(shape: tuple[int, ...], itemsize: int) -> str:
    """What a header says of its data: `30000 x 30000 x 30000 voxels (108000 GB)`."""
    return f"{' x '.join(map(str, shape))} voxels ({math.prod(shape) * itemsize / 1e9:.3g} GB)"


def check_claim(name: str, shape: tuple[int, ...], itemsize: int, offset: int, held_bytes: int) -> None:
    """Compare a header's claim with the file, so that a damaged one does not make us take all memory.

    Args:
        name: what messages call the file.
        shape: in voxels, as the header says.
        itemsize: bytes a voxel.
        offset: of the first voxel, in bytes.
        held_bytes: the most that the file can hold, unpacked.

    Raises:
        InputError: it claims more, or no voxel at all.
    """
    if any(size < 1 for size in shape) or not shape:
        raise InputError(f"{name}: found shape {shape}, a 3D volume is needed; copy or convert the file again")
    if offset + math.prod(shape) * itemsize > held_bytes or not 0 <= offset <= LARGEST_HEADER:
        raise InputError(
            f"{name}: damaged or truncated: its header claims {_claim(shape, itemsize)} from byte {offset} on, more "
            "than the file can hold; copy the file again"
        )


def _stored_sizes_mm(image: Any) -> NDArray[np.float64]:
    """Voxel sizes as the file has them: nibabel takes 1 mm for a size of 0, and nobody would notice."""
    if not isinstance(image, nib.Nifti1Pair) or int(image.header["sform_code"]) > 0:
        return np.ones(3)
    with ImageOpener(image.get_filename()) as stream:
        header = image.header_class.from_fileobj(stream, check=False)
    sizes_mm: NDArray[np.float64] = np.asarray(header["pixdim"][1:4], dtype=np.float64)
    return sizes_mm


def check_affine(name: str, affine: NDArray[np.float64], stored_sizes_mm: NDArray[np.float64] | None = None) -> None:
    """Refuse a header by which voxels have no place, or sizes that no scan of a head has.

    Args:
        name: what messages call the file.
        affine: voxel indices to RAS millimetres.
        stored_sizes_mm: as the file has them, 0 where it says nothing; None where the affine is all there is.

    Raises:
        InputError: NaN, sizes beyond 0.01..100 mm, axes that run the same way, or a place far away.
    """
    if stored_sizes_mm is None:
        stored_sizes_mm = np.ones(3)
    cure = "repair the header's sform or qform, or convert the scan again"
    if not np.all(np.isfinite(affine)):
        raise InputError(f"{name}: its affine is not invertible (NaN or infinite); {cure}")
    sizes_mm = np.linalg.norm(affine[:3, :3], axis=0) * (stored_sizes_mm != 0)
    listed = " x ".join(f"{size:g}" for size in sizes_mm)
    if sizes_mm.min() == 0:
        raise InputError(f"{name}: its affine is not invertible (voxel size {listed} mm); {cure}")
    if sizes_mm.min() < VOXEL_SIZES_MM[0] or sizes_mm.max() > VOXEL_SIZES_MM[1]:
        raise InputError(f"{name}: voxel size {listed}, which is no head scan's in millimetres; {cure}")
    if abs(np.linalg.det(affine[:3, :3])) < FLATTEST * sizes_mm.prod():
        raise InputError(f"{name}: its affine is not invertible (two axes run the same way); {cure}")
    if np.abs(affine[:3, 3]).max() > FARTHEST_MM:
        raise InputError(f"{name}: its first voxel lies {np.abs(affine[:3, 3]).max() / 1000:.3g} m away; {cure}")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def check_same_grid(volume: Volume, reference: Volume, cure: str) -> None:
    """Refuse two volumes that do not share one grid.

    Raises:
        GeometryError: shape differs, or a corner moves by more than 0.01 mm; ends with `cure`.
    """
    if volume.shape != reference.shape:
        raise GeometryError(
            f"{volume.name}: shape {volume.shape} differs from {reference.name} {reference.shape}; {cure}"
        )
    if np.array_equal(volume.affine, reference.affine):
        return
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in volume.shape])).reshape(3, -1).T
    offset = float(np.linalg.norm(volume.to_ras_mm(corners) - reference.to_ras_mm(corners), axis=1).max())
    if offset > AFFINE_TOLERANCE_MM:
        raise GeometryError(
            f"{volume.name}: affine is {offset:.2f} mm off {reference.name} "
            f"(tolerance {AFFINE_TOLERANCE_MM} mm); {cure}"
        )


def has_echoes(path: Path) -> bool:
    """Whether a NIfTI file holds several volumes; reads the header alone.

    Raises:
        InputError: the file is missing or has no readable header.
    """
    shape, _ = read_grid(path)
    return len(shape) > 3 and shape[3] > 1


def grids_agree(one: Path, other: Path) -> bool:
    """Whether two NIfTI files are on one grid, but for the order and direction of their stored axes.

    Reads the headers alone; further echoes of a 4D file do not count.

    Raises:
        InputError: a file is missing or has no readable header.
    """
    return same_grid(read_grid(one), read_grid(other))


def same_grid(one: Grid, other: Grid) -> bool:
    """Whether two grids are one but for the order and direction of their stored axes."""
    if one[0] == other[0] and np.array_equal(one[1], other[1]):
        return True
    shape, affine = canonical_grid(*one)
    other_shape, other_affine = canonical_grid(*other)
    if shape != other_shape:
        return False
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape])).reshape(len(shape), -1)
    offsets = (affine - other_affine) @ np.vstack([corners, np.ones(corners.shape[1])])
    return bool(np.linalg.norm(offsets[:3], axis=0).max() <= AFFINE_TOLERANCE_MM)


def canonical_grid(
    shape: tuple[int, ...], affine: NDArray[np.float64]
) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
    """Shape and affine of the first three axes as `to_canonical` turns them."""
    stored = (*shape[:3], 1, 1)[:3]
    orientation = io_orientation(affine)
    turned = [1, 1, 1]
    for stored_axis, axis in enumerate(orientation[:, 0]):
        turned[int(axis) if np.isfinite(axis) else stored_axis] = stored[stored_axis]
    i, j, k = turned
    return (i, j, k), affine @ inv_ornt_aff(orientation, stored)


def to_canonical(volume: Volume) -> Volume:
    """Permute and flip axes so that i, j, k run most nearly to the right, front and top.

    Lossless: no voxel is interpolated. `from_canonical` undoes it.
    """
    orientation = io_orientation(volume.affine)
    data = _in_memory_order(apply_orientation(volume.data, orientation))
    affine = volume.affine @ inv_ornt_aff(orientation, volume.shape)
    return Volume(data, affine, None, volume.name)


def mask_box(mask: NDArray[np.bool_]) -> tuple[slice, ...] | None:
    """The smallest box that holds all that is set in a mask; None if nothing is."""
    sides = []
    for axis in range(mask.ndim):
        there = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        if not there.size:
            return None
        sides.append(slice(int(there[0]), int(there[-1]) + 1))
    return tuple(sides)


def _in_memory_order(data: NDArray[Any]) -> NDArray[Any]:
    """As `np.ascontiguousarray`, but row by row of j, which the cache holds: five times as fast for large images."""
    if data.flags.c_contiguous:
        return data
    ordered = np.empty(data.shape, data.dtype)
    for j in range(data.shape[1]):
        ordered[:, j] = data[:, j]
    return ordered


def from_canonical(data: NDArray[Any], original: Volume) -> NDArray[Any]:
    """Bring an array from the canonical axes of `original` back to its own axes."""
    canonical = np.array([[0, 1], [1, 1], [2, 1]])
    back = ornt_transform(canonical, io_orientation(original.affine))
    return np.ascontiguousarray(apply_orientation(data, back))


def write_volume(path: Path, volume: Volume, dtype: Any) -> None:
    """Write NIfTI with the volume's own header: qform, sform and both codes stay as they came.

    Units that the header leaves open are written as what they are taken for, millimetres.
    A volume without a header gets its affine as qform and sform with code 1 (scanner).
    Same arrays give same bytes.
    """
    data = np.asarray(volume.data, dtype=dtype)
    if volume.header is None:
        image = nib.Nifti1Image(data, volume.affine)
        image.set_qform(volume.affine, 1)
        image.set_sform(volume.affine, 1)
    else:
        header = volume.header.copy()
        header.set_data_dtype(dtype)
        header.set_slope_inter(1, 0)
        header["cal_min"] = header["cal_max"] = 0
        if _unit_of_space(header) == "unknown":
            header.set_xyzt_units("mm")
        # Free text of the scanner or converter may name the patient, and so may extensions (DICOM headers).
        header["descrip"], header["db_name"], header["aux_file"], header["intent_name"] = b"cmb_autoseg", b"", b"", b""
        header.extensions.clear()
        kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
        # With affine None the header's own qform and sform are kept bit by bit.
        image = kind(data, None, header)
    with atomic_path(path) as temporary, quiet():
        nib.save(image, temporary)


def _unit_of_space(header: Any) -> str:
    try:
        return str(header.get_xyzt_units()[0])
    except KeyError:  # a code that NIfTI does not know
        return "unknown"
