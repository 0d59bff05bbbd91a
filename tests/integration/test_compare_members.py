"""`cmb_compare` with a recipe that is built on the models of others: order, refusals, what is made anew."""

import shutil

import pytest

from cmb_autoseg.cli import compare
from cmb_autoseg.errors import InputError
from cmb_autoseg.files import read_json, read_tsv, write_json
from cmb_autoseg.pipeline.comparison_members import depths, identities
from cmb_autoseg.pipeline.members import known_recipes
from cmb_autoseg.trainers.recipe import Recipe, read_recipe

TINY = """\
schema: 1
name: {name}
description: seconds, for tests
epochs: 1
steps_per_epoch: 1
validation_steps: 1
batch_size: 1
network: {{features: [4, 8]}}
optimizer: {{learning_rate: {rate}}}
inference: {{mirror: [], tile_step: 1.0}}
"""
MIXTURE = "schema: 1\nname: both\ndescription: for tests\nmixture: {members: [slow, fast], weights: equal}\n"
N_FOLDS = 5


@pytest.fixture(scope="module")
def compared(trained, tmp_path_factory):
    """The command's arguments without recipes and folds, the recipes' files, and a comparison that has run."""
    base = tmp_path_factory.mktemp("members")
    for name, rate in (("slow", 1e-4), ("fast", 1e-2)):
        (base / f"{name}.yaml").write_text(TINY.format(name=name, rate=rate))
    (base / "both.yaml").write_text(MIXTURE)
    files = {name: str(base / f"{name}.yaml") for name in ("slow", "fast", "both")}
    where = ["-d", "501", "--workspace", str(trained.workspace), "-device", "cpu", "-o", str(base / "out")]
    assert compare.main([*where, "-r", files["both"], files["slow"], files["fast"]]) == 0
    return where, files, base / "out"


def model(out, name):
    return out / "models" / "Dataset501_Elsewhere" / f"CMBTrainer__{name}-seed0-budget1__3d"


def error_of(capsys):
    (line,) = [line for line in capsys.readouterr().err.splitlines() if ": error: " in line]
    return line


def test_members_are_trained_first_and_tables_keep_the_order_asked_for(compared):
    _, _, out = compared
    written = [
        (out / "scores" / f"{name}-seed0-budget1-fold{fold}.json").stat().st_mtime_ns
        for name, fold in (("slow", 4), ("fast", 4), ("both", 0))
    ]
    assert written == sorted(written)
    assert [row["recipe"] for row in read_tsv(out / "tables" / "paradigms.tsv")] == ["both", "slow", "fast"]
    assert read_json(out / "comparison.json")["steps"] == {"both": 0, "slow": 1, "fast": 1}
    assert "Optimisation steps of a fold: both none, slow 1, fast 1" in (out / "comparison.md").read_text()


def test_every_recipe_has_its_costs_and_its_curve(compared):
    _, _, out = compared
    rows = {row["recipe"]: row for row in read_tsv(out / "tables" / "costs.tsv")}
    parameters = {name: int(row["parameters"]) for name, row in rows.items()}
    assert parameters["both"] == parameters["slow"] + parameters["fast"]
    assert all(float(row["seconds_per_case"]) > 0 and float(row["training_s"]) >= 0 for row in rows.values())
    facts = read_json(out / "scores" / "slow-seed0-budget1-fold0.json")["training"]
    assert facts["training_seconds"] == read_json(model(out, "slow") / "fold_0" / "training_seconds.json") > 0
    assert facts["seconds_per_case"] > 0
    assert [row["recipe"] for row in read_tsv(out / "tables" / "froc.tsv")] == ["both", "slow", "fast"]
    assert all((out / "figures" / f"{name}.png").is_file() for name in ("froc", "costs"))


def test_scores_name_the_models_that_they_are_built_on(compared):
    _, files, out = compared
    recipe = read_recipe(files["both"])
    found = identities(recipe, model(out, "both"), N_FOLDS)
    made_of = read_json(out / "scores" / "both-seed0-budget1-fold3.json")["made_of"]
    assert {name: made_of[f"model of {name}"] for name in ("slow", "fast")} == found
    assert read_json(model(out, "both") / "plans.json")["cmb_autoseg"]["members"] == found
    assert identities(recipe, model(out, "both"), N_FOLDS + 1) is None
    assert identities(read_recipe(files["slow"]), model(out, "slow"), N_FOLDS) == {}


def test_a_second_call_makes_nothing_anew_and_needs_no_members(compared, capsys):
    where, files, out = compared
    before = {path: path.stat().st_mtime_ns for path in (out / "scores").iterdir()}
    assert compare.main([*where, "-r", files["both"]]) == 0
    assert "5 cells: 5 finished, 0 to train and judge" in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in (out / "scores").iterdir()}


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (["both"], "is built on slow, fast, of which folds 0, 1, 2, 3, 4 are neither asked for nor trained in"),
        (["both", "fast"], "is built on slow, of which folds 0, 1, 2, 3, 4 are neither"),
        (["slow", "fast", "both", "-f", "1", "3"], "is built on slow, fast, of which folds 0, 2, 4 are neither"),
    ],
)
def test_missing_members_are_refused_before_anything_is_trained(compared, capsys, tmp_path, asked, found):
    where, files, _ = compared
    out = tmp_path / "new"
    words = [files.get(word, word) for word in asked]
    assert compare.main([*where, "-o", str(out), "-r", *words]) == 2
    line = error_of(capsys)
    assert f"recipe both: {found}" in line
    needed = files["slow"] if asked == ["both", "fast"] else f"{files['slow']} {files['fast']}"
    assert f"-r {needed} -f all --seeds 0 --budgets 1 -o {out}, then this call again" in line
    assert not out.exists()


@pytest.mark.parametrize("change", [["--seeds", "1"], ["--budgets", "0.5"]])
def test_members_of_another_seed_or_budget_are_none(compared, capsys, change):
    where, files, _ = compared
    assert compare.main([*where, "-r", files["both"], *change]) == 2
    number = "seed 1 and budget 1" if "1" in change else "seed 0 and budget 0.5"
    assert number in error_of(capsys)


def test_the_matrix_is_not_made_of_recipes_that_are_built_on_others(compared, capsys):
    where, files, _ = compared
    assert compare.main([*where, "-r", *files.values(), "--cross-sequence"]) == 2
    assert "--cross-sequence: recipe both is built on models of slow, fast" in error_of(capsys)


def test_a_member_trained_anew_makes_all_that_is_built_on_it_anew(compared, tmp_path, capsys):
    where, files, finished = compared
    out = tmp_path / "copy"
    shutil.copytree(finished, out)
    # As if the fold had come out otherwise, on another machine.
    record = read_json(model(out, "slow") / "fold_2" / "fold.json")
    write_json(model(out, "slow") / "fold_2" / "fold.json", {**record, "checkpoint": "sha256:other"})
    assert compare.main([*where, "-o", str(out), "-r", files["both"], "-f", "0"]) == 0
    told = capsys.readouterr().err
    assert "both-seed0-budget1: was built on other models of slow, fast than there are now; made anew" in told
    new, old = (read_json(folder / "scores" / "both-seed0-budget1-fold0.json")["made_of"] for folder in (out, finished))
    assert new["model of slow"] != old["model of slow"]
    assert {name: value for name, value in new.items() if name != "model of slow"} == {
        name: value for name, value in old.items() if name != "model of slow"
    }
    # Tables must not mix folds that are built on different models.
    assert [path.name for path in (out / "scores").glob("both-*.json")] == ["both-seed0-budget1-fold0.json"]


def test_a_member_whose_model_is_gone_is_trained_again(compared, tmp_path, capsys):
    where, files, finished = compared
    out = tmp_path / "copy"
    shutil.copytree(finished, out)
    shutil.rmtree(model(out, "fast") / "fold_1")
    assert compare.main([*where, "-o", str(out), "-r", files["both"]]) == 2
    assert "is built on fast, of which fold 1 is neither asked for nor trained" in error_of(capsys)
    assert compare.main([*where, "-o", str(out), "-r", files["fast"], files["both"]]) == 0
    assert "10 cells: 4 finished, 6 to train and judge" in capsys.readouterr().err
    assert (model(out, "fast") / "fold_1" / "fold.json").is_file()


def test_recipes_of_one_fold_beside_others_of_all_are_judged_on_that_fold(compared, tmp_path, capsys):
    where, _, finished = compared
    out, third = tmp_path / "copy", tmp_path / "third.yaml"
    shutil.copytree(finished, out)
    third.write_text(TINY.format(name="third", rate=1e-3))
    assert compare.main([*where, "-o", str(out), "-r", str(third), "-f", "3"]) == 0
    assert "16 of 16 cells are finished, 12 are of folds that are left out here" in capsys.readouterr().out

    def scans(table):
        return {row["recipe"]: (row["scans"], row["state"]) for row in read_tsv(out / "tables" / f"{table}.tsv")}

    for table in ("paradigms", "froc", "costs", "differences"):
        assert len({*scans(table).values()}) == 1, table
        assert "third" in scans(table)
    assert len(read_tsv(out / "tables" / "cells.tsv")) == 16
    page = (out / "comparison.md").read_text()
    assert "Fold 3 of 0 to 4, the same for all. **Left out**, so that all are judged on the same scans: " in page
    assert "both folds 0, 1, 2, 4; slow folds 0, 1, 2, 4; fast folds 0, 1, 2, 4." in page
    assert compare.main(["-o", str(out), "--tables-only", "-f", "all"]) == 0
    shown = scans("paradigms")
    assert shown["third"] == ("n/a", "not run yet (1 of 5 cells)")
    assert shown["slow"] == shown["both"]
    assert int(shown["slow"][0]) > int(read_tsv(finished / "tables" / "cells.tsv")[0]["scans"])


def recipe_of(name, *members):
    part = {"mixture": {"members": members}} if members else {"epochs": 1, "steps_per_epoch": 1}
    return Recipe.model_validate({"name": name, "description": "for tests", **part})


def test_recipes_are_ordered_by_what_they_are_built_on():
    recipes = [recipe_of("outer", "inner", "c"), recipe_of("inner", "a", "b"), *map(recipe_of, "ab")]
    assert depths(recipes) == {"outer": 2, "inner": 1, "a": 0, "b": 0}
    with pytest.raises(InputError, match="recipe x: is built in a circle, x on y on x; take x out of y"):
        depths([recipe_of("x", "y", "a"), recipe_of("y", "x", "a")])


def test_recipes_are_known_by_the_names_in_their_files(tmp_path):
    for file, name in (("my_slices.yaml", "my_25d"), ("outer.yaml", "outer")):
        (tmp_path / file).write_text(TINY.format(name=name, rate=1e-3))
    (tmp_path / "broken.yaml").write_text("name: [")
    known = known_recipes(read_recipe(str(tmp_path / "outer.yaml")))
    assert known["my_25d"] == str(tmp_path / "my_slices.yaml")
    assert known["supervised"] == "supervised"
    assert not {"my_slices", "broken"} & {*known}
