"""Grey values that mean the same from scan to scan."""

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.geometry import Volume

__all__ = ["strip", "zscore_in_brain"]

ZERO_STAND_IN = np.float32(1e-6)
"""Share of the largest value, or standard deviations, that replaces an exact 0 inside the brain: nnU-Net takes zeros
for background."""


def strip(volume: Volume, brain: NDArray[np.bool_]) -> Volume:
    """The values inside the brain; 0 outside, and never exactly 0 inside.

    Args:
        volume: finite.
        brain: of the same shape.

    Returns:
        float32 on the same grid.
    """
    tiny = ZERO_STAND_IN * np.float32(np.abs(volume.data).max())
    inside = np.where(volume.data == 0, max(tiny, np.finfo(np.float32).tiny), volume.data)
    return volume.with_data(np.where(brain, inside, 0).astype(np.float32))


def zscore_in_brain(volume: Volume, brain: NDArray[np.bool_]) -> Volume:
    """Zero mean and unit variance inside the brain; 0 outside, and never exactly 0 inside.

    A volume that is constant inside the brain, such as a channel in which nothing was found, becomes
    the stand-in for 0 there.

    Args:
        volume: finite.
        brain: of the same shape.

    Returns:
        float32 on the same grid.
    """
    inside = volume.data[brain].astype(np.float64)
    spread = float(inside.std()) if inside.size else 0.0
    # The mean of equal numbers may be off by rounding, and so may be their spread.
    if inside.size and spread > 1e-12 * float(np.abs(inside).max()):
        scaled = ((inside - inside.mean()) / spread).astype(np.float32)
    else:
        scaled = np.zeros(inside.shape, dtype=np.float32)
    scaled[np.abs(scaled) < ZERO_STAND_IN] = ZERO_STAND_IN
    normalized = np.zeros(volume.shape, dtype=np.float32)
    normalized[brain] = scaled
    return volume.with_data(normalized)
