"""Dice with weighted cross-entropy for lesions of a few voxels.

With two softmax heads (background z0, microbleed z1) the probability of a microbleed is
sigmoid(z1 - z0). Both losses are computed on that difference, so that inference needs no change.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["DeepSupervisionLoss", "DiceBCELoss"]


@dataclass(frozen=True)
class DiceBCELoss:
    """Weighted sum of soft Dice and binary cross-entropy.

    `foreground_weight` multiplies the cross-entropy of microbleed voxels. The Dice term pools the
    whole batch, since most patches hold a handful of microbleed voxels or none.
    """

    dice_weight: float = 1.0
    bce_weight: float = 1.0
    foreground_weight: float = 1.0
    smooth: float = 1e-5

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss of logits (batch, 2, z, y, x) against a target (batch, 1, z, y, x) of 0 and 1."""
        margin = (logits[:, 1] - logits[:, 0]).float()
        truth = (target[:, 0] > 0).float()
        bce = functional.binary_cross_entropy_with_logits(
            margin, truth, pos_weight=torch.tensor(self.foreground_weight, device=margin.device)
        )
        probability = torch.sigmoid(margin)
        overlap = (probability * truth).sum()
        total = probability.sum() + truth.sum()
        dice = (2 * overlap + self.smooth) / (total + self.smooth)
        return self.dice_weight * (1 - dice) + self.bce_weight * bce


class DeepSupervisionLoss(nn.Module):
    """The loss at every decoder level, weighted 1, 1/2, 1/4, ... from the finest; the weights sum to 1."""

    def __init__(self, loss: DiceBCELoss) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, logits: Sequence[Tensor] | Tensor, targets: Sequence[Tensor] | Tensor) -> Tensor:
        if isinstance(logits, Tensor):
            logits = [logits]
        if isinstance(targets, Tensor):
            targets = [targets]
        weights = [0.5**level for level in range(len(logits))]
        losses = [
            weight * self.loss(level_logits, level_target)
            for weight, level_logits, level_target in zip(weights, logits, targets, strict=True)
        ]
        return torch.stack(losses).sum() / sum(weights)
