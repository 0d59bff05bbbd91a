"""Volumes that several stages of one command read, kept in memory as far as they fit."""

from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from cmb_autoseg.geometry import Volume, read_volume
from cmb_autoseg.machine import available_bytes

__all__ = ["KeptVolumes"]

SHARE_OF_MEMORY = 0.25
"""Of what is free in the beginning; the stages themselves need some."""


class KeptVolumes:
    """Reads volumes, and gives those that it has kept without reading them again; threads may share it.

    Args:
        most_bytes: of voxels that are kept; None for a quarter of the memory that is free.
    """

    def __init__(self, most_bytes: int | None = None) -> None:
        self.left = int(SHARE_OF_MEMORY * available_bytes()) if most_bytes is None else most_bytes
        self._kept: dict[tuple[Path, Any], Volume] = {}
        self._lock = Lock()

    def read(self, path: Path, dtype: Any = np.float32) -> Volume:
        """See `read_volume`; the voxels are read-only."""
        key = (path, np.dtype(dtype))
        with self._lock:
            known = self._kept.get(key)
        if known is not None:
            return known
        volume = read_volume(path, dtype=dtype)
        volume.data.setflags(write=False)
        with self._lock:
            if key not in self._kept and volume.data.nbytes <= self.left:
                self._kept[key] = volume
                self.left -= volume.data.nbytes
        return volume
