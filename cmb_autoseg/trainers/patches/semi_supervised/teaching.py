"""The loss of unlabelled patches, step by step."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from cmb_autoseg.trainers.patches.semi_supervised.teachers import build_teacher
from cmb_autoseg.trainers.patches.semi_supervised.voxels import TeachingVoxels, teaching_voxels
from cmb_autoseg.trainers.recipe import SemiSupervisedSettings

__all__ = ["Lesson", "Teaching", "unlabelled_loss"]


@dataclass(frozen=True)
class Lesson:
    """One step's loss of unlabelled patches."""

    loss: Tensor
    """Before its weight, scalar."""
    weight: float
    voxels: int
    """How many taught."""


class Teaching:
    """What a network learns from easy and hard views of unlabelled patches.

    Args:
        settings: of the recipe.
        network: gives logits (batch, 2, z, y, x), or a list of them, finest first.
    """

    def __init__(self, settings: SemiSupervisedSettings, network: nn.Module) -> None:
        self.settings, self.network = settings, network
        self.teacher = build_teacher(settings, network)

    def lesson(self, easy: Tensor, hard: Tensor, step: int) -> Lesson:
        """Let the teacher look at the easy views and the network at the hard ones.

        Args:
            easy: (batch, channel, z, y, x).
            hard: the same places.
            step: from 0, for the ramp.
        """
        voxels = teaching_voxels(
            self.teacher.probability(easy), self.settings.confidence, self.settings.background_ratio
        )
        logits = self.network(hard)
        # Only the finest: at coarser levels one confident voxel would stand for many that are not.
        loss = unlabelled_loss(logits if isinstance(logits, Tensor) else logits[0], voxels)
        return Lesson(loss, self.weight(step), int(voxels.mask.sum()))

    def weight(self, step: int) -> float:
        """Rises linearly from 0 at the first step to its full value."""
        ramp = self.settings.ramp_up_steps
        return self.settings.weight * (min(1.0, step / ramp) if ramp else 1.0)

    def follow(self, step: int) -> None:
        """To be called after the network's step."""
        self.teacher.follow(step)

    def hand_over(self) -> None:
        """To be called after the last step: the network becomes what is used."""
        self.teacher.hand_over()

    @contextmanager
    def delivering(self, trainer: Any) -> Iterator[None]:
        """Within the block the trainer's `network` is what would be used if the training ended now."""
        trainer.network = self.teacher.delivered
        try:
            yield
        finally:
            trainer.network = self.network

    def state_dict(self) -> dict[str, Any]:
        return self.teacher.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.teacher.load_state_dict(state)


def unlabelled_loss(logits: Tensor, voxels: TeachingVoxels) -> Tensor:
    """Mean binary cross-entropy over the voxels that teach, 0 where none does.

    Args:
        logits: (batch, 2, z, y, x); the difference of the two is the logit of a microbleed.
        voxels: what is taught where.
    """
    margin = (logits[:, 1] - logits[:, 0]).float()
    each = functional.binary_cross_entropy_with_logits(margin, voxels.target, reduction="none")
    return torch.where(voxels.mask, each, 0).sum() / voxels.mask.sum().clamp(min=1)
