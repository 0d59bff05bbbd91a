"""`benchmarks/systems/calibrate.py` on a tiny cohort: steps are timed by real trainings and written into the files."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

from cmb_autoseg.trainers.recipe import read_recipe

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "systems" / "calibrate.py"
SECOND = """\
schema: 1
name: second
description: for tests
epochs: 2
steps_per_epoch: 3
validation_steps: 1
batch_size: 2
two_stage: {first: tiny, window_pixels: 16, slices: 1, features: [4, 8]}
"""
JOINED = "schema: 1\nname: joined\ndescription: for tests\nmixture: {members: [tiny, second]}\n"


@pytest.fixture(scope="module")
def calibrate():
    spec = importlib.util.spec_from_file_location("calibrate_for_integration", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_steps_fill_the_time_and_are_written(calibrate, trained, tmp_path, capsys):
    tiny, second, joined = (tmp_path / f"{name}.yaml" for name in ("tiny", "second", "joined"))
    tiny.write_text("# why\n" + trained.recipe.read_text())
    second.write_text(SECOND)
    joined.write_text(JOINED)
    before = sorted(trained.workspace.rglob("*"))
    where = ["-d", "501", "--workspace", str(trained.workspace)]
    calibrate.main([*map(str, (tiny, second, joined)), *where, "--minutes", "1", "--steps", "3", "--write"])

    rows = [line.strip("|").split("|") for line in capsys.readouterr().out.splitlines() if line.startswith("|")][2:]
    assert [row[0].strip() for row in rows] == ["tiny", "second", "joined"]
    assert [row[-1].strip() for row in rows] == ["1", "0.25", "0"]
    for path, row in zip((tiny, second), rows, strict=False):
        _, start, step, epoch = (float(cell) if n else 0.0 for n, cell in enumerate(row[:4]))
        recipe = read_recipe(str(path))
        assert row[4].strip() == f"{recipe.epochs} x {recipe.steps_per_epoch}"
        filled = start + recipe.epochs * (recipe.steps_per_epoch * step + epoch)
        wanted = 60 * float(row[-1])
        assert recipe.steps_per_epoch == 1 or filled == pytest.approx(wanted, rel=0.2)
    assert tiny.read_text().startswith("# why\n")
    assert re.sub(r"steps_per_epoch: \d+", "steps_per_epoch: 3", second.read_text()) == SECOND
    assert joined.read_text() == JOINED
    assert sorted(trained.workspace.rglob("*")) == before, "no model is left behind"


def test_what_cannot_be_trained_is_told_and_the_others_are_timed(calibrate, trained, tmp_path, capsys):
    lacks, tiny = tmp_path / "lacks.yaml", tmp_path / "tiny.yaml"
    text = trained.recipe.read_text()
    lacks.write_text(text.replace("name: tiny", "name: lacks") + "transfer: {encoder: of_nobody}\n")
    tiny.write_text(text)
    calibrate.main([str(lacks), str(tiny), "-d", "501", "--workspace", str(trained.workspace), "--steps", "3"])

    shown = capsys.readouterr().out
    assert "| lacks |" in shown
    assert "of_nobody" in shown
    assert re.search(r"^\| tiny \| \d+\.\d \| \d+\.\d{3} \|", shown, re.M)
    assert tiny.read_text() == text
