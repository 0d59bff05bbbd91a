"""Arrays of points in MATLAB files, old (scipy) and of version 7.3 (HDF5)."""

import io
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.errors import InputError
from cmb_autoseg.readers import read_bytes
from cmb_autoseg.readers.matlab import load_arrays

__all__ = ["read_points_array"]


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
    try:
        arrays = load_arrays(io.BytesIO(content))
    except Exception as error:  # scipy, h5py and zlib each raise their own kinds for damaged data
        reason = re.sub(r"\s+", " ", str(error)) or type(error).__name__
        raise InputError(f"{path}: not readable as .mat ({reason}); save it anew with save -v7") from None
    return _of_points(path, _chosen(path, arrays, variable))


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
