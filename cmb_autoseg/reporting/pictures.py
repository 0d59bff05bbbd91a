"""Pictures in memory: made without a display, the same bytes for the same content."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from cmb_autoseg.files import write_bytes

__all__ = ["COLORS", "MARKERS", "Picture", "as_png", "canvas", "write_pictures"]

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#666666")
"""Of Okabe and Ito, which people with any color vision tell apart."""
MARKERS = "osD^vPX*"
DPI = 150


@dataclass(frozen=True)
class Picture:
    """A PNG with the words that belong to it."""

    name: str
    """Of its file, without ending."""
    title: str
    caption: str
    """What is shown and how to read it."""
    alt: str
    """The picture in a sentence, for those who do not see it."""
    png: bytes


def canvas(width_inches: float, height_inches: float) -> Any:
    """A matplotlib figure of its own, without the state that pyplot keeps."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_inches, height_inches), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def as_png(figure: Any, dpi: int | None = None) -> bytes:
    """Of a `canvas`, with `DPI` dots per inch where not told."""
    content = BytesIO()
    # Software would name the matplotlib version, and with it change the bytes.
    figure.savefig(content, dpi=dpi or DPI, format="png", facecolor=figure.get_facecolor(), metadata={"Software": None})
    return content.getvalue()


def write_pictures(pictures: list[Picture], folder: Path) -> None:
    """Write each as `<name>.png`.

    Raises:
        OutputError: a file cannot be written.
    """
    for picture in pictures:
        write_bytes(folder / f"{picture.name}.png", picture.png)
