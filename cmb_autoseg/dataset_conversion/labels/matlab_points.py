"""Arrays of points in MATLAB files, old (scipy) and of version 7.3 (HDF5)."""

import io
import re
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.errors import InputError
from cmb_autoseg.readers import read_bytes

__all__ = ["read_points_array"]

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
HDF5_OFFSET = 512
"""MATLAB writes a header of its own before the HDF5 file."""


def read_points_array(path: str, variable: str | None) -> NDArray[np.float64]:
    """The points in a `.mat` file; an empty array, or an empty file, holds none.

    Args:
        path: of the file.
        variable: name of the array; None where there is only one array of numbers.

    Returns:
        (n, 3)

    Raises:
        InputError: unreadable file, no such variable, several to choose from, another shape than N x 3.
    """
    content = read_bytes(path)
    if not content:
        return np.empty((0, 3))
    newer = HDF5_SIGNATURE in (content[: len(HDF5_SIGNATURE)], content[HDF5_OFFSET:][: len(HDF5_SIGNATURE)])
    try:
        arrays = _from_hdf5(content) if newer else _from_matlab5(content)
    except Exception as error:  # scipy, h5py and zlib each raise their own kinds for damaged data
        reason = re.sub(r"\s+", " ", str(error)) or type(error).__name__
        raise InputError(f"{path}: not readable as .mat ({reason}); save it anew with save -v7") from None
    return _of_points(path, _chosen(path, arrays, variable))


def _from_matlab5(content: bytes) -> dict[str, Any]:
    from scipy.io import loadmat

    loaded: dict[str, Any] = loadmat(cast("str", io.BytesIO(content)))  # its stubs know no streams
    return {name: value for name, value in loaded.items() if not name.startswith("__")}


def _from_hdf5(content: bytes) -> dict[str, Any]:
    import h5py

    arrays: dict[str, Any] = {}
    with h5py.File(io.BytesIO(content), "r") as file:
        for name, item in file.items():
            if not isinstance(item, h5py.Dataset):
                continue
            if item.attrs.get("MATLAB_empty", 0):  # it then holds its size instead of its values
                arrays[name] = np.empty((0, 3))
            else:
                arrays[name] = np.asarray(item).T  # MATLAB stores the first index as the fastest
    return arrays


def _chosen(path: str, arrays: dict[str, Any], variable: str | None) -> Any:
    numeric = [name for name, array in arrays.items() if getattr(array, "dtype", np.dtype(object)).kind in "iuf"]
    listed = ", ".join(sorted(arrays)) or "none"
    if variable is not None:
        if variable not in arrays:
            raise InputError(f"{path}: no variable {variable} (there: {listed}); correct labels.cmb.variable")
        if variable not in numeric:
            raise InputError(f"{path}: variable {variable} is no array of numbers; save the points as an N x 3 array")
        return arrays[variable]
    if len(numeric) != 1:
        raise InputError(f"{path}: {len(numeric)} arrays of numbers (there: {listed}); name one in labels.cmb.variable")
    return arrays[numeric[0]]


def _of_points(path: str, array: Any) -> NDArray[np.float64]:
    points = np.asarray(array, dtype=np.float64)
    if points.size == 0:
        return np.empty((0, 3))
    if points.ndim != 2 or points.shape[1] != 3:
        found = " x ".join(map(str, points.shape))
        raise InputError(
            f"{path}: found an array of {found}, N x 3 is needed (a row x, y, z of each microbleed); save it so"
        )
    return points
