"""One picture for each table, drawn from its rows alone."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Picture
from matplotlib.ticker import EngFormatter, MaxNLocator

from cmb_autoseg.comparison.froc_curves import draw_curves
from cmb_autoseg.comparison.system_tables import CURVE
from cmb_autoseg.comparison.table import TITLES
from cmb_autoseg.evaluation.metrics.figure import Figure
from cmb_autoseg.files import atomic_path
from cmb_autoseg.reporting.pictures import COLORS, MARKERS
from cmb_autoseg.reporting.tables import Row, Table

__all__ = ["draw"]

DPI = 130
POINTS = {"capsize": 3, "markersize": 5, "clip_on": False, "zorder": 3}
"""Drawn over the frame, as an axis may begin where a point is."""
SIGNED = ("cost",)
"""Differences, which may be below 0; counts and shares may not."""
MARGIN = 1.25
"""Room on either side of the budgets, as a factor, for all recipes beside one another."""
THOUSANDS = EngFormatter(places=1, sep="")
COUNTED = ("parameters", "training_s", "seconds_per_case")
SHIFTED = "\n(recipes drawn side by side)"


def draw(table: Table, path: Path, data: str = "") -> bool:
    """Draw a table as PNG; False where it has no picture, or no row that is finished.

    Args:
        table: one of `tables.all_tables`.
        path: of the picture.
        data: the kind of data, for the title, such as `simulated`.
    """
    rows = [row for row in table.rows if row.get("state") is None]
    if table.name not in DRAWINGS or not rows:
        path.unlink(missing_ok=True)
        return False
    picture = DRAWINGS[table.name](rows)
    picture.suptitle(f"{table.title} ({data} data)" if data else table.title)
    with atomic_path(path) as temporary:
        picture.savefig(temporary, dpi=DPI, format="png", metadata={"Software": None})
    return True


def _picture(width_inches: float, height_inches: float) -> Picture:
    picture = Picture(figsize=(width_inches, height_inches), layout="constrained")
    FigureCanvasAgg(picture)
    return picture


def _style(recipes: Sequence[str]) -> dict[str, dict[str, Any]]:
    return {
        recipe: {"color": COLORS[n % len(COLORS)], "marker": MARKERS[n % len(MARKERS)]}
        for n, recipe in enumerate(dict.fromkeys(recipes))
    }


def _values(rows: Sequence[Row], key: str) -> tuple[list[float], list[list[float]]]:
    """Values, and lengths of the whiskers below and above; undefined ones are NaN."""
    found = [row.get(key) for row in rows]
    figures = [item if isinstance(item, Figure) else Figure(value=None) for item in found]
    values = [np.nan if figure.value is None else figure.value for figure in figures]
    ends = [figure.ci or (value, value) for figure, value in zip(figures, values, strict=True)]
    # A percentile interval may leave the value out; a whisker cannot be of negative length.
    low = [max(0.0, value - end[0]) for value, end in zip(values, ends, strict=True)]
    return values, [low, [max(0.0, end[1] - value) for value, end in zip(values, ends, strict=True)]]


def _dots(axes: Any, at: Sequence[float], rows: Sequence[Row], key: str, **style: Any) -> None:
    values, whiskers = _values(rows, key)
    axes.errorbar(values, at, xerr=whiskers, fmt=style.pop("marker", "o"), **POINTS, **style)


def _dot_panels(rows: Sequence[Row], keys: Sequence[str], label: Callable[[Row], str]) -> Picture:
    """A panel for each figure; a line of each for every row, colored by recipe."""
    picture = _picture(2.1 * len(keys) + 2, 0.32 * len(rows) + 1.5)
    style = _style([row["recipe"] for row in rows])
    panels = picture.subplots(1, len(keys), sharey=True, squeeze=False)[0]
    for axes, key in zip(panels, keys, strict=True):
        for n, row in enumerate(rows):
            _dots(axes, [n], [row], key, **style[row["recipe"]])
        _finish(axes, TITLES[key])
        if not _defined(rows, key):
            _say_undefined(axes, axes.xaxis)
        elif key in SIGNED:
            axes.axvline(0, color="#666666", linewidth=1)
        else:
            axes.set_xlim(left=max(0.0, axes.get_xlim()[0]))
    _name_lines(panels[0], [label(row) for row in rows])
    return picture


def _finish(axes: Any, title: str) -> None:
    axes.set_title(title, fontsize=9)
    axes.grid(axis="x", alpha=0.3)
    axes.tick_params(labelsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(4))


def _defined(rows: Sequence[Row], key: str) -> bool:
    return not np.isnan(_values(rows, key)[0]).all()


def _say_undefined(axes: Any, axis: Any) -> None:
    """In the place of an axis of values where there are none."""
    axis.set_ticks([])
    axes.text(0.5, 0.5, "undefined", transform=axes.transAxes, ha="center", va="center", color="#666666")


def _name_lines(axes: Any, labels: Sequence[str]) -> None:
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.set_ylim(len(labels) - 0.4, -0.6)


def _paradigms(rows: Sequence[Row]) -> Picture:
    return _dot_panels(rows, ("auc", "sensitivity", "precision", "f1", "fp_per_scan"), lambda row: row["recipe"])


def _froc(rows: Sequence[Row]) -> Picture:
    picture = _picture(8, 5)
    axes = picture.subplots()
    draw_curves(axes, {row["recipe"]: row[CURVE] for row in rows})
    handles, labels = axes.get_legend_handles_labels()
    picture.legend(handles, labels, loc="outside right center", frameon=False, fontsize=8, handlelength=4)
    return picture


def _costs(rows: Sequence[Row]) -> Picture:
    """Points of what is counted, on axes of powers of 10, beside the figures with their intervals."""
    counted = [key for key in COUNTED if any(row.get(key) for row in rows)]
    shown = [{**row, **{key: Figure(value=float(row[key])) for key in counted if row.get(key)}} for row in rows]
    picture = _dot_panels(shown, ("f1", "fp_per_negative_scan", *counted), lambda row: row["recipe"])
    for axes in picture.axes[-len(counted) :] if counted else ():
        axes.set_xscale("log")
        low, high = axes.dataLim.intervalx
        axes.set_xlim(low / 2, high * 2)
        axes.set_xticks([low, high] if high > 1.5 * low else [(low + high) / 2])
        axes.xaxis.set_major_formatter(lambda value, _: THOUSANDS(value) if value >= 1000 else f"{value:.3g}")
        axes.minorticks_off()
    return picture


def _differences(rows: Sequence[Row]) -> Picture:
    return _forest(rows, lambda row: f"{row['recipe']}, {row['budget']:.3g}")


def _tests(rows: Sequence[Row]) -> Picture:
    return _forest(rows, lambda row: f"{row['about']}: {row['recipe']}, {row['of']} - {row['against']}")


def _forest(rows: Sequence[Row], label: Callable[[Row], str]) -> Picture:
    """A panel for each figure, a line for each label."""
    figures = list(dict.fromkeys(row["figure"] for row in rows))
    labels = list(dict.fromkeys(label(row) for row in rows))
    style = _style([row["recipe"] for row in rows])
    picture = _picture(2.1 * len(figures) + 2 + max(0.0, max(map(len, labels)) - 25) / 15, 0.32 * len(labels) + 1.7)
    panels = picture.subplots(1, len(figures), sharey=True, squeeze=False)[0]
    for axes, figure in zip(panels, figures, strict=True):
        own = [row for row in rows if row["figure"] == figure]
        for row in own:
            _dots(axes, [labels.index(label(row))], [row], "difference", **style[row["recipe"]])
        _finish(axes, figure)
        if _defined(own, "difference"):
            axes.axvline(0, color="#666666", linewidth=1)
        else:
            _say_undefined(axes, axes.xaxis)
    _name_lines(panels[0], labels)
    return picture


def _efficiency(rows: Sequence[Row]) -> Picture:
    keys = ("auc", "f1", "fp_per_scan")
    picture = _picture(10, 3.6)
    recipes = _style([row["recipe"] for row in rows])
    budgets = sorted({row["budget"] for row in rows})
    for axes, key in zip(picture.subplots(1, len(keys)), keys, strict=True):
        for n, (recipe, style) in enumerate(recipes.items()):
            own = [row for row in rows if row["recipe"] == recipe]
            values, whiskers = _values(own, key)
            # Beside each other, so that no whisker hides another.
            at = [100 * row["budget"] * 1.03 ** (n - (len(recipes) - 1) / 2) for row in own]
            axes.errorbar(at, values, yerr=whiskers, label=recipe, **POINTS, **style)
        axes.set_xscale("log", base=2)
        axes.set_xticks([100 * budget for budget in budgets], [f"{100 * budget:.3g}" for budget in budgets])
        axes.minorticks_off()
        axes.set_xlim(100 * budgets[0] / MARGIN, 100 * budgets[-1] * MARGIN)
        axes.set_xlabel("labelled subjects, %" + (SHIFTED if len(recipes) > 1 else ""), fontsize=9)
        axes.set_title(TITLES[key], fontsize=10)
        axes.grid(alpha=0.3)
        if _defined(rows, key):
            axes.set_ylim(bottom=max(0.0, axes.get_ylim()[0]))
        else:
            _say_undefined(axes, axes.yaxis)
    picture.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return picture


def _per_sequence(rows: Sequence[Row]) -> Picture:
    ordered = sorted(rows, key=lambda row: list(dict.fromkeys(r["sequence"] for r in rows)).index(row["sequence"]))
    return _dot_panels(
        ordered, ("f1", "precision", "sensitivity", "auc"), lambda row: f"{row['sequence']}, {row['recipe']}"
    )


def _dropping(rows: Sequence[Row]) -> Picture:
    ordered = sorted(rows, key=lambda row: list(dict.fromkeys(r["dropped"] for r in rows)).index(row["dropped"]))
    return _dot_panels(ordered, ("f1", "f1_without", "cost"), lambda row: f"no {row['dropped']}, {row['recipe']}")


def _subsets(rows: Sequence[Row]) -> Picture:
    return _maps(rows, [("f1", "subset", "recipe")], ("sequences", "recipe"), [("", list(rows))])


def _cross(rows: Sequence[Row]) -> Picture:
    recipes = dict.fromkeys(row["recipe"] for row in rows)
    panels = [(recipe, [row for row in rows if row["recipe"] == recipe]) for recipe in recipes]
    keys = [(key, "trained_on", "tested_on") for key in ("auc", "sensitivity")]
    return _maps(rows, keys, ("trained on", "tested on"), panels)


def _maps(
    rows: Sequence[Row],
    keys: Sequence[tuple[str, str, str]],
    names: tuple[str, str],
    panels: Sequence[tuple[str, list[Row]]],
) -> Picture:
    """Colored matrices with their numbers: a row of them for each panel, a column for each figure."""
    _, down, across = keys[0]
    lines, columns = (list(dict.fromkeys(row[key] for row in rows)) for key in (down, across))
    width = max(3.4, 0.9 * len(columns) + 2.2)
    picture = _picture(width * len(keys), (0.42 * len(lines) + 1.5) * len(panels) + 0.3)
    grid = picture.subplots(len(panels), len(keys), squeeze=False)
    for (title, own), axes_row in zip(panels, grid, strict=True):
        for (key, _, _), axes in zip(keys, axes_row, strict=True):
            values = np.full((len(lines), len(columns)), np.nan)
            for row in own:
                figure = row.get(key)
                if isinstance(figure, Figure) and figure.value is not None:
                    values[lines.index(row[down]), columns.index(row[across])] = figure.value
            axes.imshow(values, vmin=0, vmax=1, cmap="cividis", aspect="auto")
            for (i, j), value in np.ndenumerate(values):
                text = "n/a" if np.isnan(value) else f"{value:.2f}"
                axes.text(j, i, text, ha="center", va="center", fontsize=9, color="white" if value <= 0.6 else "black")
            axes.set_xticks(range(len(columns)), columns, fontsize=8)
            axes.set_yticks(range(len(lines)), lines, fontsize=8)
            axes.set_xlabel(names[1], fontsize=9)
            axes.set_ylabel(names[0], fontsize=9)
            axes.set_title(", ".join(filter(None, (title, TITLES[key]))), fontsize=10)
    return picture


DRAWINGS: dict[str, Callable[[Sequence[Row]], Picture]] = {
    "paradigms": _paradigms,
    "froc": _froc,
    "costs": _costs,
    "differences": _differences,
    "annotation_efficiency": _efficiency,
    "per_sequence": _per_sequence,
    "dropping": _dropping,
    "subsets": _subsets,
    "cross_sequence": _cross,
    "paired_tests": _tests,
}
