"""The picture of a pretraining: loss, cross-correlation and effective rank over epochs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cmb_autoseg.files import atomic_path

__all__ = ["draw_pretraining_curves"]

PANELS = (
    ("loss", {"loss": "loss"}),
    (
        "cross-correlation of the two views",
        {"on_diagonal": "diagonal, mean", "off_diagonal": "elsewhere, root mean square"},
    ),
    ("effective rank of the features", {"effective_rank": "effective rank"}),
)
"""Title of each panel, and the columns in it with their names; a panel whose columns a method lacks is left out."""


def draw_pretraining_curves(rows: Sequence[Mapping[str, float]], path: Path, title: str) -> None:
    """One panel a figure of interest, as PNG; same rows give the same bytes.

    Args:
        rows: of `progress.tsv`, at least one.
        path: of the picture.
        title: one line.
    """
    panels = [(name, columns) for name, columns in PANELS if any(columns.keys() <= row.keys() for row in rows)]
    figure = Figure(figsize=(4.2 * len(panels), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for panel, (name, columns) in zip(axes, panels, strict=True):
        _draw_panel(panel, rows, columns)
        panel.set_title(name, fontsize="medium")
        panel.set_xlabel("epochs done")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png", metadata={"Software": None})


def _draw_panel(panel: Axes, rows: Sequence[Mapping[str, float]], columns: Mapping[str, str]) -> None:
    rows = [row for row in rows if columns.keys() <= row.keys()]
    epochs = [row["epoch"] for row in rows]
    for colour, (column, name) in zip(("tab:blue", "tab:orange"), columns.items(), strict=False):
        panel.plot(
            epochs, [row[column] for row in rows], label=name, color=colour, marker="." if len(rows) < 30 else ""
        )
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    if "effective_rank" in columns:
        panel.set_ylim(bottom=0)
    if len(columns) > 1:
        lowest = min(row[column] for row in rows for column in columns)
        panel.set_ylim(min(-0.05, lowest - 0.05), 1.05)
        panel.axhline(1, color="0.7", linewidth=0.8, linestyle=":")
        panel.axhline(0, color="0.7", linewidth=0.8, linestyle=":")
        panel.legend(frameon=False, fontsize="small")
