"""What one fold of a network of slices learns."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from cmb_autoseg.preprocessing.slices import IGNORED
from cmb_autoseg.records import Role
from cmb_autoseg.trainers.loop import Task
from cmb_autoseg.trainers.recipe import Recipe, SliceSettings
from cmb_autoseg.trainers.slices.fold_slices import FoldSlices
from cmb_autoseg.trainers.slices.networks import build_slice_network
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
        self.settings: SliceSettings = recipe.slices
        self.device = device
        self.slices = FoldSlices(recipe, self.settings, roles, training, validation)
        network = build_slice_network(self.settings, len(roles)).to(device)
        self.network = network.to(memory_format=torch.channels_last)

    def batch(self, rng: np.random.Generator) -> SliceBatch:
        """See `Task.batch`."""
        drawn = self.slices.draw(rng)
        return _stacked([(change.image(shown.picture), change.mask(shown.mask)) for shown, change in drawn])

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
        for watched in self.slices.watched():
            batch = _stacked([(shown.picture, shown.mask) for shown in watched])
            masks = batch.masks.to(self.device)
            logits = self.network(self._on_device(batch.images))[:, 0]
            losses.append(masked_bce(logits, masks, self.settings.positive_weight).item())
            found, truth = (torch.sigmoid(logits) >= PRESENT) & (masks != IGNORED), masks == 1
            overlap += int((found & truth).sum())
            n_found, n_true = n_found + int(found.sum()), n_true + int(truth.sum())
        dice = 2 * overlap / (n_found + n_true) if n_true else math.nan
        return {"validation_loss": float(np.mean(losses)), self.figure: dice}

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
