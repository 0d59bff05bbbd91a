"""The folds' networks of a model that sees axial slices, and the batches of slices that they are shown."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cmb_autoseg.inference.ensemble import Ensemble
from cmb_autoseg.preprocessing.slices import SliceInput, with_neighbors

__all__ = ["load_networks", "shown_slices"]

Network = TypeVar("Network", bound=nn.Module)


def load_networks(ensemble: Ensemble, build: Callable[[], Network]) -> list[Network]:
    """One network a fold, with its weights, on the ensemble's device and ready to predict.

    Args:
        ensemble: whose folds are loaded.
        build: makes a network with any weights.
    """
    networks: list[Network] = []
    for fold in ensemble.folds:
        network = build()
        network.load_state_dict(ensemble.checkpoint(fold)["network_weights"])
        networks.append(network.to(ensemble.device).eval().to(memory_format=torch.channels_last))
    return networks


def shown_slices(
    made: SliceInput, neighbors: int, device: str, at_once: int
) -> Iterator[tuple[NDArray[np.intp], Tensor]]:
    """Slices of a scan that show anything, a batch at a time: their indices, and (batch, n * channel, h, w).

    Args:
        made: of the scan.
        neighbors: slices on either side that are seen as well.
        device: that the batch is brought to.
        at_once: slices of a batch.
    """
    shown = np.flatnonzero(made.data.any(axis=(1, 2, 3)))
    for first in range(0, len(shown), at_once):
        indices = shown[first : first + at_once]
        stack = np.stack([with_neighbors(made.data, int(index), neighbors) for index in indices])
        yield indices, torch.from_numpy(stack).to(device).contiguous(memory_format=torch.channels_last)
