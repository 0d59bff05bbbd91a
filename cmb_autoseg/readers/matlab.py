"""Volumes in MATLAB's `.mat` files: up to version 7 through SciPy, version 7.3 (HDF5) through h5py.

They hold no geometry; the card gives it. Axes are MATLAB's, first to last.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.errors import InputError

__all__ = ["list_arrays", "load_arrays", "read_array", "read_shape"]

HDF5_MARK = b"\x89HDF\r\n\x1a\n"
HDF5_AT = (0, 512)
"""Where the mark stands: MATLAB puts a text in front."""
NUMBERS = {"double", "single", "logical", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}
DIMENSIONS = (3, 4)


@dataclass(frozen=True)
class _Array:
    name: str
    shape: tuple[int, ...]
    """As MATLAB has it."""
    kind: str
    """MATLAB's class."""

    @property
    def is_volume(self) -> bool:
        return len(self.shape) in DIMENSIONS and self.kind in NUMBERS and min(self.shape) > 0

    def __str__(self) -> str:
        return f"{self.name} ({' x '.join(map(str, self.shape))} {self.kind})"


def list_arrays(path: Path) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the arrays in a `.mat` file, from its headers.

    Raises:
        InputError: the file is missing or damaged.
    """
    return [(array.name, array.shape) for array in _arrays(path) if array.kind in NUMBERS]


def read_shape(path: Path, variable: str | None) -> tuple[int, ...]:
    """Shape of a volume, from the file's headers.

    Args:
        path: of the `.mat` file.
        variable: the array's name; None where the file holds one volume.

    Raises:
        InputError: the file is missing or damaged; there is no such array, or none or several that could be meant.
    """
    return _chosen(path, variable).shape


def read_array(path: Path, variable: str | None) -> NDArray[Any]:
    """The array itself, axes as MATLAB has them.

    Raises:
        InputError: as `read_shape`.
    """
    name = _chosen(path, variable).name
    try:
        with path.open("rb") as stream:
            return np.asarray(load_arrays(stream, name)[name])
    except MemoryError:
        raise InputError(f"{path}: {name} does not fit into memory; use a larger machine") from None
    except Exception as error:  # SciPy, zlib and HDF5 each raise their own kinds for damaged data
        raise _damaged(path, error) from None


def load_arrays(stream: BinaryIO, only: str | None = None) -> dict[str, Any]:
    """What a `.mat` file of either kind holds at its top level, axes as MATLAB has them.

    Raises:
        Exception: of many kinds, as SciPy, zlib and HDF5 raise them for damaged data.
    """
    if _is_hdf5(stream):
        import h5py

        with h5py.File(stream, "r") as file:
            return {
                name: _value(item)
                for name, item in file.items()
                if isinstance(item, h5py.Dataset) and only in (None, name)
            }
    from scipy.io import loadmat

    loaded = loadmat(cast("str", stream), variable_names=None if only is None else [only])  # its stubs know no streams
    return {name: value for name, value in loaded.items() if not name.startswith("__")}


def _value(dataset: Any) -> NDArray[Any]:
    """The values of an HDF5 dataset; MATLAB stores the first index as the fastest, and of an empty array its size."""
    if dataset.attrs.get("MATLAB_empty", 0):
        return np.empty(tuple(map(int, np.ravel(dataset[()]))))
    return np.asarray(dataset[()]).T


def _chosen(path: Path, variable: str | None) -> _Array:
    arrays = _arrays(path)
    listed = ", ".join(map(str, arrays)) or "nothing"
    if variable is not None:
        found = next((array for array in arrays if array.name == variable), None)
        if found is None:
            raise InputError(f"{path}: no array {variable} (there: {listed}); correct images.<name>.variable")
        if not found.is_volume:
            raise InputError(f"{path}: {found} is no volume of numbers (there: {listed}); name another with variable")
        return found
    volumes = [array for array in arrays if array.is_volume]
    if len(volumes) != 1:
        count = "no volume of numbers" if not volumes else f"{len(volumes)} volumes"
        raise InputError(f"{path}: holds {count} (there: {listed}); name one with images.<name>.variable")
    return volumes[0]


def _arrays(path: Path) -> list[_Array]:
    """What the file holds at its top level."""
    if not path.is_file():
        raise InputError(f"{path}: {'is a folder; give the file itself' if path.is_dir() else 'no such file'}")
    try:
        with path.open("rb") as stream:
            newer = _is_hdf5(stream)
        return _arrays_of_hdf5(path) if newer else _arrays_of_matlab(path)
    except Exception as error:  # see read_array
        raise _damaged(path, error) from None


def _arrays_of_matlab(path: Path) -> list[_Array]:
    from scipy.io import whosmat

    return [_Array(name, tuple(map(int, shape)), kind) for name, shape, kind in whosmat(path)]


def _arrays_of_hdf5(path: Path) -> list[_Array]:
    import h5py

    with h5py.File(path, "r") as file:
        datasets = {name: item for name, item in file.items() if isinstance(item, h5py.Dataset)}
        return [
            _Array(name, tuple(map(int, reversed(item.shape))), _matlab_class(item)) for name, item in datasets.items()
        ]


def _matlab_class(dataset: Any) -> str:
    """MATLAB's name of the class; of files that others wrote, NumPy's type by its MATLAB name."""
    written = dataset.attrs.get("MATLAB_class")
    if written is not None:
        return written.decode() if isinstance(written, bytes) else str(written)
    return {"float64": "double", "float32": "single", "bool": "logical"}.get(str(dataset.dtype), str(dataset.dtype))


def _is_hdf5(stream: BinaryIO) -> bool:
    found = False
    for position in HDF5_AT:
        stream.seek(position)
        found = found or stream.read(len(HDF5_MARK)) == HDF5_MARK
    stream.seek(0)
    return found


def _damaged(path: Path, error: Exception) -> InputError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return InputError(f"{path}: not readable as a .mat file ({reason}); save it again, with save -v7")
