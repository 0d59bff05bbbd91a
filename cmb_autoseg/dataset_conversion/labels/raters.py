"""Several readings of one case become one."""

from collections.abc import Callable

import numpy as np

from cmb_autoseg.dataset_conversion.labels.result import LabelResult, count_lesions
from cmb_autoseg.geometry import Volume
from cmb_autoseg.records import LabelSource

__all__ = ["read_raters"]


def read_raters(source: LabelSource, grid: Volume, read: Callable[[LabelSource, Volume], LabelResult]) -> LabelResult:
    """Combine readings voxel by voxel; lesions are the components of what is left.

    Args:
        source: with `raters`.
        grid: on which all of them are drawn.
        read: reads one of them.

    Raises:
        InputError: as `read` does.
    """
    readings = [read(_one(source, path), grid) for _, path in sorted(source.raters.items())]
    votes = np.zeros(grid.shape, dtype=np.uint16)
    for reading in readings:
        votes += reading.volume.data > 0
    needed = 1 if source.combine == "union" else len(readings) // 2 + 1
    data = (votes >= needed).astype(np.uint8)
    n_lesions = count_lesions(data)
    counts = ", ".join(str(reading.n_lesions) for reading in readings)
    how = "union of" if source.combine == "union" else f"voxels that {needed} or more marked, of"
    notes = (
        f"{how} {len(readings)} readers, who marked {counts} lesions: {n_lesions} lesions",
        *(note for reading in readings for note in reading.notes),
    )
    return LabelResult(grid.with_data(data), n_lesions, tuple(dict.fromkeys(notes)))


def _one(source: LabelSource, path: str) -> LabelSource:
    return source.model_copy(update={"path": path, "raters": {}})
