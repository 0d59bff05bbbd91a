"""Batches of augmented training patches from preprocessed cases."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cmb_autoseg.interruption import end_with
from cmb_autoseg.trainers.patches.augmentation import SpatialWarp
from cmb_autoseg.trainers.patches.sampling import CaseAnchors, PatchSampler, PatchShares

__all__ = ["PatchLoader", "PatchSource", "crop"]


@dataclass(frozen=True)
class PatchSource:
    """Preprocessed cases by name: arrays that can be sliced without reading the whole case.

    `images[name]` is (channel, z, y, x), `labels[name]` (1, z, y, x) with values below 1 as background.
    """

    images: dict[str, Any]
    labels: dict[str, Any]
    anchors: Sequence[CaseAnchors]


class PatchAugmentation(Protocol):
    """What makes two volumes of one patch: image and label, or two views; `Augmentation` says how it is called."""

    @property
    def warp(self) -> SpatialWarp: ...

    def __call__(
        self, rng: np.random.Generator, image: Tensor, label: Tensor, patch_shape: Sequence[int], grid: Tensor | None
    ) -> tuple[Tensor, Tensor]: ...


class PatchLoader:
    """Endless batches `{"data": (batch, channel, z, y, x), "target": (batch, 1, z, y, x)}`.

    Every batch hangs on the seed, the epoch, the step it starts from and the worker alone; with
    `draws` a training that goes on within an epoch draws what it would have drawn. nnU-Net's
    augmenters call `set_thread_id`.

    Args:
        source: where patches come from.
        patch_shape: (z, y, x).
        spacing_mm: (z, y, x), for augmentation in millimetres.
        batch_size: patches a batch.
        shares: of lesion, brain and anywhere patches.
        augmentation: None for validation.
        seed: of all draws.
        blank: channels that are left empty, as if nobody had measured them.
    """

    def __init__(
        self,
        source: PatchSource,
        patch_shape: Sequence[int],
        spacing_mm: Sequence[float],
        batch_size: int,
        shares: PatchShares,
        augmentation: PatchAugmentation | None,
        seed: Sequence[int],
        blank: Sequence[int] = (),
    ) -> None:
        self.source, self.augmentation, self.blank = source, augmentation, list(blank)
        self.patch_shape, self.spacing_mm, self.batch_size = tuple(patch_shape), tuple(spacing_mm), batch_size
        self.sampler = PatchSampler(source.anchors, patch_shape, shares)
        self.seed, self.epoch, self.first_step, self.thread_id = tuple(seed), 0, 0, 0
        self._made_by = os.getpid()
        self._rng: np.random.Generator | None = None

    def start_epoch(self, epoch: int, first_step: int = 0) -> None:
        """Seed the draws of one epoch (in the process that draws), or of its part from a step on."""
        self.epoch, self.first_step, self._rng = epoch, first_step, None

    def set_thread_id(self, thread_id: int) -> None:
        """Called once in each process that draws."""
        self.thread_id, self._rng = thread_id, None
        if os.getpid() != self._made_by:
            end_with(self._made_by)

    @property
    def draws(self) -> dict[str, Any]:
        """State of the random draws after the last batch: plain numbers and texts."""
        return dict(self._generator().bit_generator.state)

    @draws.setter
    def draws(self, state: dict[str, Any]) -> None:
        self._generator().bit_generator.state = state

    def _generator(self) -> np.random.Generator:
        if self._rng is None:
            part = (self.first_step,) if self.first_step else ()
            self._rng = np.random.default_rng((*self.seed, self.epoch, self.thread_id, *part))
        return self._rng

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return self

    def __next__(self) -> dict[str, Tensor]:
        rng = self._generator()
        patches = [self._patch(rng) for _ in range(self.batch_size)]
        return {
            "data": torch.stack([image for image, _ in patches]),
            "target": torch.stack([label for _, label in patches]),
        }

    def _patch(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        draw = self.sampler.draw(rng)
        grid, margin = None, np.zeros(3, dtype=np.int64)
        if self.augmentation is not None:
            warp = self.augmentation.warp
            grid = warp.draw(rng, self.patch_shape, self.spacing_mm)
            if grid is not None:
                margin = warp.margin(self.patch_shape, self.spacing_mm)
        start, shape = np.array(draw.start) - margin, np.array(self.patch_shape) + 2 * margin
        image = torch.from_numpy(crop(self.source.images[draw.case], start, shape))
        image[self.blank] = 0
        label = torch.from_numpy((crop(self.source.labels[draw.case], start, shape) == 1).astype(np.float32))
        if self.augmentation is None:
            return image, label
        return self.augmentation(rng, image, label, self.patch_shape, grid)


def crop(array: Any, start: NDArray[np.int64], shape: NDArray[np.int64]) -> NDArray[Any]:
    """A box of (channel, z, y, x), zero where it reaches outside; float32."""
    low = np.maximum(start, 0)
    high = np.minimum(start + shape, array.shape[1:])
    result = np.zeros((array.shape[0], *shape), dtype=np.float32)
    if np.all(high > low):
        inside = np.asarray(array[(slice(None), *(slice(a, b) for a, b in zip(low, high, strict=True)))])
        result[(slice(None), *(slice(a, b) for a, b in zip(low - start, high - start, strict=True)))] = inside
    return result
