"""From a network's input to the logit of a microbleed, window by window, all folds at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cmb_autoseg.inference.engines import Engine
from cmb_autoseg.inference.tiles import Windows, fitted_windows, gaussian_weights, nnunet_windows, pad_to
from cmb_autoseg.records import Triple

__all__ = ["Windowing", "foreground_logits"]

BLANK_LOGIT = -20.0
"""Where no window lies, which is well outside the brain."""


@dataclass(frozen=True)
class Windowing:
    """How windows are laid and predicted."""

    patch: Triple[int]
    """That the network has learned on."""
    divisors: Triple[int]
    """What a window's sides must be multiples of."""
    step: float | None = None
    """From one window to the next, as nnU-Net spreads them; None fits them to the brain."""
    mirror: tuple[int, ...] = ()
    """Axes (0 to 2) along which windows are mirrored, in all combinations, and predicted again."""
    worth: float | None = None
    """The later folds see only windows where the first one's logit is as high somewhere; None for all windows."""

    def windows(self, brain: NDArray[np.bool_]) -> Windows:
        """Of a brain (a, b, c) that is no smaller than the patch."""
        if self.step is None:
            return fitted_windows(brain, self.patch, self.divisors)
        return nnunet_windows(brain, self.patch, self.step)


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
    windows = how.windows(pad_to(brain, how.patch)[0])
    volume = torch.from_numpy(np.ascontiguousarray(padded)).to(engine.device)
    total = torch.zeros(volume.shape[1:], device=engine.device)
    weights = torch.zeros_like(total)
    bell = torch.from_numpy(gaussian_weights(windows.size)).to(engine.device)
    flips = [subset for n in range(len(how.mirror) + 1) for subset in combinations([a + 2 for a in how.mirror], n)]
    with torch.inference_mode():
        for first in range(0, len(windows.places), engine.batch):
            places = windows.places[first : first + engine.batch]
            boxes = [tuple(map(slice, place, np.add(place, windows.size))) for place in places]
            batch = torch.stack([volume[(slice(None), *box)] for box in boxes])
            for box, logits in zip(boxes, _mean_of_folds(batch, engine, n_folds, flips, how.worth), strict=True):
                total[box] += logits * bell
                weights[box] += bell
        found = torch.where(weights > 0, total / weights.clamp_min(torch.finfo(weights.dtype).tiny), BLANK_LOGIT)
    return np.asarray(found[inner].cpu().numpy())


def _mean_of_folds(
    windows: Tensor, engine: Engine, n_folds: int, flips: Sequence[tuple[int, ...]], worth: float | None
) -> Tensor:
    mean = _mean_of_flips(windows, engine, 0, flips)
    looked = torch.arange(len(windows), device=windows.device)
    if worth is not None:
        looked = looked[mean.amax(dim=(1, 2, 3)) >= worth]
    if n_folds == 1 or len(looked) == 0:
        return mean
    sums = mean[looked].clone()
    for fold in range(1, n_folds):
        sums += _mean_of_flips(windows[looked], engine, fold, flips)
    mean = mean.clone()
    mean[looked] = sums / n_folds
    return mean


def _mean_of_flips(windows: Tensor, engine: Engine, fold: int, flips: Sequence[tuple[int, ...]]) -> Tensor:
    """Mean over mirrored passes; the first of `flips` is none."""
    total = engine.foreground(fold, windows)
    for axes in flips[1:]:
        spatial = [axis - 1 for axis in axes]  # the output has no axis of channels
        total = total + torch.flip(engine.foreground(fold, torch.flip(windows, axes)), spatial)
    return total / len(flips)
