"""One step of the optimizer: how far, and in which precision."""

from typing import Any

import torch
from torch import Tensor, nn

from cmb_autoseg.trainers.recipe import OptimizerSettings

__all__ = ["descend", "polynomial_rate"]

LARGEST_GRADIENT = 12
"""Norm to which nnU-Net clips."""


def polynomial_rate(settings: OptimizerSettings, step: int, n_steps: int) -> float:
    """Linear warm-up, then nnU-Net's polynomial decay with exponent 0.9, step by step.

    Args:
        settings: of the recipe.
        step: from 0.
        n_steps: of the whole training.
    """
    rise = min(1.0, (step + 1) / (settings.warmup_steps + 1))
    return float(settings.learning_rate * rise * (1 - step / n_steps) ** 0.9)


def descend(loss: Tensor, network: nn.Module, optimizer: torch.optim.Optimizer, scaler: Any | None) -> None:
    """One step down the loss as nnU-Net takes it: scaled for half precision where there is a scaler, clipped."""
    (loss if scaler is None else scaler.scale(loss)).backward()
    if scaler is not None:
        scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)
        scaler.update()
