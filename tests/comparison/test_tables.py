"""Tables, tests and pictures of made-up scores."""

import numpy as np
import pytest
from scipy.stats import wilcoxon

from cmb_autoseg.comparison.cells import Cell, grid_of_cells, subsets_of, view_name
from cmb_autoseg.comparison.judging import Group, Judge
from cmb_autoseg.comparison.table_files import as_markdown, write_page
from cmb_autoseg.comparison.tables import all_tables
from cmb_autoseg.evaluation.metrics.figure import Figure
from cmb_autoseg.files import read_json, read_tsv
from cmb_autoseg.records import Role

N_RESAMPLES = 200


@pytest.fixture(scope="module")
def tables(made_up):
    comparison, scores, views_of = made_up
    return {
        table.name: table for table in all_tables(Judge(comparison.cells, scores, views_of, 0, N_RESAMPLES), comparison)
    }


def test_cells_are_every_combination_and_one_matrix_at_the_largest_budget():
    cells = grid_of_cells(["a", "b"], [1, 2], [0.25, 1.0], [0, 3], [Role.SWI, Role.QSM])
    assert len(cells) == 2 * 2 * 2 * 2 + 2 * 2 * 2 * 2
    assert len({cell.name for cell in cells}) == len(cells)
    assert {cell.budget for cell in cells if cell.trained_on} == {1.0}
    assert cells[0].name == "a-seed1-budget1-fold0"
    assert Cell(recipe="a", seed=0, budget=0.125, fold=2, trained_on="qsm").name == "a-seed0-budget0.125-qsm-fold2"


def test_subsets_have_a_sequence_that_shows_microbleeds():
    four = [view_name(subset) for subset in subsets_of([Role.SWI, Role.GRE_MAG, Role.QSM, Role.T1])]
    assert (len(four), len(set(four)), "t1" in four) == (14, 14, False)
    five = list(subsets_of([Role.SWI, Role.GRE_MAG, Role.QSM, Role.T1, Role.T2]))
    assert sorted(map(len, five)) == [1, 1, 1, 4, 4, 4, 4, 4, 5]


def test_every_table_is_there(tables):
    names = ["paradigms", "froc", "costs", "differences", "annotation_efficiency", "per_sequence", "dropping"]
    assert list(tables) == [*names, "subsets", "paired_tests", "cells"]
    assert len(tables["cells"].rows) == 16
    assert [row["recipe"] for row in tables["paradigms"].rows] == ["plain", "better"]
    assert [(row["budget"], row["recipe"]) for row in tables["annotation_efficiency"].rows] == [
        (1.0, "plain"),
        (1.0, "better"),
        (0.25, "plain"),
        (0.25, "better"),
    ]


def test_figures_pool_folds_and_average_seeds(tables, made_up):
    comparison, _, views_of = made_up
    found = []
    for seed in (1, 2):
        views = [
            view
            for cell in comparison.cells
            if (cell.recipe, cell.seed, cell.budget) == ("better", seed, 1.0)
            for view in views_of(cell.name)
            if view.row.view == "swi+qsm+t1"
        ]
        assert len(views) == 12
        # Counts are the same at every threshold.
        hits, false = (sum(getattr(v.counts, name)[0] for v in views) for name in ("hits", "false_positives"))
        found.append((hits / sum(v.counts.n_lesions for v in views), false / 12))
    row = tables["paradigms"].rows[1]
    assert row["sensitivity"].value == pytest.approx(np.mean([s for s, _ in found]))
    assert row["fp_per_scan"].value == pytest.approx(np.mean([f for _, f in found]))
    low, high = row["sensitivity"].ci
    assert 0 < low < row["sensitivity"].value < high <= 1


def test_differences_are_paired_and_corrected(tables, made_up):
    comparison, scores, views_of = made_up
    judge = Judge(comparison.cells, scores, views_of, 0, N_RESAMPLES)
    rows = [row for row in tables["differences"].rows if row["figure"] == "lesion F1"]
    assert [(row["recipe"], row["budget"]) for row in rows] == [("better", 1.0), ("better", 0.25)]
    plain, better = (judge.measured(Group(name, 1.0)) for name in ("plain", "better"))
    mean_f1 = [
        {s: np.mean([m.f1_of_subjects()[s] for m in side]) for s in side[0].f1_of_subjects()}
        for side in (better, plain)
    ]
    expected = wilcoxon([mean_f1[0][s] - mean_f1[1][s] for s in mean_f1[0]], zero_method="pratt").pvalue
    assert rows[0]["p_wilcoxon"] == pytest.approx(expected)
    difference = rows[0]["difference"]
    assert difference.value == pytest.approx(judge.figure(better, "f1").value - judge.figure(plain, "f1").value)
    assert difference.value > 0.1
    assert difference.ci[0] > 0
    assert rows[0]["p"] == pytest.approx(2 / (N_RESAMPLES + 1))
    smaller, larger = sorted(row["p"] for row in rows)
    assert sorted(row["p_holm"] for row in rows) == pytest.approx([2 * smaller, max(2 * smaller, larger)])


def test_a_recipe_does_not_differ_from_itself(made_up):
    comparison, scores, views_of = made_up
    judge = Judge(comparison.cells, scores, views_of, 0, N_RESAMPLES)
    same = judge.measured(Group("plain", 1.0))
    contrast = judge.contrast("f1", [same], [same])
    assert (contrast.difference, contrast.p) == (Figure(value=0, ci=(0, 0)), 1.0)


def test_cost_of_a_missing_sequence(tables):
    rows = {(row["recipe"], row["dropped"]): row for row in tables["dropping"].rows}
    # Nothing was judged without swi or t1 but with the two others.
    assert set(rows) == {("plain", "qsm"), ("better", "qsm")}
    plain = rows["plain", "qsm"]
    assert plain["cost"].value == pytest.approx(plain["f1"].value - plain["f1_without"].value)
    beyond = rows["better", "qsm"]["cost_beyond_reference"]
    assert beyond.value == pytest.approx(rows["better", "qsm"]["cost"].value - plain["cost"].value)
    assert "cost_beyond_reference" not in plain


def picked(table, about, figure="lesion F1"):
    found = [row for row in table.rows if (row["about"], row["figure"]) == (about, figure)]
    return {(row["recipe"], row["of"], row["against"]): row for row in found}


def test_budgets_are_tested_against_all_labels_and_sequences_against_the_reference(tables, made_up):
    table = tables["paired_tests"]
    few = picked(table, "fewer labels")
    assert list(few) == [("plain", "0.25", "1"), ("better", "0.25", "1")]
    figures = {(row["recipe"], row["budget"]): row["f1"] for row in tables["annotation_efficiency"].rows}
    for recipe in ("plain", "better"):
        row = few[recipe, "0.25", "1"]
        assert row["scans"] == 12
        assert row["difference"].value == pytest.approx(figures[recipe, 0.25].value - figures[recipe, 1.0].value)
        assert row["difference"].ci[0] <= row["difference"].value <= row["difference"].ci[1]
    smaller, larger = sorted(row["p"] for row in few.values())
    assert sorted(row["p_holm"] for row in few.values()) == pytest.approx(
        sorted([min(1, 2 * smaller), max(min(1, 2 * smaller), larger)])
    )
    alone = picked(table, "sequence alone")
    assert list(alone) == [("better", "swi", "plain"), ("better", "qsm", "plain")]
    figures = {(row["recipe"], row["sequence"]): row["f1"] for row in tables["per_sequence"].rows}
    difference = alone["better", "qsm", "plain"]["difference"].value
    assert difference == pytest.approx(figures["better", "qsm"].value - figures["plain", "qsm"].value)


def test_one_recipe_is_tested_against_all_its_sequences(made_up):
    comparison, scores, views_of = made_up
    cells = tuple(cell for cell in comparison.cells if (cell.recipe, cell.budget) == ("plain", 1.0))
    few = comparison.model_copy(update={"cells": cells, "recipes": {"plain": "sha256:2"}})
    tables = {table.name: table for table in all_tables(Judge(cells, scores, views_of, 0, N_RESAMPLES), few)}
    alone = picked(tables["paired_tests"], "sequence alone")
    assert list(alone) == [("plain", "swi", "all sequences"), ("plain", "qsm", "all sequences")]
    figures = {row["sequence"]: row["f1"] for row in tables["per_sequence"].rows}
    difference = alone["plain", "swi", "all sequences"]["difference"].value
    assert difference == pytest.approx(figures["swi"].value - tables["paradigms"].rows[0]["f1"].value)


def matrix(make_view, hits_of):
    """Two sequences, six people with two lesions each; `hits_of[recipe]` finds so many from (trained, tested)."""
    cells, kept = [], {}
    for recipe, hits in hits_of.items():
        for trained in ("swi", "qsm"):
            cell = Cell(recipe=recipe, seed=0, budget=1, fold=0, trained_on=trained)
            cells.append(cell)
            kept[cell.name] = [
                make_view(f"p{n}", hits[trained, tested], 0, 2, sequences=trained, view=tested)
                for n in range(6)
                for tested in ("swi", "qsm")
            ]
    return tuple(cells), kept


@pytest.mark.parametrize("several", [False, True])
def test_the_matrix_is_tested_against_the_reference_or_its_own_diagonal(made_up, make_view, several):
    comparison, scores, _ = made_up
    hits = {("swi", "swi"): 2, ("swi", "qsm"): 1, ("qsm", "swi"): 0, ("qsm", "qsm"): 2}
    more = {"better": dict.fromkeys(hits, 2)} if several else {}
    cells, kept = matrix(make_view, {"plain": hits, **more})
    some = next(iter(scores.values()))
    asked = comparison.model_copy(update={"cells": cells, "channels": (Role.SWI, Role.QSM), "subsets": False})
    judge = Judge(cells, dict.fromkeys(kept, some), kept.__getitem__, 0, N_RESAMPLES)
    tables = {table.name: table for table in all_tables(judge, asked)}
    found = picked(tables["paired_tests"], "matrix", "lesion sensitivity")
    differences = {key: row["difference"].value for key, row in found.items()}
    if several:
        assert differences == {
            ("better", "swi > swi", "plain"): 0,
            ("better", "swi > qsm", "plain"): 0.5,
            ("better", "qsm > swi", "plain"): 1,
            ("better", "qsm > qsm", "plain"): 0,
        }
    else:
        assert differences == {("plain", "swi > qsm", "swi > swi"): -0.5, ("plain", "qsm > swi", "qsm > qsm"): -1}


def test_the_cost_of_every_subset_has_its_p(tables):
    rows = {(row["recipe"], row["subset"]): row for row in tables["subsets"].rows}
    worst = rows["plain", "qsm"]
    assert 0 < worst["p"] <= worst["p_holm"] <= 1
    assert {"p", "p_holm"} <= set(tables["subsets"].columns)


def test_cells_that_are_not_run_are_said_so(made_up, tmp_path):
    comparison, scores, views_of = made_up
    gone = [cell.name for cell in comparison.cells if (cell.recipe, cell.budget) == ("better", 1.0)]
    few = {name: found for name, found in scores.items() if name != gone[0]}
    tables = all_tables(Judge(comparison.cells, few, views_of, 0, N_RESAMPLES), comparison)
    paradigms = tables[0]
    assert paradigms.rows[1]["state"] == "not run yet (3 of 4 cells)"
    assert "| better | not run yet (3 of 4 cells) |" in as_markdown(paradigms)
    write_page(tables, comparison, tmp_path)
    assert read_tsv(tmp_path / "tables" / "paradigms.tsv")[1]["state"] == "not run yet (3 of 4 cells)"
    write_page(all_tables(Judge(comparison.cells, {}, views_of, 0, N_RESAMPLES), comparison), comparison, tmp_path)
    assert not list((tmp_path / "figures").glob("*"))


def test_rows_keep_their_names_where_nothing_is_run_yet(made_up):
    comparison, _, views_of = made_up
    tables = all_tables(Judge(comparison.cells, {}, views_of, 0, N_RESAMPLES), comparison)
    for line in as_markdown(tables[0]).splitlines()[2:]:
        name, state = (cell.strip() for cell in line.strip("|").split("|"))
        assert name in comparison.recipes
        assert state.startswith("not run yet (0 of ")


def test_page_tables_and_pictures(tables, made_up, tmp_path):
    comparison, _, _ = made_up
    write_page(list(tables.values()), comparison, tmp_path)
    page = (tmp_path / "comparison.md").read_text()
    assert page.startswith(
        "# Comparison on Dataset501_Made\n\n**Simulated data.** Seeds 1, 2; label budgets 0.25, 1. "
        "Folds 0, 1 of 0 to 4, the same for all. "
    )
    for name in tables:
        content = read_json(tmp_path / "tables" / f"{name}.json")
        assert content["data"] == "simulated"
        assert len(read_tsv(tmp_path / "tables" / f"{name}.tsv")) == len(content["rows"]) == len(tables[name].rows)
        drawn = (tmp_path / "figures" / f"{name}.png").is_file()
        assert drawn == (name != "cells") == (f"](figures/{name}.png)" in page)
    row = read_tsv(tmp_path / "tables" / "paradigms.tsv")[0]
    figure = read_json(tmp_path / "tables" / "paradigms.json")["rows"][0]["f1"]
    assert float(row["f1"]) == pytest.approx(figure["value"], rel=1e-4)
    assert [float(row["f1_low"]), float(row["f1_high"])] == pytest.approx(figure["ci"], rel=1e-4)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    write_page(list(tables.values()), comparison, tmp_path)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*.*")}, "the same bytes"
