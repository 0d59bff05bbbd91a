"""Cases to learn from without labels, and where their patches are drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cmb_autoseg.trainers.patches.loader import crop
from cmb_autoseg.trainers.patches.sampling import CaseAnchors, PatchDraw, PatchSampler, PatchShares

__all__ = ["CasePatches", "PretrainingCase"]


@dataclass(frozen=True, eq=False)
class PretrainingCase:
    """One preprocessed case; its label, if it has one, is not looked at."""

    name: str
    image: Any
    """(channel, z, y, x), z-scored in the brain and 0 outside but for its rim, into which linear resampling carries
    grey values; an absent sequence is 0 throughout. A numpy array,
    or one that is read as it is sliced."""
    brain: NDArray[np.integer]
    """A sample of brain voxels, (voxel, 3) as (z, y, x) indices."""
    blank: tuple[int, ...] = ()
    """Channels that are known to be 0 throughout."""


class CasePatches:
    """Patches of unlabelled cases, most of them around a voxel of the brain.

    Args:
        cases: at least one.
        patch_shape: (z, y, x).
        brain_share: of the patches; the others lie anywhere in the volume.
    """

    def __init__(self, cases: Sequence[PretrainingCase], patch_shape: Sequence[int], brain_share: float) -> None:
        self.patch_shape = tuple(patch_shape)
        self._cases = {case.name: case for case in cases}
        anchors = [CaseAnchors(case.name, tuple(case.image.shape[1:]), (), case.brain) for case in cases]
        self._sampler = PatchSampler(anchors, patch_shape, PatchShares(0.0, brain_share, 1 - brain_share))
        self._present: dict[str, NDArray[np.bool_]] = {}

    def draw(self, rng: np.random.Generator) -> PatchDraw:
        """A case, then a place in it."""
        return self._sampler.draw(rng)

    def crop(self, draw: PatchDraw, margin: NDArray[np.int64]) -> Tensor:
        """The patch with `margin` (z, y, x) voxels more on each side: (channel, z, y, x), 0 outside the volume."""
        shape = np.array(self.patch_shape) + 2 * margin
        return torch.from_numpy(crop(self._cases[draw.case].image, np.array(draw.start) - margin, shape))

    def present(self, name: str) -> NDArray[np.bool_]:
        """Which sequences the case has: those that are not 0 throughout, as booleans of shape (channel,)."""
        if name not in self._present:
            self._present[name] = _present_channels(self._cases[name], self.patch_shape)
        return self._present[name]


def _present_channels(case: PretrainingCase, patch_shape: Sequence[int]) -> NDArray[np.bool_]:
    """A look at the middle of the brain tells of most channels; only what is 0 there is read as a whole."""
    shape = np.array(patch_shape)
    middle = np.median(case.brain, axis=0) if len(case.brain) else np.array(case.image.shape[1:]) / 2
    around = crop(case.image, np.asarray(middle - shape // 2, dtype=np.int64), shape)
    found: NDArray[np.bool_] = np.any(around, axis=(1, 2, 3))
    for channel in map(int, np.flatnonzero(~found)):
        if channel not in case.blank:
            found[channel] = bool(np.any(case.image[(slice(channel, channel + 1), *[slice(None)] * 3)]))
    return found
