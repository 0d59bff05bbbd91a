"""Whether every curve of the FROC picture can be seen."""

import numpy as np
import pytest

from cmb_autoseg.comparison.froc import FrocCurve
from cmb_autoseg.comparison.froc_curves import draw_curves
from cmb_autoseg.evaluation.metrics.curves import FROC_GRID
from cmb_autoseg.reporting.pictures import canvas

N = len(FROC_GRID)
DRAWS = np.tile(np.linspace(0.2, 0.6, 40)[:, None], N)


def drawn(n_curves, seeds=None):
    """All curves are the same one."""
    curve = FrocCurve(np.full((2, N), 0.4) if seeds is None else seeds, DRAWS)
    axes = canvas(8, 5).subplots()
    draw_curves(axes, {f"recipe{n}": curve for n in range(n_curves)})
    return axes


@pytest.mark.parametrize("n_curves", [2, 14, 20])
def test_curves_that_coincide_are_told_apart(n_curves):
    lines = {line.get_label(): line for line in drawn(n_curves).lines if line.get_label().startswith("recipe")}
    assert len(lines) == n_curves
    places = [place for line in lines.values() for place in line.get_markevery()]
    assert len({*places}) == len(places) >= 2 * n_curves
    looks = {(line.get_color(), line.get_marker(), line.get_markerfacecolor()) for line in lines.values()}
    assert len(looks) == min(n_curves, 16)
    solid = [line.get_zorder() for line in lines.values() if line.get_linestyle() == "-"]
    dashed = [line.get_zorder() for line in lines.values() if line.get_linestyle() != "-"]
    assert max(solid) < min(dashed)


@pytest.mark.parametrize(("n_curves", "n_thin"), [(4, 8), (5, 0)])
def test_seeds_and_intervals_only_where_recipes_are_few(n_curves, n_thin):
    axes = drawn(n_curves)
    assert len(axes.lines) == n_curves + n_thin
    assert len(axes.collections) == (n_curves if n_thin else 0)


def test_a_curve_that_begins_late_has_a_marker():
    seeds = np.full((1, N), 0.4)
    seeds[:, :-2] = np.nan
    for n, line in enumerate(drawn(14, seeds).lines):
        assert line.get_markevery(), n
        assert not np.isnan(line.get_ydata()[line.get_markevery()]).any()
