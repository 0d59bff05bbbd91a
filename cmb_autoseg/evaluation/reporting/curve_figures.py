"""Curves over all thresholds: FROC, ROC of lesions and of patients, precision against recall."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.evaluation.metrics.curves import Band
from cmb_autoseg.evaluation.metrics.lesion import FROC_POINTS
from cmb_autoseg.reporting.pictures import COLORS, MARKERS, Picture, as_png, canvas

__all__ = ["Line", "draw_froc", "draw_precision_recall", "draw_roc"]

LEAST_RATE, GREATEST_RATE = 0.0625, 16.0
"""Ends of the FROC axis; what lies below is drawn at its left end."""
DASHES = ("-", "--", "-.", ":")
SIDE_INCHES = 5.0


@dataclass(frozen=True)
class Line:
    """One curve, of one system."""

    x: NDArray[np.float64]
    """(n,), rising."""
    y: NDArray[np.float64]
    """(n,)."""
    label: str = ""
    """Of the system; nothing where there is one only."""
    band: Band | None = None
    """Pointwise 95 % of y."""
    point: tuple[float, float] | None = None
    """Operating point: x and y at the threshold in force."""
    area: str = ""
    """For the legend, such as `AUC 0.91`."""


def draw_froc(lines: Sequence[Line], title: str = "FROC", name: str = "froc") -> Picture:
    """Lesion sensitivity against false positives per scan, on an axis of powers of 2."""
    figure = canvas(SIDE_INCHES, 4.2)
    axes = figure.subplots()
    axes.set_xscale("log", base=2)
    for n, line in enumerate(lines):
        _draw(axes, n, _to_the_ends(line), drawstyle="steps-post")
        if line.point:
            _mark(axes, n, (max(line.point[0], LEAST_RATE), line.point[1]))
    axes.set_xlim(LEAST_RATE, GREATEST_RATE)
    axes.set_xticks(FROC_POINTS, [f"{rate:g}" for rate in FROC_POINTS])
    axes.minorticks_off()
    _finish(axes, "false positives per scan", "lesion sensitivity", lines)
    axes.set_ylim(-0.02, 1.02)
    caption = (
        "Free-response ROC: share of reference lesions found against false positives per scan, over all thresholds"
        f"{_with_band(lines)}. The axis begins at {LEAST_RATE:g}; lower rates are drawn there.{_with_point(lines)}"
    )
    reached = "; ".join(_read_off(line) for line in lines)
    return Picture(
        name, title, caption, f"Line chart of lesion sensitivity by false positives per scan. {reached}", as_png(figure)
    )


def _to_the_ends(line: Line) -> Line:
    """From no finding on the left to all candidates, beyond which nothing is gained."""
    x = np.concatenate([[LEAST_RATE], np.clip(line.x, LEAST_RATE, None), [GREATEST_RATE]])
    y = np.concatenate([[0.0], line.y])
    return replace(line, x=x, y=np.append(y, y[-1]))


def draw_roc(lines: Sequence[Line], name: str, title: str, of: str, what: str) -> Picture:
    """True against false positive rate.

    Args:
        lines: x is the false, y the true positive rate.
        name: of the file.
        title: of the figure.
        of: what is classified, such as `patients`.
        what: for the caption: by which score, and what is told apart.
    """
    figure = canvas(SIDE_INCHES, SIDE_INCHES)
    axes = figure.subplots()
    axes.plot((0, 1), (0, 1), color="#999999", linewidth=1, linestyle=":", zorder=1)
    for n, line in enumerate(lines):
        _draw(axes, n, line)
        if line.point:
            _mark(axes, n, line.point)
    _finish(axes, f"false positive rate of {of}", f"true positive rate of {of}", lines)
    _square(axes)
    areas = _areas(lines)
    caption = f"ROC curve: {what}{_with_band(lines)}. Dotted: chance.{_with_point(lines)}"
    return Picture(name, title, caption, f"ROC curve of {of}{areas}.", as_png(figure))


def draw_precision_recall(lines: Sequence[Line], name: str = "precision_recall") -> Picture:
    """Lesion precision (y) against lesion sensitivity (x)."""
    figure = canvas(SIDE_INCHES, SIDE_INCHES)
    axes = figure.subplots()
    for n, line in enumerate(lines):
        _draw(axes, n, line)
        if line.point:
            _mark(axes, n, line.point)
    _finish(axes, "lesion sensitivity (recall)", "lesion precision", lines)
    _square(axes)
    caption = f"Precision against sensitivity of lesions over all thresholds{_with_band(lines)}.{_with_point(lines)}"
    alt = f"Curve of lesion precision by lesion sensitivity{_areas(lines)}."
    return Picture(name, "Precision and recall", caption, alt, as_png(figure))


def _draw(axes: Any, n: int, line: Line, **style: Any) -> None:
    label = ", ".join(filter(None, (line.label, line.area)))
    color = COLORS[n % len(COLORS)]
    axes.plot(line.x, line.y, color=color, linewidth=2, linestyle=DASHES[n % len(DASHES)], label=label or None, **style)
    if line.band is not None:
        axes.fill_between(line.band.x, line.band.low, line.band.high, color=color, alpha=0.18, linewidth=0)


def _mark(axes: Any, n: int, point: tuple[float, float]) -> None:
    axes.plot(
        *point,
        marker=MARKERS[n % len(MARKERS)],
        markersize=9,
        color=COLORS[n % len(COLORS)],
        markeredgecolor="white",
        linestyle="none",
        clip_on=False,
        zorder=4,
    )


def _finish(axes: Any, across: str, up: str, lines: Sequence[Line]) -> None:
    axes.set_xlabel(across, fontsize=11)
    axes.set_ylabel(up, fontsize=11)
    axes.tick_params(labelsize=10)
    axes.grid(alpha=0.3)
    if any(line.label or line.area for line in lines):
        axes.legend(loc="lower right", fontsize=9, framealpha=0.9)


def _square(axes: Any) -> None:
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_aspect("equal")


def _with_band(lines: Sequence[Line]) -> str:
    banded = any(line.band is not None for line in lines)
    return "; the band is the pointwise 95 % confidence interval" if banded else ""


def _with_point(lines: Sequence[Line]) -> str:
    return " The marker is the operating point." if any(line.point for line in lines) else ""


def _areas(lines: Sequence[Line]) -> str:
    told = "; ".join(": ".join(filter(None, (line.label, line.area))) for line in lines if line.area)
    return f", {told}" if told else ""


def _read_off(line: Line) -> str:
    at = [line.y[line.x <= rate][-1] if (line.x <= rate).any() else np.nan for rate in (0.5, 2.0)]
    values = ", ".join(
        f"{value:.2f} at {rate:g}" for value, rate in zip(at, (0.5, 2.0), strict=True) if np.isfinite(value)
    )
    return f"{line.label or 'Sensitivity'}: {values or 'no point below 2 false positives per scan'}"
