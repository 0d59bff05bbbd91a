"""The participant flow drawn, as in the publications."""

from pathlib import Path
from typing import Any

from cmb_autoseg.files import atomic_path
from cmb_autoseg.quality_control.flow import Flow, FlowCount

__all__ = ["draw_flow"]

WIDTH = 9.5
LINE = 0.21
"""Height of one line of text in inches."""
PADDING = 0.28
GAP = 0.42
FONT = 9.5
COLORS = {
    "found": "#eef3fa",
    "excluded": "#fdf1ee",
    "included": "#eef3fa",
    "labelled": "#eaf6ec",
    "unlabelled": "#f5f5f5",
}
KINDS = (("labelled", "Labelled, for training"), ("unlabelled", "Unlabelled"), ("test", "Test"))


def draw_flow(flow: Flow, *paths: Path) -> None:
    """Draw the flow into files, `.svg`, `.png` or `.pdf` by their names; the same flow makes the same bytes."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found = ["Scans found", _number(flow.get("found")), *_by_cohort(flow, "found")]
    left_out = ["Left out", _number(flow.get("excluded")), *(f"{_short(c)}" for c in flow.reasons())]
    included = ["Included", _number(flow.get("included")), *_by_cohort(flow, "included")]
    parts = [[title, _number(flow.get(kind)), *_by_cohort(flow, kind)] for kind, title in KINDS]
    heights = [_height(found), _height(left_out), _height(included), max(_height(part) for part in parts)]
    total = sum(heights) + 3 * GAP + 0.3
    with matplotlib.rc_context({"svg.hashsalt": "cmb_autoseg", "svg.fonttype": "path", "font.family": "DejaVu Sans"}):
        figure: Any = Figure(figsize=(WIDTH, total))
        FigureCanvasAgg(figure)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_xlim(0, WIDTH)
        axes.set_ylim(0, total)
        axes.axis("off")
        middle = 3.0
        top = total - 0.15
        _box(axes, middle, top, 4.4, heights[0], found, COLORS["found"])
        side_top = top - heights[0] - GAP
        _box(axes, 7.0, side_top, 4.3, heights[1], left_out, COLORS["excluded"])
        included_top = side_top - heights[1] - GAP
        _arrow(axes, (middle, top - heights[0]), (middle, included_top))
        _arrow(axes, (middle, side_top - heights[1] / 2), (7.0 - 4.3 / 2, side_top - heights[1] / 2))
        _box(axes, middle, included_top, 4.4, heights[2], included, COLORS["included"])
        last_top = included_top - heights[2] - GAP
        for number, ((kind, _), part) in enumerate(zip(KINDS, parts, strict=True)):
            center = 1.65 + 3.1 * number
            _box(axes, center, last_top, 2.9, heights[3], part, COLORS.get(kind, "#f3eefa"))
            axes.plot(
                [middle, middle, center, center][1:], [last_top + GAP / 2] * 2 + [last_top + GAP / 2], lw=1, c="#555"
            )
            _arrow(axes, (center, last_top + GAP / 2), (center, last_top))
        axes.plot([middle, middle], [included_top - heights[2], last_top + GAP / 2], lw=1, c="#555")
        for path in paths:
            with atomic_path(path) as temporary:
                kind = path.suffix.lstrip(".")
                metadata = (
                    {"Date": None} if kind == "svg" else {"CreationDate": None} if kind == "pdf" else {"Software": None}
                )
                figure.savefig(temporary, format=kind, dpi=150, metadata=metadata, facecolor="white")


def _number(count: FlowCount) -> str:
    return f"{count.cases:,} scans of {count.subjects:,} subjects"


def _short(count: FlowCount) -> str:
    return f"{count.cases:,}  {count.reason}"


def _by_cohort(flow: Flow, stage: str) -> list[str]:
    if len(flow.cohorts) < 2:
        return []
    return [f"{name}: {flow.get(stage, name).cases:,}" for name in flow.cohorts if flow.get(stage, name).cases]


def _height(lines: list[str]) -> float:
    return LINE * len(lines) + PADDING


def _box(axes: Any, center: float, top: float, width: float, height: float, lines: list[str], color: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    corner = (center - width / 2, top - height)
    axes.add_patch(
        FancyBboxPatch(corner, width, height, boxstyle="round,pad=0,rounding_size=0.06", fc=color, ec="#555", lw=1)
    )
    for number, line in enumerate(lines):
        weight = "bold" if number == 0 else "normal"
        y = top - PADDING / 2 - LINE * (number + 0.5)
        axes.text(center, y, line, ha="center", va="center", fontsize=FONT, weight=weight)


def _arrow(axes: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate(
        "", end, start, arrowprops={"arrowstyle": "-|>", "color": "#555", "lw": 1, "shrinkA": 0, "shrinkB": 0}
    )
