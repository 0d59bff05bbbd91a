"""`cmb_compare` through its `main`: two recipes, two budgets, one fold; what is finished is left as it is."""

import shutil
from dataclasses import replace

import pytest
import torch
from filelock import FileLock

from cmb_autoseg.cli import compare
from cmb_autoseg.comparison.case_scores import read_views
from cmb_autoseg.comparison.cells import grid_of_cells
from cmb_autoseg.errors import InputError
from cmb_autoseg.files import read_json, read_tsv, write_json, write_tsv
from cmb_autoseg.locking import LOCK_NAME
from cmb_autoseg.networks.residual_unet import ResidualEncoder
from cmb_autoseg.pipeline import comparing, comparison_cell, comparison_matrix
from cmb_autoseg.pretraining.encoder_file import read_encoder, write_encoder
from cmb_autoseg.raw_dataset import read_raw_dataset
from cmb_autoseg.records import Encoder, Plan, Role
from cmb_autoseg.trainers.fold_cases import fold_cases
from cmb_autoseg.workspace import Workspace

TINY = """\
schema: 1
name: {name}
description: seconds, for tests
epochs: 1
steps_per_epoch: 2
validation_steps: 1
batch_size: 1
network: {{features: [4, 8]}}
optimizer: {{learning_rate: {rate}}}
inference: {{mirror: [], tile_step: 1.0}}
"""


def richest_fold(trained):
    """The fold that is judged on most lesions, of scans that have both sequences."""
    folds = read_json(trained.raw / "splits_final.json")
    lesions = [sum(len(trained.truth[name]) for name in fold["val"] if name != "p4_1") for fold in folds]
    return lesions.index(max(lesions))


@pytest.fixture(scope="module")
def compared(trained, tmp_path_factory):
    """The command's arguments, and the folder of a comparison that has run."""
    base = tmp_path_factory.mktemp("compare")
    for name, rate in (("slow", 1e-4), ("fast", 1e-2)):
        (base / f"{name}.yaml").write_text(TINY.format(name=name, rate=rate))
    recipes = ["-r", str(base / "slow.yaml"), str(base / "fast.yaml")]
    where = ["-d", "501", "--workspace", str(trained.workspace), "-device", "cpu", "-o", str(base / "out")]
    fold = [*where, *recipes, "-f", str(richest_fold(trained)), "--subsets"]
    assert compare.main([*fold, "--budgets", "1", "0.5"]) == 0
    return fold, base


def times(out):
    """When each model and each score was written; tables are drawn anew every time."""
    files = [*(out / "models").rglob("checkpoint_final.pth"), *(out / "scores").iterdir()]
    return {path: path.stat().st_mtime_ns for path in files}


def views_of(out):
    return [view for path in (out / "scores").glob("*.json") for view in read_views(path)]


def test_everything_is_written(compared, trained):
    _, base = compared
    out = base / "out"
    fold = richest_fold(trained)
    names = {f"{recipe}-seed0-budget{budget}-fold{fold}" for recipe in ("slow", "fast") for budget in ("1", "0.5")}
    assert {path.stem for path in (out / "scores").glob("*.json")} == names
    ranked = {(view.row.view == view.row.sequences) == (view.candidates is not None) for view in views_of(out)}
    assert ranked == {True}, "candidates are kept of what is predicted from all sequences"
    table = read_tsv(out / "tables" / "paradigms.tsv")
    assert [row["recipe"] for row in table] == ["slow", "fast"]
    validation = read_json(trained.raw / "splits_final.json")[fold]["val"]
    assert table[0]["scans"] == str(len(validation))
    assert 0 <= float(table[0]["auc"]) <= 1
    labelled = {
        row["budget"]: row["labelled_subjects"] for row in read_tsv(out / "tables" / "annotation_efficiency.tsv")
    }
    assert int(labelled["0.5"]) < int(labelled["1"])
    cells = read_tsv(out / "tables" / "cells.tsv")
    assert {(row["state"], row["steps"], row["encoder"]) for row in cells} == {("finished", "2", "random")}
    assert {row["dropped"] for row in read_tsv(out / "tables" / "dropping.tsv")} == {"swi", "gre_mag"}
    page = (out / "comparison.md").read_text()
    assert f"Fold {fold} of 0 to 4, the same for all." in page
    assert not (out / "running").exists()


def test_without_single_sequences_every_scan_is_predicted_once(compared, tmp_path):
    fold, base = compared
    out = tmp_path / "once"
    where = fold[: fold.index("-o")]
    again = ["-r", str(base / "slow.yaml"), "-f", fold[fold.index("-f") + 1], "--no-single-sequences"]
    assert compare.main([*where, "-o", str(out), *again]) == 0
    assert {view.row.view == view.row.sequences for view in views_of(out)} == {True}
    assert read_tsv(out / "tables" / "paradigms.tsv")[0]["recipe"] == "slow"
    assert not (out / "tables" / "per_sequence.tsv").exists()


def test_a_second_call_trains_nothing_and_a_wider_one_only_what_is_missing(compared, capsys):
    fold, base = compared
    out = base / "out"
    before = times(out)
    assert compare.main([*fold, "--budgets", "1", "0.5"]) == 0
    assert times(out) == before
    assert "4 cells: 4 finished, 0 to train and judge" in capsys.readouterr().err
    assert compare.main(["-o", str(out), "--tables-only", "--reference", "fast"]) == 0
    assert times(out) == before
    assert read_tsv(out / "tables" / "differences.tsv")[0]["recipe"] == "slow"
    # A seed more: what was there stays, and the tables speak of both calls.
    first = [*fold[: fold.index("-r") + 2], *fold[fold.index("-r") + 3 :]]
    assert compare.main([*first, "--seeds", "1"]) == 0
    assert before.items() <= times(out).items()
    assert len(times(out)) == len(before) + 3
    rows = read_tsv(out / "tables" / "cells.tsv")
    assert [(row["recipe"], row["budget"], row["seed"]) for row in rows][:3] == [
        ("slow", "1", "0"),
        ("slow", "1", "1"),
        ("slow", "0.5", "0"),
    ]


def test_the_matrix_feeds_a_sequence_in_anothers_place(compared):
    fold, base = compared
    slow = [
        *fold[: fold.index("-r") + 2],
        *fold[fold.index("-f") : fold.index("-f") + 2],
        "-o",
        str(base / "matrix"),
        "--cross-sequence",
    ]
    assert compare.main(slow) == 0
    rows = read_tsv(base / "matrix" / "tables" / "cross_sequence.tsv")
    pairs = [(row["trained_on"], row["tested_on"]) for row in rows]
    assert pairs == [("swi", "swi"), ("swi", "gre_mag"), ("gre_mag", "swi"), ("gre_mag", "gre_mag")]
    assert len({row["auc"] for row in rows}) > 1


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (["-r", "slow", "slow"], "-r: found slow twice"),
        (["-r", "nonsense"], "-r nonsense: no such recipe"),
        (["--seeds", "1", "1"], "--seeds: found 1 twice"),
        (["--budgets", "0"], "--budgets: found 0, legal are shares over 0"),
        (["--budgets", "2"], "--budgets: found 2, legal are shares over 0"),
        (["--budgets", "0.5", "0.5"], "--budgets: found 0.5 twice"),
        (["-f", "7"], "-f: found 7, but Dataset501_Elsewhere has 5 folds"),
        (["--reference", "other"], "--reference other: not among the recipes; choose slow"),
        (["--epochs", "3"], "recipe slow was compared there with other settings (2 steps, now 6)"),
        (["-d", "7"], "-d 7: no such dataset"),
        (["--tables-only"], "-d: has no meaning with --tables-only"),
        (["--budgets", "0.3333333", "0.33333331"], "--budgets: found 0.333333 (to six digits, which name the cells)"),
        (["--budgets", "0.50000001"], "--budgets: found 0.50000001, whose cells are called like those of 0.5"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_written(compared, capsys, change, found):
    fold, base = compared
    before = {path: path.stat().st_mtime_ns for path in base.rglob("*")}
    change = [str(base / "slow.yaml") if word == "slow" and change[0] == "-r" else word for word in change]
    assert compare.main([*fold[: fold.index("-r") + 2], *fold[fold.index("-f") :], *change]) == 2
    shown = capsys.readouterr().err.strip()
    assert found in shown
    assert "\n" not in shown
    assert before == {path: path.stat().st_mtime_ns for path in base.rglob("*")}


def test_tables_only_refuses_folds_that_the_dataset_has_not(compared, capsys):
    _, base = compared
    assert compare.main(["-o", str(base / "out"), "--tables-only", "-f", "7"]) == 2
    assert "-f: found 7, but Dataset501_Elsewhere has 5 folds; name some of 0 to 4, or all" in capsys.readouterr().err


@pytest.mark.parametrize(
    "given",
    [
        ["--epochs", "3"],
        ["--steps-per-epoch", "3"],
        ["--subsets"],
        ["--cross-sequence"],
        ["-p", "s0"],
        ["--no-single-sequences"],
    ],
)
def test_tables_only_takes_no_settings_of_training(compared, capsys, given):
    _, base = compared
    assert compare.main(["-o", str(base / "out"), "--tables-only", *given]) == 2
    assert "has no meaning with --tables-only" in capsys.readouterr().err


def test_a_recipe_that_never_came_to_a_checkpoint_is_not_bound(compared, monkeypatch):
    """A first call that stops before its first checkpoint; another schedule follows, then both bind."""
    fold, base = compared
    out = base / "unbegun"
    slow = [*fold[: fold.index("-r") + 2], "-f", fold[fold.index("-f") + 1], "-o", str(out)]

    def stop(*_):
        raise InputError("stopped")

    with monkeypatch.context() as broken:
        broken.setattr(comparison_cell, "train_fold", stop)
        assert compare.main([*slow, "--epochs", "7"]) == 2
    model = next(iter((base / "out" / "models").rglob("plans.json")))
    left = out / "models" / model.parents[1].name / model.parent.name / "plans.json"
    left.parent.mkdir(parents=True)
    plans = model.read_text()
    left.write_text(plans.replace('"epochs": 1', '"epochs": 7'))
    assert compare.main(slow) == 0
    assert read_json(out / "comparison.json")["steps"] == {"slow": 2}
    assert compare.main([*slow, "--epochs", "7"]) == 2


def test_a_fold_without_a_case_of_a_sequence_is_left_out_of_the_matrix_and_told(trained, capsys):
    folders = Workspace(trained.workspace).dataset("501")
    raw = read_raw_dataset(folders)
    few = {case.name for case in raw.cases if Role.GRE_MAG not in case.sequences}
    assert few
    everyone = [case.name for case in raw.cases if case.labelled]
    folds = [{"train": everyone, "val": sorted(few)}, {"train": everyone, "val": everyone}]
    cells = grid_of_cells(["slow"], [0], [1.0], [0, 1], [Role.SWI, Role.GRE_MAG])
    kept = comparison_matrix.that_have_cases(cells, raw, folds)
    assert [cell.name for cell in cells if cell not in kept] == ["slow-seed0-budget1-gre_mag-fold0"]
    assert "fold 0 has no validation case with gre_mag" in capsys.readouterr().err


@pytest.fixture
def matrix_of(compared, trained, monkeypatch):
    """Runs the matrix of a semi-supervised recipe with unlabelled cases that have given sequences, but trains nothing.

    Gives the exit code, and the unlabelled cases of every cell by the sequences that it is trained on.
    """
    _, base = compared
    recipe = base / "semi.yaml"
    recipe.write_text(TINY.format(name="semi", rate=1e-3) + "semi_supervised: {method: fixmatch, confidence: 0.5}\n")
    raw = read_raw_dataset(Workspace(trained.workspace).dataset("501"))
    (known,) = (case for case in raw.cases if not case.labelled)
    folds = read_json(trained.raw / "splits_final.json")
    where = ["-d", "501", "--workspace", str(trained.workspace), "-device", "cpu", "-o", str(base / "semi")]
    asked = [*where, "-r", str(recipe), "-f", str(richest_fold(trained)), "--cross-sequence"]

    def run(*sequences):
        learned = {}

        def note(jobs, run):
            for job in jobs:
                cases = fold_cases(run.raw, run.plan, folds, job.cell.fold, job.recipe, 1.0, 0)
                learned[job.recipe.sequences] = [case.name for case in cases.unlabelled]

        cases = [replace(known, name=f"q{n}_1", subject=f"q{n}", sequences=has) for n, has in enumerate(sequences)]
        changed = replace(raw, cases=(*(case for case in raw.cases if case.labelled), *cases))
        monkeypatch.setattr(comparing, "read_raw_dataset", lambda _: changed)
        monkeypatch.setattr(comparing, "refuse_stale_plan", lambda *_: None)
        monkeypatch.setattr(comparing, "_run_missing", note)
        return compare.main(asked), learned

    yield run
    shutil.rmtree(base / "semi", ignore_errors=True)


def test_unlabelled_cases_without_a_sequence_of_the_matrix_are_left_out_and_counted(matrix_of, capsys):
    code, learned = matrix_of((Role.SWI, Role.GRE_MAG), (Role.SWI,), (Role.SWI,))
    assert code == 0
    everyone = ["q0_1", "q1_1", "q2_1"]
    assert learned == {None: everyone, (Role.SWI,): everyone, (Role.GRE_MAG,): ["q0_1"]}
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "--cross-sequence" in line]
    assert "2 of 3 unlabelled cases have no gre_mag and are left out where semi is trained on gre_mag alone" in line


def test_a_sequence_that_no_unlabelled_case_has_is_refused_before_anything_is_trained(matrix_of, compared, capsys):
    code, learned = matrix_of((Role.SWI,), (Role.SWI,))
    assert (code, learned) == (2, {})
    (line,) = [line for line in capsys.readouterr().err.splitlines() if ": error: " in line]
    assert "recipe semi: learns from unlabelled cases, and none of the 2 that fold" in line
    assert "has gre_mag, which it is to be trained on; add unlabelled cases that have it" in line
    assert not (compared[1] / "semi").exists()


def test_an_encoder_that_is_missing_stops_all_cells(compared, capsys):
    fold, base = compared
    recipe = base / "needs.yaml"
    recipe.write_text(TINY.format(name="needs", rate=1e-3) + "transfer: {encoder: ssl_barlow_twins}\n")
    before = {path: path.stat().st_mtime_ns for path in base.rglob("*")}
    assert compare.main([*fold[: fold.index("-r") + 2], str(recipe), "--seeds", "9"]) == 2
    assert "run cmb_pretrain -d 501" in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in base.rglob("*")}


@pytest.fixture
def pretrained(compared, trained):
    """Writes an encoder of given features that has seen given subjects; the arguments of a recipe that takes it."""
    fold, base = compared
    recipe = base / "starts.yaml"
    recipe.write_text(TINY.format(name="starts", rate=1e-3) + "transfer: {encoder: for_comparison}\n")
    path = Workspace(trained.workspace).encoder("for_comparison")
    plan = Plan.read(trained.workspace / "preprocessed" / "Dataset501_Elsewhere" / "adaptive_plan.json")

    def write(features, subjects, seed=0):
        topology = plan.topology.with_features(features)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder = ResidualEncoder(len(plan.channels), **topology.model_dump())
        record = Encoder(
            name="for_comparison",
            method="barlow_twins",
            datasets=(plan.dataset,),
            fold=None,
            seed=0,
            steps=1,
            channels=plan.channels,
            topology=topology,
            patch_shape=plan.patch_shape,
            subjects=subjects,
            n_cases=1,
            weights="",
            parents=("sha256:0", "sha256:1"),
            identity="sha256:made alike",
        )
        write_encoder(path, encoder.state_dict(), record)
        return [*fold[: fold.index("-r") + 1], str(recipe), *fold[fold.index("-f") : fold.index("-f") + 2]]

    yield write
    shutil.rmtree(path.parent)


def test_encoders_are_looked_at_before_the_first_cell(compared, pretrained, trained, capsys):
    _, base = compared
    before = times(base / "out")
    assert compare.main(pretrained((2, 4), ())) == 2
    assert "fits 0 of the encoder's" in capsys.readouterr().err
    held_out = read_json(trained.raw / "splits_final.json")[richest_fold(trained)]["val"][0]
    assert compare.main(pretrained((4, 8), (f"Elsewhere/{held_out.partition('_')[0]}",))) == 2
    assert f"and so from Elsewhere/{held_out.partition('_')[0]}" in capsys.readouterr().err
    assert times(base / "out") == before


def test_an_encoder_of_one_fold_and_one_for_all_are_not_compared_as_one_recipe(compared, pretrained, trained, capsys):
    _, base = compared
    before = times(base / "out")
    asked = pretrained((4, 8), ())
    workspace = Workspace(trained.workspace)
    for_all, of_fold = (workspace.encoder("for_comparison", fold) for fold in (None, richest_fold(trained)))
    state, record = read_encoder(for_all)
    write_encoder(of_fold, state, record.model_copy(update={"fold": richest_fold(trained)}))
    assert compare.main([*asked[: asked.index("-f") + 1], "all", *asked[asked.index("-f") + 2 :]]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if ": error: " in line]
    assert str(of_fold) in line
    assert str(for_all) in line
    assert "which have seen training subjects in one fold and unlabelled cases alone in the other" in line
    assert times(base / "out") == before


def test_an_encoder_is_trained_on_and_named(compared, pretrained, capsys):
    _, base = compared
    assert compare.main([*pretrained((4, 8), ()), "-o", str(base / "pretrained")]) == 0
    (row,) = read_tsv(base / "pretrained" / "tables" / "cells.tsv")
    assert row["encoder"].startswith("for_comparison (")
    assert compare.main([*pretrained((4, 8), (), seed=1), "-o", str(base / "pretrained")]) == 2
    assert "made with another encoder than now" in capsys.readouterr().err


def test_a_model_that_is_not_the_cells_is_not_judged(compared, pretrained, trained, capsys):
    _, base = compared
    out = base / "judged"
    asked = [*pretrained((4, 8), ()), "-o", str(out)]
    assert compare.main(asked) == 0
    (record_path,) = (out / "models").rglob("fold.json")
    record = read_json(record_path)
    model = record_path.parents[1]
    shutil.rmtree(out / "scores")
    held_out = f"Elsewhere/{record['validation_cases'][0].partition('_')[0]}"
    for change, found in (
        ({"training_cases": record["training_cases"][1:]}, "trained with another set of training cases than now"),
        ({"unlabelled_cases": ["p9_1"]}, "trained with another set of training cases than now"),
        ({"budget": 0.5}, "trained with another budget than now"),
        ({"training_subjects": [held_out]}, f"has learned from {held_out}, on whom it would be judged"),
        ({"encoder": None}, "is finished and began with random weights"),
    ):
        write_json(record_path, record | change)
        capsys.readouterr()
        assert compare.main(asked) == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if ": error: " in line]
        assert found in line
        assert f"move {model} away" in line
        assert not (out / "scores").exists()
    write_json(record_path, record)
    pretrained((4, 8), (), seed=1)
    assert compare.main(asked) == 2
    said = capsys.readouterr().err
    assert "is finished and began with encoder for_comparison" in said
    assert f"move {model} away" in said
    assert not (out / "scores").exists()
    pretrained((4, 8), ())
    assert compare.main(asked) == 0


def test_damaged_or_changed_scores_are_refused(compared, capsys):
    fold, base = compared
    path = base / "out" / "scores" / f"slow-seed0-budget1-fold{fold[fold.index('-f') + 1]}.json"
    content = path.read_text()
    for harmed, found in (
        (content[:50], f"delete {path.name} and {path.stem}.npz"),
        (content.replace('"encoder": "random"', '"encoder": "sha256:0"'), "made with another encoder than now"),
    ):
        assert harmed != content
        path.write_text(harmed)
        try:
            assert compare.main([*fold, "--budgets", "1", "0.5"]) == 2
            assert found in capsys.readouterr().err
        finally:
            path.write_text(content)


def test_a_folder_of_another_dataset_is_refused(compared, capsys):
    fold, base = compared
    path = base / "out" / "comparison.json"
    content = path.read_text()
    path.write_text(content.replace("Dataset501_Elsewhere", "Dataset502_Else"))
    try:
        assert compare.main(fold) == 2
        assert "holds a comparison on Dataset502_Else, not on Dataset501_Elsewhere" in capsys.readouterr().err
    finally:
        path.write_text(content)


def test_a_cell_that_another_run_works_on_is_left_to_it(compared, capsys):
    fold, base = compared
    name = f"slow-seed5-budget1-fold{fold[fold.index('-f') + 1]}"
    running = base / "out" / "running" / name
    running.mkdir(parents=True)
    (running / LOCK_NAME).write_text("cmb_compare, process 1")
    slow = [*fold[: fold.index("-r") + 2], *fold[fold.index("-f") :], "--seeds", "5"]
    lock = FileLock(running / LOCK_NAME)
    with lock:
        assert compare.main(slow) == 0
    assert f"{name}: left to another run (cmb_compare, process 1)" in capsys.readouterr().err
    states = {(row["recipe"], row["seed"]): row["state"] for row in read_tsv(base / "out" / "tables" / "cells.tsv")}
    assert states["slow", "5"] == "not run yet"
    assert read_tsv(base / "out" / "tables" / "paradigms.tsv")[0]["state"].startswith("not run yet (")
    (running / LOCK_NAME).unlink()
    assert compare.main(slow) == 0
    assert not running.parent.exists(), "what was there before is cleared, too"


def test_a_dataset_without_labels_is_refused(trained, tmp_path, capsys):
    workspace = tmp_path / "ws"
    raw = workspace / "raw" / "Dataset501_Elsewhere"
    shutil.copytree(trained.raw, raw)
    rows = read_tsv(raw / "cases.tsv")
    (raw / "imagesTr").rename(raw / "old")
    (raw / "imagesUn").mkdir(exist_ok=True)
    for image in (raw / "old").iterdir():
        image.rename(raw / "imagesUn" / image.name)
    write_tsv(raw / "cases.tsv", list(rows[0]), [{**row, "labelled": "0"} for row in rows])
    arguments = ["-d", "501", "--workspace", str(workspace), "-r", "supervised", "-o", str(tmp_path / "out")]
    assert compare.main([*arguments, "-device", "cpu"]) == 2
    assert "has no labelled training case" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
