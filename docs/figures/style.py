"""What the pictures of the documentation share: colours, size, writing."""

import io
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

# Okabe and Ito's colours, which people with any color vision tell apart.
BLUE, ORANGE, GREEN, VERMILION, GRAY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#666666"
IMAGES = Path(__file__).parents[1] / "images"
MAX_BYTES = 150_000


def new_figure(width_inches: float, height_inches: float) -> Figure:
    """An empty figure that needs no display."""
    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, name: str, folder: Path = IMAGES) -> Path:
    """Write `<name>.png` with a palette of 128 colors; the same figure gives the same bytes."""
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=130, format="png", metadata={"Software": None})
    path = folder / f"{name}.png"
    Image.open(drawn).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path}: {path.stat().st_size} bytes, more than {MAX_BYTES}")
    return path
