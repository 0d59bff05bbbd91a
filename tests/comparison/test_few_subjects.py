"""What `cmb_compare --tables-only` shows where little is there: one subject, cells that are not run yet."""

import numpy as np
import pytest
from matplotlib.figure import Figure as Picture

from cmb_autoseg.cli import compare
from cmb_autoseg.comparison.case_scores import TrainingFacts, write_scores
from cmb_autoseg.comparison.cells import Cell, Comparison
from cmb_autoseg.files import read_json, read_tsv

FACTS = TrainingFacts(
    steps=1,
    n_parameters=1,
    n_training_cases=1,
    n_training_subjects=1,
    n_unlabelled_cases=0,
    encoder=None,
    checkpoint="sha256:0",
)


@pytest.fixture
def compared(make_view, tmp_path):
    """Writes a comparison of two recipes and budgets; lesions and false positives are given for each subject."""

    def write(people, unfinished=(), budgets=(1.0, 0.25)):
        cells = [
            Cell(recipe=recipe, seed=0, budget=budget, fold=0) for recipe in ("plain", "better") for budget in budgets
        ]
        for cell in cells:
            views = [
                make_view(name, 0, false, n_lesions, sequences="swi+qsm", view=view)
                for name, (n_lesions, false) in people.items()
                for view in ("swi+qsm", "swi", "qsm")
            ]
            if (cell.recipe, cell.budget) not in unfinished:
                write_scores(tmp_path / "scores" / f"{cell.name}.json", cell, {}, FACTS, views)
        Comparison(
            dataset="Dataset501_Made",
            plan="sha256:1",
            channels=("swi", "qsm"),
            reference="plain",
            recipes={"plain": "sha256:2", "better": "sha256:3"},
            steps={"plain": 1, "better": 1},
            cells=tuple(cells),
            subsets=True,
            data="simulated",
        ).write(tmp_path / "comparison.json")
        return tmp_path

    return write


@pytest.fixture(autouse=True)
def drawn(monkeypatch):
    """The panels of each picture that is drawn: its title to {title of the panel: axes}."""
    found = {}

    def note(picture, path, **_):
        title = picture.get_suptitle().partition(" (")[0]
        found[title] = {axes.get_title(): axes for axes in picture.axes}
        path.write_bytes(b"")

    monkeypatch.setattr(Picture, "savefig", note)
    return found


def draw(out):
    assert compare.main(["-o", str(out), "--tables-only"]) == 0
    return (out / "comparison.md").read_text()


def rows_under(page, heading):
    """Rows of a table on the page, as lists of cells; the names of the columns first."""
    table = page.partition(f"## {heading}\n\n")[2].partition("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in (table[0], *table[2:])]


def test_one_subject_has_neither_interval_nor_p(compared):
    out = compared({"a": (2, 1)})
    page = draw(out)
    assert " to 0." not in page.partition("## Recipes")[2]
    head, plain, _ = rows_under(page, "Recipes")
    assert plain[head.index("lesion F1")] == "0.000 (n/a)"
    assert plain[head.index("FP per scan")] == "1.000 (n/a)"
    for heading in ("Differences from plain", "One sequence missing", "Every set of sequences"):
        head, *rows = rows_under(page, heading)
        assert {row[head.index(name)] for row in rows for name in ("p", "p (Holm)")} == {"n/a"}
    head, *rows = rows_under(page, "Differences from plain")
    assert {row[head.index("difference")] for row in rows} == {"0.000 (n/a)", "n/a"}
    assert read_tsv(out / "tables" / "differences.tsv")[1]["p"] == "n/a"
    assert read_json(out / "tables" / "differences.json")["rows"][1]["p"] is None


def test_a_figure_that_one_of_several_subjects_defines_has_no_interval(compared):
    head, plain, _ = rows_under(draw(compared({"a": (2, 1), "b": (3, 0), "c": (0, 2)})), "Recipes")
    assert plain[head.index("FP per lesion-free scan")] == "2.000 (n/a)"
    assert plain[head.index("FP per scan")].startswith("1.000 (0.")
    assert plain[head.index("lesion sensitivity")] == "0.000 (0.000 to 0.000)"


def test_the_state_of_cells_is_one_column(compared):
    page = draw(compared({"a": (2, 1), "b": (1, 0)}, unfinished=[("better", 0.25)]))
    head, *rows = rows_under(page, "What was trained")
    assert head.count("state") == 1
    assert [row[head.index("state")] for row in rows] == [*["finished"] * 3, "not run yet"]


def test_notes_tell_of_columns_that_are_there(compared):
    every = [("better", 1.0), ("better", 0.25)]
    unfinished = draw(compared({"a": (2, 1), "b": (1, 0)}, unfinished=every))
    assert "Wilcoxon" not in unfinished
    assert "Recipe minus" not in unfinished
    assert "The last column" not in unfinished
    assert "trained on > tested on" not in unfinished
    finished = draw(compared({"a": (2, 1), "b": (1, 0)}))
    for words in ("Wilcoxon: signed ranks", "Recipe minus plain", "The last column, negative"):
        assert words in finished
    assert "## Paired tests of fewer labels and of sequences\n" in finished
    one_budget = draw(compared({"a": (2, 1), "b": (1, 0)}, budgets=(1.0,)))
    assert "## Paired tests of sequences\n" in one_budget


@pytest.mark.parametrize(
    ("budgets", "told"), [((1.0, 0.25), "label budget 1, the largest of 0.25, 1:"), ((0.25,), "label budget 0.25:")]
)
def test_the_terminal_says_what_data_and_which_budget_it_shows(compared, capsys, budgets, told):
    page = draw(compared({"a": (2, 1), "b": (1, 0)}, budgets=budgets))
    first, _, table = capsys.readouterr().out.splitlines()[:3]
    assert first == f"Recipes on Dataset501_Made, simulated data, {told[:-1]}, fold 0:"
    assert table.startswith("| recipe | scans |")
    assert f"\nL{told[1:-1]}.\n" in page


def words(axes):
    return [text.get_text() for text in axes.texts]


def test_a_panel_without_a_value_says_so_and_counts_begin_at_0(compared, drawn):
    draw(compared({"a": (2, 0), "b": (1, 0)}))
    for title in ("Recipes", "Differences from plain"):
        assert words(drawn[title]["voxel AUC"]) == ["undefined"]
        assert not drawn[title]["voxel AUC"].get_xticks().size
        assert not words(drawn[title]["FP per scan"])
    for name in ("FP per scan", "lesion F1"):
        assert drawn["Recipes"][name].get_xlim()[0] == 0
        assert drawn["Differences from plain"][name].get_xlim()[0] < 0
        assert drawn["Fewer labels"][name].get_ylim()[0] == 0
    assert words(drawn["Fewer labels"]["voxel AUC"]) == ["undefined"]
    assert drawn["One sequence missing"]["cost in F1"].get_xlim()[0] < 0


def test_panels_of_budgets_share_their_axis_which_says_that_points_are_shifted(compared, drawn):
    draw(compared({"a": (2, 0), "b": (1, 3)}))
    panels = drawn["Fewer labels"].values()
    assert len({tuple(axes.get_xlim()) for axes in panels}) == 1
    assert {axes.get_xlabel() for axes in panels} == {"labelled subjects, %\n(recipes drawn side by side)"}
    f1 = drawn["Fewer labels"]["lesion F1"]
    at = {float(x) for line in f1.lines for x in line.get_xdata()}
    low, high = f1.get_xlim()
    assert low < min(at) < 25 < max(at) < high
    assert not np.isclose(min(at), 25)
