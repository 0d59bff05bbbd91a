"""The scripts of benchmarks/ can be imported; what two of them compute, on made-up scores and tiny arrays."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

from cmb_autoseg.comparison.case_scores import write_scores
from cmb_autoseg.comparison.cells import Cell, Comparison
from cmb_autoseg.errors import InputError

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
SCRIPTS = sorted(path.relative_to(BENCHMARKS) for path in BENCHMARKS.rglob("*.py") if "__pycache__" not in path.parts)


def loaded(path, name):
    """A module from a file; scripts find what lies beside them, as when they are run."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module


@pytest.fixture(scope="session")
def script():
    return lambda name: loaded(BENCHMARKS / name, f"benchmark_{Path(name).stem}")


@pytest.fixture(scope="session")
def made():
    """How the tests of comparisons make scores up."""
    return loaded(ROOT / "tests" / "comparison" / "conftest.py", "made_up_scores")


@pytest.mark.parametrize("path", SCRIPTS, ids=str)
def test_the_script_can_be_imported(path, script):
    try:
        module = script(path)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("cmb_autoseg"):
            raise
        pytest.skip(f"{error.name} is not installed")
    assert module.__doc__


def written(folder, made, found_without):
    """Two recipes, two seeds, 8 people with 4 lesions each: all found from both sequences, fewer without qsm.

    Args:
        found_without: recipe to lesions found of each person without qsm.
    """
    cells = [Cell(recipe=recipe, seed=seed, budget=1.0, fold=0) for recipe in found_without for seed in (1, 2)]
    for cell in cells:
        views = [
            made.make_view(f"p{person}", found, 0, 4, sequences="swi+qsm", view=view)
            for person in range(8)
            for view, found in (("swi+qsm", 4), ("swi", found_without[cell.recipe][person]), ("qsm", 4))
        ]
        path = folder / "scores" / f"{cell.name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_scores(path, cell, {}, made.FACTS, views)
    comparison = Comparison(
        dataset="Dataset501_Made",
        plan="sha256:1",
        channels=("swi", "qsm"),
        reference="supervised",
        recipes=dict.fromkeys(found_without, "sha256:2"),
        steps=dict.fromkeys(found_without, 10),
        cells=tuple(cells),
        subsets=True,
        data="simulated",
    )
    comparison.write(folder / "comparison.json")
    return folder


def rows_of(page):
    lines = [line for line in page.splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: dict(zip(head, row, strict=True)) for row in rows}


def figures(text):
    return [float(number) for number in re.findall(r"-?\d+\.\d+", text)]


def test_the_cost_of_a_missing_sequence_is_tested_against_half_the_other(script, made, tmp_path, capsys):
    """Pooled F1 from 4 of 4 is 1; from 3 of 4 6/7, from 2 of 4 2/3."""
    out = written(tmp_path / "compared", made, {"supervised": [3] * 8, "supervised_no_dropout": [2] * 8})
    script("missing_sequences.py").main([str(out), "--out", str(tmp_path / "page.md")])

    page = (tmp_path / "page.md").read_text()
    assert page.strip() in capsys.readouterr().out
    rows = rows_of(page)
    assert rows["qsm"]["scans"] == "8"
    assert figures(rows["qsm"]["cost with dropout"]) == pytest.approx([1 / 7] * 3, abs=1e-3)
    assert figures(rows["qsm"]["cost without"]) == pytest.approx([1 / 3] * 3, abs=1e-3)
    assert figures(rows["qsm"]["with - 0.5 * without"]) == pytest.approx([1 / 7 - 1 / 6] * 3, abs=1e-3)
    assert float(rows["qsm"]["p"]) < 0.01
    assert float(rows["qsm"]["ratio"]) == pytest.approx(3 / 7, abs=0.01)
    # Nothing is lost without swi, so there is nothing to compare.
    assert figures(rows["swi"]["with - 0.5 * without"]) == [0, 0, 0]
    assert rows["swi"]["p"] == "1"
    assert rows["swi"]["ratio"] == "n/a"
    assert "any one (mean)" in rows


def test_draws_in_which_nothing_is_lost_without_dropout_count(script, made, tmp_path):
    """Each recipe loses lesions of one other person, whom many draws leave out: a ratio has no value there."""
    lost = {"supervised": [4] * 7 + [2], "supervised_no_dropout": [0] + [4] * 7}
    script("missing_sequences.py").main([str(written(tmp_path, made, lost)), "--out", str(tmp_path / "page.md")])

    row = rows_of((tmp_path / "page.md").read_text())["qsm"]
    value, low, high = figures(row["with - 0.5 * without"])
    costs = 1 - 2 * 30 / (30 + 32), 1 - 2 * 28 / (28 + 32)
    assert value == pytest.approx(costs[0] - 0.5 * costs[1], abs=1e-3)
    assert low < -0.03 < 0.03 < high
    assert float(row["p"]) > 0.5
    assert float(row["ratio"]) == pytest.approx(costs[0] / costs[1], abs=0.01)


def test_unfinished_recipes_are_refused(script, made, tmp_path):
    out = written(tmp_path, made, {"supervised": [3] * 8, "supervised_no_dropout": [2] * 8})
    (out / "scores" / "supervised-seed1-budget1-fold0.json").unlink()

    with pytest.raises(InputError, match=r"supervised: not run yet \(1 of 2 cells\)"):
        script("missing_sequences.py").main([str(out), "--out", str(tmp_path / "page.md")])
    assert not (tmp_path / "page.md").exists()
