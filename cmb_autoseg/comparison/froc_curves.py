"""FROC curves of many recipes on one pair of axes, each of them to be seen."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.comparison.froc import FrocCurve
from cmb_autoseg.comparison.table import TITLES
from cmb_autoseg.evaluation.metrics.curves import FROC_GRID
from cmb_autoseg.evaluation.metrics.lesion import FROC_POINTS
from cmb_autoseg.reporting.pictures import COLORS, MARKERS

__all__ = ["draw_curves"]

DASHES = ("-", "--", "-.", ":")
MARKER_STEPS = 12
"""Places of a curve from one marker to the next, or more where there are more curves."""
MOST_BANDS = 4
"""More curves than these have neither bands nor the lines of seeds, which would cover one another."""


def draw_curves(axes: Any, curves: Mapping[str, FrocCurve]) -> None:
    """Draw the mean over seeds of each recipe, and of few recipes intervals and seeds.

    Args:
        axes: of matplotlib.
        curves: by recipe, in the order of the legend.
    """
    for n, (recipe, curve) in enumerate(curves.items()):
        style = _line_style(n)
        if len(curves) <= MOST_BANDS:
            _draw_spread(axes, curve, style)
        marked = _marked_places(curve.mean, n, len(curves))
        axes.plot(FROC_GRID, curve.mean, label=recipe, markevery=marked, clip_on=False, **style)
    axes.set_xscale("log", base=2)
    axes.set_xticks(FROC_POINTS, [f"{rate:g}" for rate in FROC_POINTS])
    axes.minorticks_off()
    axes.set_xlim(FROC_GRID[0], FROC_GRID[-1])
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel(TITLES["fp_per_scan"], fontsize=10)
    axes.set_ylabel(TITLES["sensitivity"], fontsize=10)
    axes.grid(alpha=0.3)


def _draw_spread(axes: Any, curve: FrocCurve, style: Mapping[str, Any]) -> None:
    """The interval, and the seeds where there are several."""
    if curve.band is not None:
        axes.fill_between(FROC_GRID, *curve.band, color=style["color"], alpha=0.1, linewidth=0)
    if len(curve.of_seeds) > 1:
        axes.plot(FROC_GRID, curve.of_seeds.T, color=style["color"], linewidth=0.6, alpha=0.5)


def _marked_places(values: NDArray[np.float64], n: int, n_curves: int) -> list[int]:
    """Where curve n has its markers, so that curves that coincide have them in different places.

    Args:
        values: (place,), NaN where the curve has not begun.
        n: of the curve.
        n_curves: how many there are.
    """
    apart = max(MARKER_STEPS, n_curves)
    there = np.flatnonzero(~np.isnan(values))
    marked = there[there % apart == n * apart // n_curves]
    return [int(place) for place in (marked if len(marked) else there[:1])]


def _line_style(n: int) -> dict[str, Any]:
    """Of curve n: dashes lie over wider solid lines, so that both are seen where they coincide."""
    turn = n // len(COLORS)
    dashes = (n + turn) % len(DASHES)
    return {
        "color": COLORS[n % len(COLORS)],
        "linestyle": DASHES[dashes],
        "linewidth": 1.5 if dashes else 2.6,
        "zorder": 2 + dashes / len(DASHES),
        "marker": MARKERS[n % len(MARKERS)],
        "markersize": 6,
        "markerfacecolor": "white" if turn % 2 else COLORS[n % len(COLORS)],
    }
