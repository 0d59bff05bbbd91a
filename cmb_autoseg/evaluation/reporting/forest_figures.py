"""Figures with their intervals as lines of dots: strata, subgroups, protocols, differences between systems."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cmb_autoseg.evaluation.metrics.figure import Figure
from cmb_autoseg.reporting.pictures import COLORS, MARKERS, Picture, as_png, canvas
from cmb_autoseg.reporting.tables import shown

__all__ = ["ForestLine", "draw_forest"]

LINE_INCHES = 0.42
WIDTH_INCHES = 5.4
FAINT = 0.4


@dataclass(frozen=True)
class ForestLine:
    """One line: a group and its figures."""

    label: str
    figures: Mapping[str, Figure]
    """By series, such as `sensitivity`; the same ones in every line."""
    faint: bool = False
    """Of a group that is too small to be relied on."""


def draw_forest(
    lines: Sequence[ForestLine],
    name: str,
    title: str,
    axis: str,
    caption: str,
    at: float | None = None,
) -> Picture | None:
    """Draw a dot and its interval for each line and series; None where no figure has a value.

    Args:
        lines: from the top.
        name: of the file.
        title: of the picture.
        axis: what is measured, below the axis.
        caption: what is shown; what dots, whiskers and faint lines are is added here.
        at: where a vertical line is drawn, such as the value over all cases or 0.
    """
    series = list(dict.fromkeys(key for line in lines for key in line.figures))
    drawn = [figure for line in lines for figure in line.figures.values() if figure.value is not None]
    if not drawn:
        return None
    height = LINE_INCHES * len(lines) * max(1.0, 0.45 * len(series) + 0.4) + 1.1 + 0.3 * (len(series) > 1)
    figure = canvas(WIDTH_INCHES, height)
    axes = figure.subplots()
    if at is not None:
        axes.axvline(at, color="#999999", linewidth=1, linestyle=":")
    for n, key in enumerate(series):
        shift = 0.22 * (n - (len(series) - 1) / 2)
        for row, line in enumerate(lines):
            _dot(axes, n, row + shift, line.figures.get(key), line.faint)
    axes.set_yticks(range(len(lines)), [_wrapped(line.label) for line in lines], fontsize=10)
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.set_xlabel(axis, fontsize=11)
    axes.tick_params(axis="x", labelsize=10)
    axes.grid(axis="x", alpha=0.3)
    if all(figure.value is not None and figure.value >= 0 for figure in drawn) and at != 0:
        axes.set_xlim(left=0, right=1.03 if _shares(drawn) else None)
    if len(series) > 1:
        _legend(figure, series)
    words = f"{caption} Dots are values, whiskers 95 % confidence intervals."
    words += " Faint: too few to be relied on." if any(line.faint for line in lines) else ""
    told = "; ".join(
        f"{line.label}: " + ", ".join(f"{key} {shown(found)}".strip() for key, found in line.figures.items())
        for line in lines
    )
    return Picture(name, title, words, f"{title}. {told}.", as_png(figure))


def _dot(axes: Any, n: int, y: float, figure: Figure | None, faint: bool) -> None:
    if figure is None or figure.value is None:
        axes.annotate("n/a", (0.01, y), xycoords=("axes fraction", "data"), fontsize=9, color="#666666", va="center")
        return
    low, high = figure.ci or (figure.value, figure.value)
    # A BCa interval may leave the value out; a whisker cannot be of negative length.
    whiskers = [[max(0.0, figure.value - low)], [max(0.0, high - figure.value)]]
    axes.errorbar(
        [figure.value],
        [y],
        xerr=whiskers,
        fmt=MARKERS[n % len(MARKERS)],
        color=COLORS[n % len(COLORS)],
        markersize=7,
        capsize=3,
        alpha=FAINT if faint else 1,
        clip_on=False,
        zorder=3,
    )


def _legend(figure: Any, series: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=COLORS[n % len(COLORS)], marker=MARKERS[n % len(MARKERS)], linestyle="none", label=key)
        for n, key in enumerate(series)
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(3, len(series)), frameon=False, fontsize=10)


def _shares(figures: Sequence[Figure]) -> bool:
    """Whether all values, and ends of intervals, could be shares."""
    ends = [end for figure in figures for end in (figure.value, *(figure.ci or ())) if end is not None]
    return bool(np.max(ends) <= 1)


def _wrapped(label: str, width: int = 22) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(label, width)) or label
