"""In which region of the brain lesions lie, by maps of regions."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.matching.lesion_set import LesionSet
from cmb_autoseg.geometry import Volume, check_same_grid, read_volume, to_canonical

__all__ = ["REGION_NAMES", "lesion_regions", "read_regions"]

REGION_NAMES = ("unknown", "lobar", "deep", "infratentorial")
"""By their value in a map, from 0."""


def read_regions(path: Path, volume: Volume | None = None) -> Volume:
    """A map of regions in canonical axes; `data` is uint8 (i, j, k), indices into `REGION_NAMES`.

    Args:
        path: NIfTI with 0 unknown, 1 lobar, 2 deep, 3 infratentorial.
        volume: mask of the case in canonical axes, where there is one.

    Raises:
        InputError: unreadable, or other values.
        GeometryError: on another grid than the mask.
    """
    stored = to_canonical(read_volume(path))
    if volume is not None:
        check_same_grid(stored, volume, "resample the map of regions to the mask's grid (nearest neighbor)")
    legal = np.isin(stored.data, range(len(REGION_NAMES)))
    if not legal.all():
        values = np.unique(stored.data[~legal])
        listed = ", ".join(f"{n} {name}" for n, name in enumerate(REGION_NAMES))
        raise InputError(
            f"{path}: holds {', '.join(f'{value:g}' for value in values[:5])}{', ...' if len(values) > 5 else ''}, but "
            f"only {listed} are legal; write these numbers"
        )
    return stored.with_data(stored.data.astype(np.uint8))


def lesion_regions(lesions: LesionSet, regions: Volume) -> tuple[str, ...]:
    """The region of each lesion: of most of its voxels, of the voxel nearest to its centre where it has none.

    Where two regions have as many voxels, it is the centre's if that is one of them, else the one with the lower
    number; a centre outside the map is `unknown`.

    Args:
        lesions: of a mask on the map's grid while it still has its components, else by their centres.
        regions: as `read_regions` gives it.

    Raises:
        InputError: a mask on another grid.
    """
    at_centres = _at_centres(lesions.centres_mm, regions)
    if lesions.components is None or not len(lesions):
        return tuple(REGION_NAMES[value] for value in at_centres)
    labels = lesions.components.labels
    if labels.shape != regions.shape:
        raise InputError(f"{regions.name}: shape {regions.shape} differs from the mask's {labels.shape}; resample it")
    inside = np.flatnonzero(labels)
    counts = np.zeros((len(lesions), len(REGION_NAMES)))
    np.add.at(counts, (labels.reshape(-1)[inside] - 1, regions.data.reshape(-1)[inside]), 1)
    counts[np.arange(len(lesions)), at_centres] += 0.5
    return tuple(REGION_NAMES[value] for value in counts.argmax(axis=1))


def _at_centres(centres_mm: NDArray[np.float64], regions: Volume) -> NDArray[np.int64]:
    """(n,): value of the map at each centre."""
    nearest = np.rint(regions.to_voxels(centres_mm)).astype(np.int64)
    inside = np.all((nearest >= 0) & (nearest < regions.shape), axis=1)
    values = np.zeros(len(nearest), dtype=np.int64)
    values[inside] = regions.data[tuple(nearest[inside].T)]
    return values
