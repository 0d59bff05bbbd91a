"""Who says what an unlabelled patch shows: the network itself, or the moving average of its weights."""

import copy
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from cmb_autoseg.trainers.recipe import SemiSupervisedSettings

__all__ = ["MeanTeacher", "SelfTeacher", "Teacher", "build_teacher", "microbleed_probability"]


class Teacher(Protocol):
    """What both have in common; a teacher is never trained by gradients."""

    def probability(self, easy: Tensor) -> Tensor:
        """Of a microbleed at every voxel of the views (batch, channel, z, y, x), as (batch, z, y, x)."""

    @property
    def delivered(self) -> nn.Module:
        """What would be used if the training ended now."""

    def follow(self, step: int) -> None:
        """Take up what the network has learned in its step number `step`, from 0."""

    def hand_over(self) -> None:
        """Make the network what is used from now on, after the last step."""

    def state_dict(self) -> dict[str, Any]:
        """What a training needs to go on."""

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class SelfTeacher:
    """FixMatch: the network as it stands at this step (Sohn et al. 2020)."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def probability(self, easy: Tensor) -> Tensor:
        was_training = self.network.training
        self.network.eval()
        result = microbleed_probability(self.network, easy)
        self.network.train(was_training)
        return result

    @property
    def delivered(self) -> nn.Module:
        return self.network

    def follow(self, step: int) -> None:
        """It is the network."""

    def hand_over(self) -> None:
        """It is the network."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """It has nothing of its own."""


class MeanTeacher:
    """The moving average of a network's weights (Tarvainen and Valpola 2017).

    After step t the teacher is a * teacher + (1 - a) * network with a = min(1 - 1 / (t + 1), decay), as
    in the authors' code, so that the first random weights are soon forgotten.

    Args:
        network: who is followed; it is copied as it is.
        decay: a in the long run.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network, self.decay = network, decay
        self.average = copy.deepcopy(network).eval().requires_grad_(False)

    def probability(self, easy: Tensor) -> Tensor:
        return microbleed_probability(self.average, easy)

    @property
    def delivered(self) -> nn.Module:
        return self.average

    @torch.no_grad()
    def follow(self, step: int) -> None:
        share = 1 - min(1 - 1 / (step + 1), self.decay)
        followed = self.network.state_dict()
        for name, value in self.average.state_dict().items():
            value.lerp_(followed[name], share)

    def hand_over(self) -> None:
        """The average is the model, as in the paper's evaluation: it is better than the weights of the last step."""
        self.network.load_state_dict(self.average.state_dict())

    def state_dict(self) -> dict[str, Any]:
        return {name: value.contiguous() for name, value in self.average.state_dict().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.average.load_state_dict(state)


def build_teacher(settings: SemiSupervisedSettings, network: nn.Module) -> Teacher:
    """The teacher that a recipe asks for."""
    if settings.method == "mean_teacher":
        return MeanTeacher(network, settings.ema_decay)
    return SelfTeacher(network)


@torch.no_grad()
def microbleed_probability(network: nn.Module, images: Tensor) -> Tensor:
    """(batch, z, y, x) at full resolution, from two heads as in `losses`."""
    logits = network(images)
    finest = logits if isinstance(logits, Tensor) else logits[0]
    return torch.sigmoid((finest[:, 1] - finest[:, 0]).float())
