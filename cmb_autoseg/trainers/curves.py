"""Training curves: a picture of the finished fold, and scalars for TensorBoard while it trains."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cmb_autoseg.files import atomic_path
from cmb_autoseg.trainers.optimization import finite_mean

__all__ = ["CURVE_COLUMNS", "UNLABELLED_COLUMNS", "ScalarLogger", "curve_columns", "draw_curves", "epoch_figures"]

CURVE_COLUMNS = ("epoch", "learning_rate", "training_loss", "validation_loss", "validation_dice")
UNLABELLED_COLUMNS = ("unlabelled_loss", "teaching_voxels")
"""Further ones where unlabelled cases teach; means of a step."""


def curve_columns(curves: Sequence[Mapping[str, float]]) -> tuple[str, ...]:
    """Of the table of these epochs."""
    return CURVE_COLUMNS + tuple(name for name in UNLABELLED_COLUMNS if any(name in row for row in curves))


def epoch_figures(
    rate: float,
    losses: Sequence[float],
    validation: Sequence[Mapping[str, Any]],
    lessons: Sequence[Sequence[float]],
) -> dict[str, float]:
    """One epoch in numbers, by column.

    Args:
        rate: the learning rate of its last step.
        losses: of labelled patches, step by step.
        validation: what nnU-Net's `validation_step` gives: `loss`, `tp_hard`, `fp_hard` and `fn_hard`.
        lessons: of unlabelled patches the loss and how many voxels taught, step by step; empty without them.
    """
    figures = {
        "learning_rate": rate,
        "training_loss": finite_mean(losses),
        "validation_loss": float(np.mean([output["loss"] for output in validation])),
        "validation_dice": _voxel_dice(validation),
    }
    if not lessons:
        return figures
    return figures | dict(zip(UNLABELLED_COLUMNS, map(float, np.mean(lessons, axis=0)), strict=True))


def _voxel_dice(validation: Sequence[Mapping[str, Any]]) -> float:
    """Pooled over the epoch's patches; 0 where there is neither lesion nor prediction.

    nnU-Net's own moving average turns to NaN for good in that case.
    """
    hits, wrong, missed = (
        float(np.sum([output[key] for output in validation])) for key in ("tp_hard", "fp_hard", "fn_hard")
    )
    total = 2 * hits + wrong + missed
    return 2 * hits / total if total else 0.0


def draw_curves(
    curves: Sequence[Mapping[str, float]],
    path: Path,
    title: str,
    loss_title: str = "Dice + cross-entropy loss",
    figure_title: str = "voxel Dice of validation patches",
) -> None:
    """Losses and the validation figure (0 to 1; the other `validation_...` column) over epochs, as PNG."""
    epochs = [row["epoch"] + 1 for row in curves]
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    losses = figure.add_subplot()
    losses.plot(epochs, [row["training_loss"] for row in curves], label="training loss", color="tab:blue")
    losses.plot(epochs, [row["validation_loss"] for row in curves], label="validation loss", color="tab:orange")
    if "unlabelled_loss" in curve_columns(curves):
        unlabelled = [row.get("unlabelled_loss", float("nan")) for row in curves]
        losses.plot(epochs, unlabelled, label="unlabelled loss", color="tab:red")
    losses.set_xlabel("epochs done")
    losses.xaxis.set_major_locator(MaxNLocator(integer=True))
    losses.set_ylabel(loss_title)
    losses.set_title(title)
    judged = next(name for name in curves[0] if name.startswith("validation_") and name != "validation_loss")
    label = judged.replace("_", " ").replace("dice", "Dice")
    right = losses.twinx()
    right.plot(epochs, [row[judged] for row in curves], label=label, color="tab:green")
    right.set_ylabel(figure_title)
    right.set_ylim(-0.03, 1.03)  # a line along 0 or 1 is seen beside the frame
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png", metadata={"Software": None})


class ScalarLogger:
    """TensorBoard's event files, behind the interface of nnU-Net's loggers.

    Args:
        folder: where the event files go; one more with every resumption.
        first_epoch: epochs from this one on that an interrupted run has written are hidden.
    """

    def __init__(self, folder: Path, first_epoch: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder), purge_step=first_epoch or None)

    def update_config(self, config: Mapping[str, Any]) -> None:
        """Settings are in `plans.json`."""

    def log(self, key: str, value: float, step: int) -> None:
        self._writer.add_scalar(key, value, step)
        self._writer.flush()

    def log_summary(self, key: str, value: Any) -> None:
        """Final figures are in `crossvalidation/`."""
