"""Figures of a report: which there are, words for those who do not see them, places of what is drawn."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from cmb_autoseg.evaluation.matching.protocols import PROTOCOLS
from cmb_autoseg.evaluation.metrics.curves import Froc
from cmb_autoseg.evaluation.metrics.figure import Figure, undefined
from cmb_autoseg.evaluation.reporting.agreement_figures import draw_bland_altman
from cmb_autoseg.evaluation.reporting.build_pictures import Curves, build_pictures
from cmb_autoseg.evaluation.reporting.curve_figures import Line, draw_froc, draw_precision_recall
from cmb_autoseg.evaluation.reporting.forest_figures import ForestLine, draw_forest
from cmb_autoseg.evaluation.reporting.study import Study
from cmb_autoseg.reporting.pictures import write_pictures

PUBLISHED = {
    *("froc", "precision_recall", "lesion_roc", "patient_roc", "reliability", "counts", "bland_altman"),
    *("strata_size", "strata_region", "protocols", "subgroups", "subgroups_fp"),
    *("systems", "systems_froc", "system_differences"),
}


def pixels(picture):
    return np.asarray(Image.open(io.BytesIO(picture.png)).convert("RGB")).astype(int)


def close_to(picture, color):
    wanted = np.array([int(color[at : at + 2], 16) for at in (1, 3, 5)])
    return np.abs(pixels(picture) - wanted).sum(axis=2) < 30


def test_every_figure_of_the_publications_is_there(pictures, tmp_path):
    assert {picture.name for picture in pictures} == PUBLISHED
    write_pictures(pictures, tmp_path)
    for picture in pictures:
        assert Image.open(tmp_path / f"{picture.name}.png").width <= 1200
        assert picture.title
        assert picture.caption.endswith(".")
        assert picture.alt.rstrip().endswith((".", ")")) or re.search(r"\d$", picture.alt)
        assert b"matplotlib" not in picture.png.lower(), "no version, so that bytes stay the same"


def test_without_curves_and_groups_there_is_no_picture():
    assert build_pictures(Study(PROTOCOLS["valdo"], [], {}), Curves()) == []
    nothing = np.empty(0)
    why = Froc(nothing, 0, "no confidence", None, nothing, nothing)
    assert build_pictures(Study(PROTOCOLS["valdo"], [], {}), Curves(froc=why)) == []


def test_froc_says_what_is_reached_and_draws_alike_twice():
    line = Line(np.array([0.25, 0.5, 2.0]), np.array([0.2, 0.6, 0.9]), point=(0.5, 0.6), area="FROC score 0.5")
    first = draw_froc([line])
    assert "0.60 at 0.5, 0.90 at 2" in first.alt
    assert "operating point" in first.caption
    assert first == draw_froc([line])
    few = draw_froc([Line(np.array([4.0]), np.array([0.3]))])
    assert "no point below 2 false positives per scan" in few.alt


def test_predictions_without_any_candidate_have_a_flat_curve():
    nothing = np.empty(0)
    assert "no point below" in draw_froc([Line(nothing, nothing)]).alt
    assert draw_precision_recall([Line(nothing, nothing)]).png


def test_a_higher_curve_is_drawn_higher():
    def mean_row(height):
        drawn = close_to(draw_froc([Line(np.array([0.1, 1.0]), np.array([height, height]))]), "#0072B2")
        return np.nonzero(drawn)[0].mean()

    assert mean_row(0.9) < mean_row(0.3)


def test_a_forest_has_a_dot_for_every_defined_figure():
    lines = [ForestLine("a", {"": Figure(value=0.2, ci=(0.1, 0.3))}), ForestLine("b", {"": undefined("none")})]
    picture = draw_forest(lines, "x", "Title", "share", "Caption.")
    assert "a: 0.200 (0.100 to 0.300)" in picture.alt
    assert "b: n/a" in picture.alt
    assert close_to(picture, "#0072B2").any()
    assert draw_forest(lines[1:], "x", "Title", "share", "Caption.") is None


def test_an_interval_that_leaves_its_value_out_is_drawn():
    lines = [ForestLine("a", {"": Figure(value=0.5, ci=(0.6, 0.7))})]
    assert draw_forest(lines, "x", "Title", "share", "Caption.") is not None


@pytest.mark.parametrize("limits", [(-1.0, 2.0), (np.nan, np.nan)])
def test_bland_altman_of_few_cases(limits):
    bias = Figure(value=0.5) if np.isfinite(limits[0]) else undefined("no scored case")
    picture = draw_bland_altman([1, 1, 2], [1, 1, 0], bias, limits)
    assert "3 cases" in picture.alt
    assert ("0.500" in picture.alt) == np.isfinite(limits[0])
    assert "nan" not in picture.alt
