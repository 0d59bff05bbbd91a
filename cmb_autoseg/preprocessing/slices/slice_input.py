"""A prepared scan as a stack of pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.geometry import Volume
from cmb_autoseg.preprocessing.slices.frame import SliceFrame
from cmb_autoseg.preprocessing.slices.grey_values import grey_values
from cmb_autoseg.records import Role
from cmb_autoseg.trainers.recipe import BoxPictureSettings, PictureSettings

__all__ = ["SliceInput", "slice_input", "with_neighbors"]


@dataclass(frozen=True)
class SliceInput:
    """Every axial slice of one scan, from the bottom to the top, and where the pictures lie in it."""

    data: NDArray[np.float32]
    """(slice, channel, h, w), from 0 to 1; 0 outside the brain, a missing sequence 0 throughout."""
    frame: SliceFrame


def slice_input(
    volumes: Mapping[Role, Volume],
    channels: Sequence[Role],
    settings: PictureSettings | BoxPictureSettings,
    size: tuple[int, int],
) -> SliceInput:
    """The pictures of one prepared scan.

    Args:
        volumes: canonical, one grid, zero outside the brain; at least one.
        channels: of the network; those that are not among the volumes stay 0.
        settings: of the recipe.
        size: rows and columns of the pictures.
    """
    brain = np.any([(volume.data != 0).any(axis=2) for volume in volumes.values()], axis=0).T
    frame = SliceFrame.fit(brain.shape[0], brain.shape[1], size, settings.fit, brain)
    n_slices = next(iter(volumes.values())).shape[2]
    data = np.zeros((n_slices, len(channels), *frame.size), dtype=np.float32)
    for channel, role in enumerate(channels):
        if role in volumes:
            grey = grey_values(volumes[role].data, role, settings.normalization)
            data[:, channel] = frame.to_pixels(grey.transpose(2, 1, 0))
    return SliceInput(data, frame)


def with_neighbors(data: NDArray[Any], index: int, neighbors: int) -> NDArray[np.float32]:
    """A slice between its neighbors.

    Args:
        data: (slice, channel, h, w).
        index: of the slice.
        neighbors: slices on either side.

    Returns:
        (channel * (2 * neighbors + 1), h, w), slice by slice from the lowest; 0 beyond the volume.
    """
    n_slices, n_channels, *size = data.shape
    stack = np.zeros((2 * neighbors + 1, n_channels, *size), dtype=np.float32)
    low, high = max(0, index - neighbors), min(n_slices, index + neighbors + 1)
    stack[low - index + neighbors : high - index + neighbors] = data[low:high]
    return stack.reshape(-1, *size)
