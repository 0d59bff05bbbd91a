"""Masks and probability maps of any tool, in canonical axes and checked."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.errors import GeometryError, InputError
from cmb_autoseg.geometry import Volume, check_same_grid, read_grid, read_volume, to_canonical

__all__ = ["is_plain_mask", "read_prediction", "read_probability", "read_reference"]

MASK_TOLERANCE = 1e-3
"""A header's slope may turn a stored 1 into 0.9999."""
ARRAYS_OF_NNUNET = ("probabilities", "softmax")
"""Names of the array in nnU-Net's `<case>.npz`: of version 2, of version 1."""
MICROBLEED = 1
"""Its class in such an array."""
VALUES_LISTED = 5


def read_reference(case: str, path: Path) -> Volume:
    """A mask of 0 and 1 in canonical axes; `data` is uint8 (i, j, k).

    Raises:
        InputError: unreadable file, or other values than 0 and 1.
    """
    volume = to_canonical(read_volume(path))
    return volume.with_data(_binary(case, volume))


def read_prediction(case: str, path: Path) -> Volume:
    """A predicted mask, or a probability map that stands for one, in canonical axes; `data` is float32 within 0..1.

    Raises:
        InputError: unreadable file, or values beyond 0..1 (NaN included).
    """
    return _in_unit_range(case, to_canonical(read_volume(path)))


def read_probability(case: str, path: Path, mask: Volume) -> Volume:
    """The probability map beside a mask, in canonical axes; `data` is float32 within 0..1.

    Args:
        case: for messages.
        path: NIfTI, or nnU-Net's `.npz` with an array (class, z, y, x) of which class 1 is taken.
        mask: the case's mask in canonical axes, named by its file; the map must be on its grid.

    Raises:
        InputError: unreadable file, or values beyond 0..1 (NaN included).
        GeometryError: another grid than the mask's.
    """
    if path.suffix.lower() == ".npz":
        shape, affine = read_grid(Path(mask.name))
        volume = to_canonical(Volume(_read_npz(case, path, mask.name, shape[:3]), affine, None, str(path)))
    else:
        volume = to_canonical(read_volume(path))
        check_same_grid(volume, mask, "save mask and probabilities on one grid")
    return _in_unit_range(case, volume)


def is_plain_mask(volume: Volume) -> bool:
    """Whether a prediction's voxels are 0 and 1 alone, which say nothing of confidence."""
    data = volume.data
    return not bool(np.any((data != 0) & (data < 1 - MASK_TOLERANCE)))


def _binary(case: str, reference: Volume) -> NDArray[np.uint8]:
    mask = reference.data > 0.5
    legal = np.abs(reference.data - mask) <= MASK_TOLERANCE  # False for NaN
    if not legal.all():
        values = np.unique(reference.data[~legal])
        listed = ", ".join(f"{value:g}" for value in values[:VALUES_LISTED])
        listed += ", ..." if len(values) > VALUES_LISTED else ""
        between = bool(np.all((values >= 0) & (values <= 1)))
        swapped = "; these look like probabilities: are -p and --reference swapped?" if between else ""
        raise InputError(
            f"{case}: reference {reference.name} holds {listed}, but only 0 and 1 are legal; "
            f"write a mask with 1 for microbleeds and 0 elsewhere{swapped}"
        )
    return mask.astype(np.uint8)


def _in_unit_range(case: str, volume: Volume) -> Volume:
    low, high = float(volume.data.min()), float(volume.data.max())
    if np.isnan(low):
        n_nan = int(np.isnan(volume.data).sum())
        raise InputError(
            f"{case}: prediction {volume.name} holds NaN in {n_nan} of {volume.data.size} voxels, but numbers from 0 "
            "to 1 are needed; predict this case again, or write 0 where NaN means that nothing was predicted there"
        )
    if not (low >= 0 and high <= 1 + MASK_TOLERANCE):
        raise InputError(
            f"{case}: prediction {volume.name} holds values from {low:g} to {high:g}, but a mask (0 and 1) or "
            "probabilities (0 to 1) are needed; name the mask's file or rescale it"
        )
    return volume if high <= 1 else volume.with_data(np.minimum(volume.data, 1))


def _read_npz(case: str, path: Path, mask: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Probabilities (i, j, k) of microbleeds in the stored axes of the mask."""
    array = _array_of(case, path)
    i, j, k = shape
    if array.ndim != 4 or array.shape[1:] != (k, j, i):
        raise GeometryError(
            f"{case}: {path.name} holds an array of shape {array.shape}, but {mask} needs (classes, {k}, {j}, "
            f"{i}); save both in one run of nnU-Net with --save_probabilities"
        )
    if len(array) <= MICROBLEED:
        raise InputError(
            f"{case}: {path.name} holds {len(array)} class, but probabilities of background and microbleeds are "
            "needed; save them with nnU-Net's --save_probabilities"
        )
    found: NDArray[np.float32] = array[MICROBLEED].transpose(2, 1, 0).astype(np.float32)
    return found


def _array_of(case: str, path: Path) -> NDArray[Any]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            name = next((name for name in ARRAYS_OF_NNUNET if name in stored.files), None)
            if name is None:
                raise InputError(
                    f"{case}: {path.name} holds {', '.join(stored.files) or 'nothing'}, but the array "
                    f"{ARRAYS_OF_NNUNET[0]} is needed; save it with nnU-Net's --save_probabilities"
                )
            array: NDArray[Any] = stored[name]
    except InputError:
        raise
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{case}: {path} is damaged or no .npz of nnU-Net ({reason}); copy it again") from None
    if array.dtype.kind not in "fiu":
        raise InputError(f"{case}: {path.name} holds {array.dtype}, but probabilities are needed; save it again")
    return array
