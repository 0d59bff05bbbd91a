"""From a network's input to the logit of a microbleed, window by window, all folds at once.

Where windows lie changes what a network says of a lesion, most of all near a window's edge; nnU-Net evens this out by
windows that overlap by half, which is eight times the work, and nearly all of it says that there is nothing. Here two
folds cover the brain first, each in windows of its own that hardly overlap. Where one of them finds anything that the
other does not rule out, all folds look in one of nnU-Net's windows, and where they confirm it in all of these; where
they remain unsure, in mirrored ones and with fewer sequences too, if that is wanted (docs/concepts/speed.md).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, cycle, islice, product

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
"""Outside the brain."""
COVERING = 2
"""Folds that cover the brain; all of them are many times the work, and one alone may be blind to a lesion."""
WORTH, FAST_WORTH = 0.05, 0.1
"""Probability in a covering window from which on all folds look."""
SECOND_STEP = 0.5
"""Between the windows in which they look, as a share of the patch: nnU-Net's."""
MOST_VOXELS = 2**22
"""In and around candidates. Networks that have learned nothing find more; lists of them would fill the memory, so that
all folds look at the whole brain."""
PLAUSIBLE = 0.02
"""Both covering folds' mean, each where it is highest about a voxel, from which on all folds look."""
CONFIRMED = 0.1
"""Probability of the folds' mean in one window from which on they look in the others too."""
UNSURE = (0.1, 0.9)
"""Probabilities between which other passes can change whether something is a lesion."""
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
    """Axes (0 to 2) along which windows are mirrored, in all combinations, and predicted again; without a step, only
    where the folds remain unsure, or everywhere where that is too much of the brain."""
    fewer: tuple[tuple[int, ...], ...] = ()
    """Sets of channels with which alone windows are predicted again where the folds remain unsure, unless that is too
    much of the brain; without a step."""
    fast: bool = False
    """Cover the brain with the first fold alone, and look again only at what it finds with some confidence."""


@dataclass(frozen=True)
class _Pass:
    """How a network sees a window."""

    flips: tuple[int, ...] = ()
    """Axes of a batch that are turned round."""
    channels: tuple[int, ...] | None = None
    """The others are 0; None where all are seen."""


PLAIN = (_Pass(),)


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
        (a, b, c); `BLANK_LOGIT` beyond a voxel around the brain.
    """
    padded, inner = pad_to(data, how.patch)
    inside, _ = pad_to(brain, how.patch)
    networks = _Networks(torch.from_numpy(np.ascontiguousarray(padded)).to(engine.device), engine, how)
    folds = range(n_folds)
    if how.step is not None:
        logits = _mean(networks, nnunet_windows(inside, how.patch, how.step), folds, (*PLAIN, *networks.mirrored))
    else:
        logits, found = _cover(networks, inside, n_folds, how)
        near = ndimage.binary_dilation(found, CONNECTED_26, MARGIN)
        windows = nnunet_windows(inside, how.patch, SECOND_STEP)
        if np.count_nonzero(near) > MOST_VOXELS:
            logits = _mean(networks, windows, folds, (*PLAIN, *networks.mirrored))
        elif near.any():
            _look_again(logits, _Candidates(found, near, windows), networks, folds)
    # Further out some windows are left out, so that the weights of the others do not add up.
    logits[~ndimage.binary_dilation(inside, CONNECTED_26)] = BLANK_LOGIT
    return np.asarray(logits[inner])


def _cover(
    networks: "_Networks", inside: NDArray[np.bool_], n_folds: int, how: Windowing
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The covering folds' mean logit (a, b, c), and the voxels at which all folds should look."""
    first = _mean(networks, fitted_windows(inside, how.patch, how.divisors), [0])
    if n_folds < COVERING or how.fast:
        return first, inside & (first >= logit(FAST_WORTH if how.fast else WORTH))
    second = _mean(networks, nnunet_windows(inside, how.patch, step=1.0), [1])
    found = inside & (np.maximum(first, second) >= logit(WORTH))
    if np.count_nonzero(found) <= MOST_VOXELS:
        _drop_implausible(found, first, second)
    first += second
    first /= COVERING
    return first, found


def _drop_implausible(found: NDArray[np.bool_], first: NDArray[np.float32], second: NDArray[np.float32]) -> None:
    """Take out of `found` what one of two covering folds is so sure not to see that the other has to be wrong."""
    voxels = np.argwhere(found)
    mean = (_highest_about(first, voxels) + _highest_about(second, voxels)) / 2
    found[tuple(voxels[mean < logit(PLAUSIBLE)].T)] = False


def _highest_about(logits: NDArray[np.float32], voxels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Of some voxels and the 26 around each."""
    highest = np.full(len(voxels), -np.inf, dtype=np.float32)
    for offset in product((-1, 0, 1), repeat=3):
        near = np.clip(voxels + offset, 0, np.array(logits.shape) - 1)
        np.maximum(highest, logits[tuple(near.T)], out=highest)
    return highest


class _Networks:
    """The folds' networks on windows of one volume.

    Args:
        volume: (channel, a, b, c) on the engine's device.
        engine: computes the networks.
        how: windows may be mirrored, and with which channels they are seen.
    """

    def __init__(self, volume: Tensor, engine: Engine, how: Windowing) -> None:
        self.volume, self.engine = volume, engine
        axes = [axis + 2 for axis in how.mirror]
        flips = [some for n in range(1, len(axes) + 1) for some in combinations(axes, n)]
        self.mirrored = [_Pass(some) for some in flips]
        """All ways in which windows are mirrored."""
        pairs = zip(cycle(flips or [()]), cycle([*how.fewer, None]), strict=False)
        self.others = [_Pass(*pair) for pair in islice(pairs, max(len(flips), len(how.fewer)))]
        """Those in which something that the folds are unsure of is seen: each mirroring, each set of channels."""

    def __call__(
        self, windows: Windows, folds: Sequence[int], passes: Sequence[_Pass] = PLAIN
    ) -> Iterator[tuple[Box, Tensor]]:
        """Each window's box, and the mean logits (a, b, c) of the folds over some passes."""
        with torch.inference_mode():
            for first in range(0, len(windows.places), self.engine.batch):
                boxes = [_box(place, windows.size) for place in windows.places[first : first + self.engine.batch]]
                batch = torch.stack([self.volume[(slice(None), *box)] for box in boxes])
                seen = [self._see(batch, fold, how) for fold in folds for how in passes]
                yield from zip(boxes, torch.stack(seen).mean(dim=0), strict=True)

    def _see(self, batch: Tensor, fold: int, how: _Pass) -> Tensor:
        if how.channels is not None:
            kept = torch.zeros_like(batch)
            kept[:, how.channels] = batch[:, how.channels]
            batch = kept
        if not how.flips:
            return self.engine.foreground(fold, batch)
        logits = self.engine.foreground(fold, torch.flip(batch, how.flips).contiguous())
        return torch.flip(logits, [axis - 1 for axis in how.flips])  # the output has no axis of channels


def _box(place: Triple[int], size: Triple[int]) -> Box:
    a, b, c = (slice(n, n + side) for n, side in zip(place, size, strict=True))
    return a, b, c


def _mean(
    networks: _Networks, windows: Windows, folds: Sequence[int], passes: Sequence[_Pass] = PLAIN
) -> NDArray[np.float32]:
    """Logits (a, b, c) of all windows, weighted by the bell where they overlap; right in and next to the brain."""
    device, shape = networks.volume.device, networks.volume.shape[1:]
    total = torch.zeros(shape, device=device)
    bell = torch.from_numpy(gaussian_weights(windows.size)).to(device)
    for box, logits in networks(windows, folds, passes):
        total[box] += logits * bell
    for axis, factor in enumerate(summed_weights(windows, shape)):
        total /= torch.from_numpy(factor).to(device).view([-1 if other == axis else 1 for other in range(3)])
    return np.asarray(total.cpu().numpy())


def _look_again(
    logits: NDArray[np.float32], candidates: "_Candidates", networks: _Networks, folds: Sequence[int]
) -> None:
    """Replace the logits of candidates, and of the voxels around, by the folds' mean where they look again.

    They look at each candidate in the window in whose middle it lies best; where they find something too, in all others
    that matter; and where that leaves them unsure, in all of these in other passes.
    """
    first = candidates.best_windows()
    candidates.look(first, networks, folds)
    candidates.write(logits)
    confirmed = candidates.highest(logits) >= logit(CONFIRMED)
    more = [index for index in candidates.windows_of(confirmed) if index not in first]
    candidates.look(more, networks, folds)
    candidates.write(logits)
    if networks.others:
        low, high = logit(UNSURE)
        highest = candidates.highest(logits)
        unsure = candidates.windows_of(confirmed & (highest >= low) & (highest <= high))
        candidates.look(unsure, networks, folds, networks.others)
        candidates.write(logits)


class _Candidates:
    """Voxels that were found, those that touch in one candidate, some around, and what windows say of them.

    Args:
        found: (a, b, c), of which at least one is true.
        near: (a, b, c); `found` and what is around.
        windows: in which to look.
    """

    def __init__(self, found: NDArray[np.bool_], near: NDArray[np.bool_], windows: Windows) -> None:
        labels, self.count = ndimage.label(found, CONNECTED_26)
        self.windows = windows
        self.voxels = np.argwhere(near)
        self._owner = labels[near] - 1
        """Candidate of each voxel; -1 for those around."""
        bell = gaussian_weights(windows.size)
        self._within = [np.flatnonzero(_inside(self.voxels, place, windows.size)) for place in windows.places]
        self._bell = [
            bell[tuple((self.voxels[within] - place).T)]
            for place, within in zip(windows.places, self._within, strict=True)
        ]
        self._everything = np.zeros(len(self.voxels), dtype=np.float32)
        for within, weights in zip(self._within, self._bell, strict=True):
            self._everything[within] += weights
        self._weight = np.zeros(len(self.voxels), dtype=np.float32)
        self._total = np.zeros(len(self.voxels), dtype=np.float32)

    def best_windows(self) -> list[int]:
        """Of each candidate the window that weighs most on it, and of its voxels beyond, each one's own."""
        weights = [
            np.bincount(self._owner[within] + 1, bell, minlength=self.count + 1)[1:]
            for within, bell in zip(self._within, self._bell, strict=True)
        ]
        best = set(np.argmax(weights, axis=0).tolist())
        beyond = self._owner >= 0
        for index in best:
            beyond[self._within[index][self._matters(index)]] = False
        highest, own = np.zeros(len(self.voxels), dtype=np.float32), np.zeros(len(self.voxels), dtype=int)
        for index, (within, bell) in enumerate(zip(self._within, self._bell, strict=True)):
            higher = bell > highest[within]
            highest[within[higher]], own[within[higher]] = bell[higher], index
        return sorted(best | set(own[beyond].tolist()))

    def windows_of(self, chosen: NDArray[np.bool_]) -> list[int]:
        """All windows that matter to a voxel of a chosen candidate."""
        wanted = np.append(chosen, False)[self._owner]
        return [index for index, within in enumerate(self._within) if np.any(wanted[within] & self._matters(index))]

    def _matters(self, index: int) -> NDArray[np.bool_]:
        """Of the voxels within a window, those of whose weights it has at least `LEAST_SHARE`."""
        return np.asarray(self._bell[index] >= LEAST_SHARE * self._everything[self._within[index]])

    def look(
        self,
        indices: Sequence[int],
        networks: _Networks,
        folds: Sequence[int],
        passes: Sequence[_Pass] = PLAIN,
    ) -> None:
        """Let all folds look in some windows, in some passes, each of which counts as much."""
        chosen = Windows(self.windows.size, tuple(self.windows.places[index] for index in indices))
        for index, (_, logits) in zip(indices, networks(chosen, folds, passes), strict=True):
            within, weight = self._within[index], len(passes) * self._bell[index]
            values = logits.cpu().numpy()[tuple((self.voxels[within] - self.windows.places[index]).T)]
            self._total[within] += weight * values
            self._weight[within] += weight

    def write(self, logits: NDArray[np.float32]) -> None:
        """Put what was seen into a map (a, b, c)."""
        seen = self._weight > 0
        logits[tuple(self.voxels[seen].T)] = self._total[seen] / self._weight[seen]

    def highest(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of a map, for each candidate: in it or a voxel around."""
        own = self._owner >= 0
        highest = np.full(self.count, -np.inf, dtype=np.float32)
        np.maximum.at(highest, self._owner[own], _highest_about(logits, self.voxels[own]))
        return highest


def _inside(voxels: NDArray[np.int64], place: Triple[int], size: Triple[int]) -> NDArray[np.bool_]:
    return np.asarray(np.all((voxels >= place) & (voxels < np.add(place, size)), axis=1))
