"""From a network's input to the logit of a microbleed, window by window, all folds at once.

Where windows lie changes what a network says of a lesion, most of all near a window's edge; nnU-Net evens this out by
windows that overlap by half, which is eight times the work, and nearly all of it says that there is nothing. Here two
folds cover the brain first, each in windows of its own that hardly overlap, and only where one of them finds anything
all folds look, in nnU-Net's windows (docs/concepts/speed.md).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import logit
from torch import Tensor

from cmb_autoseg.inference.engines import Engine
from cmb_autoseg.inference.tiles import (
    Windows,
    fitted_windows,
    gaussian_weights,
    nnunet_windows,
    pad_to,
    summed_weights,
)
from cmb_autoseg.records import Triple

__all__ = ["Windowing", "foreground_logits"]

BLANK_LOGIT = -20.0
"""Where no window lies, which is well outside the brain."""
COVERING = 2
"""Folds that cover the brain; all of them are many times the work, and one alone may be blind to a lesion."""
WORTH, FAST_WORTH = 0.05, 0.1
"""Probability in a covering window from which on all folds look."""
SECOND_STEP = 0.5
"""Between the windows in which they look, as a share of the patch: nnU-Net's."""
LEAST_SHARE = 0.1
"""A window that contributes less to every voxel of a candidate is not worth its time."""
MARGIN = 3
"""Voxels around what was found that are decided anew with it."""
CONNECTED_26 = np.ones((3, 3, 3))

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Windowing:
    """How windows are laid and predicted."""

    patch: Triple[int]
    """That the network has learned on."""
    divisors: Triple[int]
    """What a window's sides must be multiples of."""
    step: float | None = None
    """From one window to the next, as nnU-Net spreads them; None covers the brain and looks again where needed."""
    mirror: tuple[int, ...] = ()
    """Axes (0 to 2) along which windows are mirrored, in all combinations, and predicted again."""
    fast: bool = False
    """Cover the brain with the first fold alone, and look again only at what it finds with some confidence."""


def foreground_logits(
    data: NDArray[np.float32], brain: NDArray[np.bool_], engine: Engine, n_folds: int, how: Windowing
) -> NDArray[np.float32]:
    """The folds' mean logit of a microbleed over the background.

    Windows that overlap are averaged by nnU-Net's bell, in single precision.

    Args:
        data: (channel, a, b, c).
        brain: (a, b, c); only there, and a voxel around, are there windows.
        engine: computes the networks.
        n_folds: networks that it holds.
        how: windows are laid.

    Returns:
        (a, b, c); `BLANK_LOGIT` where no window was.
    """
    padded, inner = pad_to(data, how.patch)
    inside, _ = pad_to(brain, how.patch)
    networks = _Networks(torch.from_numpy(np.ascontiguousarray(padded)).to(engine.device), engine, how.mirror)
    folds = range(n_folds)
    if how.step is not None:
        return _mean(networks, nnunet_windows(inside, how.patch, how.step), folds)[inner]
    worth = logit(FAST_WORTH if how.fast else WORTH)
    logits = _mean(networks, fitted_windows(inside, how.patch, how.divisors), folds[:1])
    found = inside & (logits >= worth)
    if n_folds >= COVERING and not how.fast:
        second = _mean(networks, nnunet_windows(inside, how.patch, step=1.0), folds[1:COVERING])
        found |= inside & (second >= worth)
        logits += second
        logits /= COVERING
        del second
    if found.any():
        _look_again(logits, found, networks, nnunet_windows(inside, how.patch, SECOND_STEP), folds)
    return np.asarray(logits[inner])


class _Networks:
    """The folds' networks on windows of one volume.

    Args:
        volume: (channel, a, b, c) on the engine's device.
        engine: computes the networks.
        mirror: axes, see `Windowing`.
    """

    def __init__(self, volume: Tensor, engine: Engine, mirror: Sequence[int]) -> None:
        self.volume, self.engine = volume, engine
        self.flips = [subset for n in range(len(mirror) + 1) for subset in combinations([a + 2 for a in mirror], n)]

    def __call__(self, windows: Windows, folds: Sequence[int]) -> Iterator[tuple[Box, Tensor]]:
        """Each window's box, and the mean logits (a, b, c) of the folds over all mirrored passes."""
        with torch.inference_mode():
            for first in range(0, len(windows.places), self.engine.batch):
                boxes = [_box(place, windows.size) for place in windows.places[first : first + self.engine.batch]]
                batch = torch.stack([self.volume[(slice(None), *box)] for box in boxes])
                passes = [self._pass(batch, fold, axes) for fold in folds for axes in self.flips]
                yield from zip(boxes, torch.stack(passes).mean(dim=0), strict=True)

    def _pass(self, batch: Tensor, fold: int, axes: tuple[int, ...]) -> Tensor:
        if not axes:
            return self.engine.foreground(fold, batch)
        logits = self.engine.foreground(fold, torch.flip(batch, axes).contiguous())
        return torch.flip(logits, [axis - 1 for axis in axes])  # the output has no axis of channels


def _box(place: Triple[int], size: Triple[int]) -> Box:
    a, b, c = (slice(n, n + side) for n, side in zip(place, size, strict=True))
    return a, b, c


def _mean(networks: _Networks, windows: Windows, folds: Sequence[int]) -> NDArray[np.float32]:
    """Logits (a, b, c) of all windows, weighted by the bell where they overlap."""
    device, shape = networks.volume.device, networks.volume.shape[1:]
    total, unseen = torch.zeros(shape, device=device), torch.ones(shape, dtype=torch.bool, device=device)
    bell = torch.from_numpy(gaussian_weights(windows.size)).to(device)
    for box, logits in networks(windows, folds):
        total[box] += logits * bell
        unseen[box] = False
    for axis, factor in enumerate(summed_weights(windows, shape)):
        total /= torch.from_numpy(factor).to(device).view([-1 if other == axis else 1 for other in range(3)])
    total.masked_fill_(unseen, BLANK_LOGIT)
    return np.asarray(total.cpu().numpy())


def _look_again(
    logits: NDArray[np.float32], found: NDArray[np.bool_], networks: _Networks, windows: Windows, folds: Sequence[int]
) -> None:
    """Replace the logits of what was found, and of some voxels around, by the mean of all windows that matter there."""
    bell = gaussian_weights(windows.size)
    near = np.argwhere(ndimage.binary_dilation(found, CONNECTED_26, MARGIN))
    is_found = found[tuple(near.T)]
    insides = [_inside(near, place, windows.size) for place in windows.places]
    weights = np.zeros((len(windows.places), len(near)), dtype=np.float32)
    for row, (place, inside) in zip(weights, zip(windows.places, insides, strict=True), strict=True):
        row[inside] = bell[tuple((near[inside] - place).T)]
    shares = weights[:, is_found] / weights[:, is_found].sum(axis=0)
    matter = np.flatnonzero(shares.max(axis=1) >= LEAST_SHARE)
    total, weight = np.zeros(len(near), dtype=np.float32), np.zeros(len(near), dtype=np.float32)
    chosen = Windows(windows.size, tuple(windows.places[index] for index in matter))
    for index, (_, seen) in zip(matter, networks(chosen, folds), strict=True):
        inside = insides[index]
        values = seen.cpu().numpy()[tuple((near[inside] - windows.places[index]).T)]
        total[inside] += weights[index, inside] * values
        weight[inside] += weights[index, inside]
    known = weight > 0
    logits[tuple(near[known].T)] = total[known] / weight[known]


def _inside(voxels: NDArray[np.int64], place: Triple[int], size: Triple[int]) -> NDArray[np.bool_]:
    return np.asarray(np.all((voxels >= place) & (voxels < np.add(place, size)), axis=1))
