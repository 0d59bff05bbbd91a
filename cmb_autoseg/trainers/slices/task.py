"""What one fold of a network of slices learns."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from cmb_autoseg.preprocessing.slices import IGNORED, with_neighbors
from cmb_autoseg.records import Role
from cmb_autoseg.trainers.loop import Task
from cmb_autoseg.trainers.recipe import Recipe, SliceSettings
from cmb_autoseg.trainers.slices.augmentation import SliceAugmentation
from cmb_autoseg.trainers.slices.networks import build_slice_network
from cmb_autoseg.trainers.slices.sampling import SliceAt, SlicePool, validation_slices
from cmb_autoseg.trainers.slices.store import SliceCase

__all__ = ["SliceBatch", "SliceTask", "masked_bce"]

PRESENT = 0.5
"""Probability from which a pixel counts as a microbleed's in the validation figure."""


@dataclass(frozen=True)
class SliceBatch:
    """Pictures and masks of one step, on the CPU."""

    images: Tensor
    """(batch, channel, h, w) float32."""
    masks: Tensor
    """(batch, h, w) uint8: 0, 1 or `IGNORED`."""


class SliceTask(Task):
    """Binary cross-entropy of slices drawn at random; judged by the voxel Dice of the validation slices.

    Args:
        recipe: of the family of slices.
        roles: of the channels.
        training: cases to learn from.
        validation: cases to watch.
        device: `cuda` or `cpu`.
    """

    figure = "validation_dice"
    figure_title = "voxel Dice"
    loss_title = "binary cross-entropy"

    def __init__(
        self,
        recipe: Recipe,
        roles: Sequence[Role],
        training: Sequence[SliceCase],
        validation: Sequence[SliceCase],
        device: str,
    ) -> None:
        assert recipe.slices is not None
        assert recipe.batch_size is not None
        self.settings: SliceSettings = recipe.slices
        self.batch_size, self.device = recipe.batch_size, device
        self.training, self.validation = training, validation
        self.pool = SlicePool.of(training)
        self.watched = validation_slices(SlicePool.of(validation), recipe.validation_steps * self.batch_size)
        self.augmentation = SliceAugmentation(self.settings.augmentation, roles)
        network = build_slice_network(self.settings, len(roles)).to(device)
        self.network = network.to(memory_format=torch.channels_last)

    def batch(self, rng: np.random.Generator) -> SliceBatch:
        """See `Task.batch`."""
        chosen = self.pool.draw(rng, self.batch_size, self.settings.positive_share)
        return _stacked([self._changed(rng, at) for at in chosen])

    def loss(self, batch: SliceBatch) -> Tensor:
        """See `Task.loss`."""
        logits = self.network(self._on_device(batch.images))
        return masked_bce(logits[:, 0], batch.masks.to(self.device), self.settings.positive_weight)

    def validate(self) -> dict[str, float]:
        """See `Task.validate`; the loss is the mean over batches, Dice is pooled over all pixels of all slices.

        Without a microbleed in the validation slices Dice is not defined (NaN).
        """
        losses: list[float] = []
        overlap, n_found, n_true = 0, 0, 0
        for first in range(0, len(self.watched), self.batch_size):
            batch = _stacked([self._shown(self.validation, at) for at in self.watched[first : first + self.batch_size]])
            masks = batch.masks.to(self.device)
            logits = self.network(self._on_device(batch.images))[:, 0]
            losses.append(masked_bce(logits, masks, self.settings.positive_weight).item())
            found, truth = (torch.sigmoid(logits) >= PRESENT) & (masks != IGNORED), masks == 1
            overlap += int((found & truth).sum())
            n_found, n_true = n_found + int(found.sum()), n_true + int(truth.sum())
        dice = 2 * overlap / (n_found + n_true) if n_true else math.nan
        return {"validation_loss": float(np.mean(losses)), self.figure: dice}

    def _changed(self, rng: np.random.Generator, at: SliceAt) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        image, mask = self._shown(self.training, at)
        change = self.augmentation.draw(rng, (mask.shape[0], mask.shape[1]))
        return change.image(image), change.mask(mask)

    def _shown(self, cases: Sequence[SliceCase], at: SliceAt) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        case, index = cases[at[0]], at[1]
        return with_neighbors(case.data, index, self.settings.pictures.neighbors), np.asarray(case.mask[index])

    def _on_device(self, images: Tensor) -> Tensor:
        return images.to(self.device).contiguous(memory_format=torch.channels_last)


def masked_bce(logits: Tensor, masks: Tensor, positive_weight: float) -> Tensor:
    """Mean binary cross-entropy of all pixels that are not ignored.

    Args:
        logits: any shape.
        masks: same shape; 0, 1 or `IGNORED`.
        positive_weight: how much more a microbleed's pixel counts than another.
    """
    logits, counted = logits.float(), (masks != IGNORED).float()
    weight = torch.tensor(positive_weight, device=logits.device)
    each = functional.binary_cross_entropy_with_logits(
        logits, (masks == 1).float(), reduction="none", pos_weight=weight
    )
    return (each * counted).sum() / counted.sum().clamp(min=1)


def _stacked(shown: Sequence[tuple[NDArray[np.float32], NDArray[np.uint8]]]) -> SliceBatch:
    images = torch.from_numpy(np.stack([image for image, _ in shown]))
    return SliceBatch(images, torch.from_numpy(np.stack([mask for _, mask in shown])))
