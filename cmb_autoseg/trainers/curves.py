"""Training curves as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cmb_autoseg.files import atomic_path

__all__ = ["CURVE_COLUMNS", "draw_curves"]

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
