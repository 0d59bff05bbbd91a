"""Training curves: a picture of the finished fold, and scalars for TensorBoard while it trains."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cmb_autoseg.files import atomic_path

__all__ = ["CURVE_COLUMNS", "ScalarLogger", "draw_curves"]

CURVE_COLUMNS = ("epoch", "learning_rate", "training_loss", "validation_loss", "validation_dice")


def draw_curves(curves: Sequence[Mapping[str, float]], path: Path, title: str) -> None:
    """Losses and validation Dice over epochs, as PNG."""
    epochs = [row["epoch"] + 1 for row in curves]
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    losses = figure.add_subplot()
    losses.plot(epochs, [row["training_loss"] for row in curves], label="training loss", color="tab:blue")
    losses.plot(epochs, [row["validation_loss"] for row in curves], label="validation loss", color="tab:orange")
    losses.set_xlabel("epoch")
    losses.set_ylabel("Dice + cross-entropy loss")
    losses.set_title(title)
    dice = losses.twinx()
    dice.plot(epochs, [row["validation_dice"] for row in curves], label="validation Dice", color="tab:green")
    dice.set_ylabel("voxel Dice of validation patches")
    dice.set_ylim(0, 1)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
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
