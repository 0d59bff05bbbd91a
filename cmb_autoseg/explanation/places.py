"""What several networks say of places in one input: maps and scores of patches, averaged over the folds."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

from cmb_autoseg.explanation.findings import Finding
from cmb_autoseg.explanation.grad_cam import Method, grad_cam, level_modules, scores
from cmb_autoseg.records import Role

__all__ = ["NEAR_MM", "Explanation", "Place", "explain_places", "share_near"]

NEAR_MM = 5.0
"""As far as a prediction may lie from the lesion that it hits."""
BATCH = 4
"""Patches that go through a network at once; their gradients need several times the memory of a prediction."""


@dataclass(frozen=True)
class Explanation:
    """What the networks say of one finding, averaged over the folds, each of whose maps has the same mass."""

    finding: Finding
    map: NDArray[np.float32]
    """(i, j, k) on the scan's own grid, 0..1; all 0 where nothing speaks for a microbleed."""
    score: float | None
    """Mean logit difference over the finding's voxels; None where these lie outside of what the network is given."""
    drops: dict[Role, float]
    """What the score loses when a sequence is blanked, of those that the case has."""
    near: float | None
    """Share of the map's mass within 5 mm of the finding; None for an empty map."""
    near_by_chance: float | None
    """The same of a map that is even over the patch."""


@dataclass(frozen=True)
class Place:
    """A finding on the grid of the network's (padded) input."""

    start: tuple[int, ...]
    region: NDArray[np.bool_]
    """Of the patch's shape: the finding's voxels."""

    def box(self) -> tuple[slice, ...]:
        return tuple(slice(s, s + n) for s, n in zip(self.start, self.region.shape, strict=True))


def explain_places(
    networks: Iterable[nn.Module],
    level: int,
    method: Method,
    padded: NDArray[np.float32],
    places: Sequence[Place],
    present: Sequence[int],
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Explain places of one input by the networks of all folds, each of which has the same say.

    Args:
        networks: one a fold, in evaluation mode, all of one architecture.
        level: as `level_modules` counts.
        method: see `grad_cam`.
        padded: (channel, z, y, x), at least as large as a patch.
        places: all of one patch's shape.
        present: channels that are blanked one by one.

    Returns:
        Maps (place, z, y, x), 0..1; and scores (1 + channel, place): as it is, then without each of `present`.
    """
    if not places:
        return np.zeros((0, *padded.shape[1:]), dtype=np.float32), np.zeros((1 + len(present), 0))
    maps = np.zeros((len(places), *places[0].region.shape), dtype=np.float32)
    values = np.zeros((1 + len(present), len(places)))
    n_folds = 0
    for network in networks:
        n_folds += 1
        device = next(network.parameters()).device
        layer = level_modules(network)[level][1]
        for first in range(0, len(places), BATCH):
            some = places[first : first + BATCH]
            chosen = slice(first, first + len(some))
            patches = torch.from_numpy(np.stack([padded[(slice(None), *place.box())] for place in some])).to(device)
            regions = torch.from_numpy(np.stack([place.region for place in some])).to(device, torch.float32)
            found = grad_cam(network, layer, patches, regions, method).cpu().numpy()
            # Each network has its own unit of features: unscaled, the largest would speak for all.
            maps[chosen] += _scaled(found, found.sum(axis=(1, 2, 3)))
            values[0, chosen] += scores(network, patches, regions).cpu().numpy()
            for order, channel in enumerate(present):
                blanked = patches.clone()
                blanked[:, channel] = 0
                values[1 + order, chosen] += scores(network, blanked, regions).cpu().numpy()
    return _scaled(maps, maps.max(axis=(1, 2, 3))), values / n_folds


def _scaled(maps: NDArray[np.float32], by: NDArray[np.float32]) -> NDArray[np.float32]:
    """Maps (place, z, y, x), each divided by its own figure (place,); an empty map stays empty."""
    divisors = np.broadcast_to(by[:, None, None, None], maps.shape)
    return np.divide(maps, divisors, out=np.zeros_like(maps), where=divisors > 0)


def share_near(
    values: NDArray[np.float32], region: NDArray[np.bool_], spacing_mm: Sequence[float]
) -> tuple[float | None, float]:
    """Share of a map's mass within 5 mm of a region, and of an even map's; all have the patch's shape."""
    near = ndimage.distance_transform_edt(~region, sampling=spacing_mm) <= NEAR_MM
    total = float(values.sum())
    return (float(values[near].sum()) / total if total > 0 else None), float(near.mean())
