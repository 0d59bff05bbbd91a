"""One step of the optimizer: how far, in which precision, and when it leads nowhere."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cmb_autoseg.errors import InputError
from cmb_autoseg.trainers.recipe import OptimizerSettings, ScheduleSettings

__all__ = ["DivergenceWatch", "descend", "finite_mean", "polynomial_rate", "scheduled_rate"]

LARGEST_GRADIENT = 12
"""Norm to which nnU-Net clips."""
MOST_SKIPPED_STEPS = 20
"""In a row, in half precision: its first scale of 2^16 is halved at each, until gradients fit."""


def polynomial_rate(settings: OptimizerSettings, step: int, n_steps: int) -> float:
    """Linear warm-up, then nnU-Net's polynomial decay with exponent 0.9, step by step.

    Args:
        settings: of the recipe.
        step: from 0.
        n_steps: of the whole training.
    """
    rise = min(1.0, (step + 1) / (settings.warmup_steps + 1))
    return float(settings.learning_rate * rise * (1 - step / n_steps) ** 0.9)


def scheduled_rate(
    settings: OptimizerSettings, schedule: ScheduleSettings, step: int, n_steps: int, figures: Sequence[float]
) -> float:
    """Linear warm-up, then what the recipe's schedule says.

    Args:
        settings: of the recipe.
        schedule: of the recipe.
        step: from 0.
        n_steps: of the whole training.
        figures: the validation figure of each finished epoch; the higher, the better.
    """
    rise = min(1.0, (step + 1) / (settings.warmup_steps + 1))
    falls = 0
    if schedule.decay == "steps":
        falls = sum(step >= share * n_steps for share in schedule.falls_at)
    elif schedule.decay == "plateau":
        falls = _plateaus(figures, schedule.patience_epochs)
    return float(settings.learning_rate * rise * schedule.factor**falls)


def _plateaus(figures: Sequence[float], patience: int) -> int:
    """How often no better figure has come for `patience` epochs, counted anew after each time.

    Counting begins with the first figure that is defined.
    """
    plateaus, waited, best = 0, 0, float("-inf")
    for figure in figures:
        waited = 0 if figure > best or best == float("-inf") else waited + 1
        best = max(best, figure)
        if waited == patience:
            plateaus, waited = plateaus + 1, 0
    return plateaus


def descend(loss: Tensor, network: nn.Module, optimizer: torch.optim.Optimizer, scaler: Any | None) -> bool:
    """One step down the loss as nnU-Net takes it: scaled for half precision where there is a scaler, clipped.

    Returns:
        Whether the loss and its gradients were finite; where they were not, the weights stay as they are.
    """
    (loss if scaler is None else scaler.scale(loss)).backward()
    if scaler is not None:
        scaler.unscale_(optimizer)
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
    is_finite = math.isfinite(float(loss.detach())) and math.isfinite(float(norm))
    if scaler is not None:
        scaler.step(optimizer)  # which is nothing where a gradient is not finite
        scaler.update()
    elif is_finite:
        optimizer.step()
    return is_finite


@dataclass
class DivergenceWatch:
    """Ends a training that has run away, so that no model of meaningless weights looks finished.

    Attributes:
        fold: from 0.
        model: folder of the model.
        in_half_precision: whether steps may be skipped until the scale of the loss is found.
        skipped: steps without an effect so far, in a row.
    """

    fold: int
    model: Path
    in_half_precision: bool
    skipped: int = 0

    def see(self, is_finite: bool, step: int) -> None:
        """Take note of a step, counted from 0, and of what `descend` says of it.

        Raises:
            InputError: the loss is not finite, and will not be.
        """
        self.skipped = 0 if is_finite else self.skipped + 1
        if self.skipped > (MOST_SKIPPED_STEPS if self.in_half_precision else 0):
            raise InputError(
                f"fold {self.fold}: the loss or its gradient is not finite at step {step + 1}; lower the recipe's "
                f"optimizer.learning_rate, or raise optimizer.warmup_steps, move {self.model} away and train again"
            )


def finite_mean(losses: Sequence[float]) -> float:
    """Mean of the losses that are finite; NaN where none is."""
    finite = [loss for loss in losses if math.isfinite(loss)]
    return sum(finite) / len(finite) if finite else math.nan
