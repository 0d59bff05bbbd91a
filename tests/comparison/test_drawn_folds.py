"""Recipes that were asked for in different folds stand in tables of those that they share."""

import pytest

from cmb_autoseg.comparison.cells import Cell
from cmb_autoseg.comparison.drawn_folds import drawn_of, folds_shown, folds_told
from cmb_autoseg.comparison.judging import Judge
from cmb_autoseg.comparison.table_files import headline, write_page
from cmb_autoseg.comparison.tables import all_tables


def asked_for(comparison, folds_of, **changes):
    """The comparison with cells of these folds of each recipe, one seed and budget."""
    cells = [Cell(recipe=name, seed=1, budget=1.0, fold=fold) for name, folds in folds_of.items() for fold in folds]
    return comparison.model_copy(update={"cells": tuple(cells), "subsets": False, **changes})


def folds_of(comparison, recipe):
    return [cell.fold for cell in comparison.cells if cell.recipe == recipe and cell.trained_on is None]


def test_all_tables_are_of_the_folds_that_all_share(made_up, tmp_path):
    comparison, scores, views_of = made_up
    whole = asked_for(comparison, {"plain": [0, 1], "better": [1]})
    drawn = drawn_of(whole, None)
    assert [folds_of(drawn, name) for name in ("plain", "better")] == [[1], [1]]
    tables = {table.name: table for table in all_tables(Judge(drawn.cells, scores, views_of, 0, 100), drawn, whole)}
    for name in ("paradigms", "froc", "costs"):
        assert [row["scans"] for row in tables[name].rows] == [6, 6]
        assert "scans" in tables[name].columns
    differences = tables["differences"].rows
    assert all(
        row["state"] is None and row["scans"] == 6 and row["difference"].value is not None for row in differences
    )
    assert len(tables["cells"].rows) == 3
    write_page(list(tables.values()), drawn, tmp_path, whole)
    head = (tmp_path / "comparison.md").read_text()
    assert (
        "Fold 1 of 0 to 4, the same for all. **Left out**, so that all are judged on the same scans: plain fold 0."
        in head
    )
    assert "label budget 1, fold 1:" in headline(drawn)


def test_nothing_is_left_out_where_all_have_the_same_folds(made_up):
    comparison, _, _ = made_up
    assert drawn_of(comparison, None) == comparison
    assert folds_told(comparison, comparison) == "Folds 0, 1 of 0 to 4, the same for all."


def test_a_seed_or_budget_in_fewer_folds_counts_too(made_up):
    comparison, _, _ = made_up
    fewer = tuple(cell for cell in comparison.cells if (cell.seed, cell.budget, cell.fold) != (2, 0.25, 0))
    drawn = drawn_of(comparison.model_copy(update={"cells": fewer}), None)
    assert {cell.fold for cell in drawn.cells} == {1}
    assert len(drawn.cells) == 8


def test_folds_that_are_named_are_drawn_also_where_a_recipe_lacks_them(made_up):
    comparison, scores, views_of = made_up
    whole = asked_for(comparison, {"plain": [0, 1], "better": [1]})
    drawn = drawn_of(whole, [1, 0])
    assert [folds_of(drawn, name) for name in ("plain", "better")] == [[0, 1], [0, 1]]
    without = {name: found for name, found in scores.items() if name != "better-seed1-budget1-fold0"}
    rows = all_tables(Judge(drawn.cells, without, views_of, 0, 100), drawn, whole)[0].rows
    assert [(row["recipe"], row["state"], row.get("scans")) for row in rows] == [
        ("plain", None, 12),
        ("better", "not run yet (1 of 2 cells)", None),
    ]
    assert folds_shown(drawn_of(whole, [1])) == "fold 1"


def test_recipes_that_share_no_fold_are_said_to_be_judged_on_different_scans(made_up):
    comparison, scores, views_of = made_up
    whole = asked_for(comparison, {"plain": [0], "better": [1]})
    drawn = drawn_of(whole, None)
    assert drawn == whole
    told = folds_told(drawn, whole)
    assert "judged on different scans" in told
    assert "plain fold 0; better fold 1 of 0 to 4" in told
    tables = all_tables(Judge(drawn.cells, scores, views_of, 0, 100), drawn, whole)
    differences = next(table for table in tables if table.name == "differences")
    assert {row["state"] for row in differences.rows} == {"not judged on the scans of plain"}


@pytest.mark.parametrize(("empty", "left"), [((), [0, 1]), ((("swi", 0),), [0, 1])])
def test_the_matrix_keeps_the_folds_in_which_one_sequence_has_no_case(made_up, empty, left):
    comparison, _, _ = made_up
    plain = asked_for(comparison, {"plain": [0, 1], "better": [0, 1]}).cells
    matrix = [
        Cell(recipe=name, seed=1, budget=1.0, fold=fold, trained_on=role)
        for name in ("plain", "better")
        for role in ("swi", "qsm")
        for fold in (0, 1)
        if (role, fold) not in empty
    ]
    drawn = drawn_of(comparison.model_copy(update={"cells": (*plain, *matrix)}), None)
    assert [cell for cell in drawn.cells if cell.trained_on] == matrix
    assert folds_of(drawn, "plain") == left
