"""File names that are no plain words, and files of a workspace that somebody edited or damaged."""

import json
import os
import shutil
import sys

import nibabel as nib
import numpy as np
import pytest

from cmb_autoseg.cli import cohort, convert, finalize, plan_preprocess, predict, train
from cmb_autoseg.errors import InputError
from cmb_autoseg.files import read_tsv
from cmb_autoseg.inference.patches import PatchEnsemble
from cmb_autoseg.records import Plan

FORMULA = "a$b_^$c"
NO_TEXT = os.fsdecode(b"a\xe9")


def a_scan(trained):
    return trained.cohort / "centreA" / "p2" / "visit1" / "scans" / "p2-susc.nii.gz"


def run_predict(trained, out, source):
    return predict.main(["-i", str(source), "-o", str(out), "-m", str(trained.model), "-device", "cpu", "-f", "0"])


def error_line(capsys):
    lines = [line for line in capsys.readouterr().err.splitlines() if ": error: " in line]
    assert len(lines) == 1
    return lines[0]


@pytest.fixture
def scans(trained, tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in (FORMULA, "plain", NO_TEXT):
        try:
            shutil.copy(a_scan(trained), folder / f"{name}.nii.gz")
        except OSError:
            pytest.skip("this file system takes only UTF-8 names")
    return folder


def test_a_formula_in_a_name_is_drawn_as_it_is_and_a_name_that_is_no_text_costs_its_case_only(trained, scans, tmp_path):
    assert run_predict(trained, tmp_path / "out", scans) == 1
    (failure,) = read_tsv(tmp_path / "out" / "failures.tsv")
    assert failure["case"] == r"a\xe9"
    assert r"a\xe9.nii.gz: its name holds bytes that are no UTF-8 text; rename the file" in failure["reason"]
    pictures = {name: (tmp_path / "out" / f"{name}_overlay.png").read_bytes() for name in (FORMULA, "plain")}
    assert pictures[FORMULA] != pictures["plain"]


def test_a_single_scan_whose_name_is_no_text_is_refused(trained, scans, tmp_path, capsys):
    assert run_predict(trained, tmp_path / "out", scans / f"{NO_TEXT}.nii.gz") == 2
    assert r"a\xe9.nii.gz: its name holds bytes" in error_line(capsys)
    assert not (tmp_path / "out").exists()


def test_an_output_folder_whose_name_is_no_text_is_written_and_told(trained, tmp_path, capfd, monkeypatch):
    out = tmp_path / os.fsdecode(b"o_\xff")
    monkeypatch.setattr(sys, "stdout", os.fdopen(os.dup(1), "w", encoding="utf-8", errors="strict"))
    assert run_predict(trained, out, a_scan(trained)) == 0
    assert r"o_\udcff" in capfd.readouterr().out
    assert (out / "p2-susc.json").is_file()
    assert list((out / "logs").glob("*.log"))


def test_a_converted_case_whose_file_name_is_no_text_is_left_out(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for name in ("s0", "s1", NO_TEXT):
        folder = tmp_path / "cohort" / name
        try:
            folder.mkdir(parents=True)
        except OSError:
            pytest.skip("this file system takes only UTF-8 names")
        data = np.pad(rng.uniform(50, 60, (20, 20, 10)), 2).astype(np.float32)
        nib.save(nib.Nifti1Image(data, np.eye(4)), folder / "swi.nii.gz")
    shutil.copy(folder / "swi.nii.gz", folder / "other.nii.gz")
    card = tmp_path / "cohort" / "card.yaml"
    card.write_text(
        'schema: 1\nname: Small\nroot: .\nimages: {s: {role: swi, path: "{sub}/swi.nii.gz"}}\n'
        "prep: {brain: already_masked}\n"
    )
    assert convert.main([str(card), "-d", "501", "--workspace", str(tmp_path / "w")]) == 1
    (left_out,) = read_tsv(tmp_path / "w" / "raw" / "Dataset501_Small" / "exclusions.tsv")
    assert left_out["subject"] == r"a\xe9"
    assert r"a\xe9/swi.nii.gz: its name holds bytes that are no UTF-8 text; rename it" in left_out["reason"]
    assert cohort.main(["check", str(card)]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert cohort.main(["init", str(folder), "-o", str(tmp_path / "draft.yaml")]) == 2
    assert r"a\xe9: names in it hold bytes that are no UTF-8 text; rename them" in error_line(capsys)


@pytest.mark.parametrize("error", [ValueError("odd content"), KeyError("odd"), ZeroDivisionError("odd")])
def test_what_nobody_foresaw_costs_its_case_only(trained, scans, tmp_path, capsys, monkeypatch, error):
    predict, calls = PatchEnsemble.predict, []

    def fail_once(self, volumes):
        calls.append(volumes)
        if len(calls) == 1:
            raise error
        return predict(self, volumes)

    (scans / f"{NO_TEXT}.nii.gz").unlink()
    monkeypatch.setattr(PatchEnsemble, "predict", fail_once)
    assert run_predict(trained, tmp_path / "out", scans) == 1
    (failure,) = read_tsv(tmp_path / "out" / "failures.tsv")
    assert failure["case"] == FORMULA
    assert failure["reason"].startswith(f"{type(error).__name__}: ")
    (log,) = (tmp_path / "out" / "logs").glob("*.log")
    assert "in fail_once" in log.read_text()
    calls.clear()
    assert run_predict(trained, tmp_path / "alone", scans / "plain.nii.gz") == 2
    assert f"plain: {type(error).__name__}: " in error_line(capsys)


# A workspace that was edited or damaged


@pytest.fixture
def workspace(trained, tmp_path):
    return shutil.copytree(trained.workspace, tmp_path / "workspace")


def plans_again(workspace, *more):
    return plan_preprocess.main(["-d", "501", "--workspace", str(workspace), "-device", "cpu", *more])


def trains(trained, workspace):
    where = ["-d", "501", "--workspace", str(workspace), "-device", "cpu"]
    return train.main([*where, "-r", str(trained.recipe), "-f", "0"])


@pytest.mark.parametrize("content", ["{}", "[]"])
def test_an_empty_plans_file_of_a_model_names_its_cure(trained, workspace, capsys, content):
    plans = workspace / trained.model.relative_to(trained.workspace) / "plans.json"
    plans.write_text(content)
    assert trains(trained, workspace) == 2
    assert "plans.json: lacks the key cmb_autoseg.plan" in error_line(capsys)
    assert plans.read_text() == content


def test_a_patch_that_the_network_cannot_halve_is_refused(trained, workspace, capsys):
    path = workspace / "preprocessed" / "Dataset501_Elsewhere" / "adaptive_plan.json"
    plan = json.loads(path.read_text())
    path.write_text(json.dumps({**plan, "patch_shape": [7, 13, 9]}))
    assert trains(trained, workspace) == 2
    line = error_line(capsys)
    assert "adaptive_plan.json: patch_shape has " in line
    assert "as a multiple of" in line
    assert "run cmb_plan_preprocess -d 501 --preset adaptive again" in line
    plan["topology"]["strides"][0] = [0, 1, 1]
    with pytest.raises(InputError, match=r"strides\.0\.0"):
        Plan.parse(plan, "plan")
    plan["topology"]["strides"] = plan["topology"]["strides"][1:]
    with pytest.raises(InputError, match="levels by strides, but features"):
        Plan.parse(plan, "plan")


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_damaged_record_beside_network_inputs_makes_them_anew(trained, workspace, content):
    folder = workspace / "preprocessed" / "Dataset501_Elsewhere"
    record = folder / "adaptive_3d_made_by.json"
    sound = record.read_text()
    inputs = sorted(path.name for path in (folder / "adaptive_3d").iterdir())
    record.write_text(content)
    (folder / "adaptive_3d" / inputs[0]).write_bytes(b"of an unknown plan")
    assert plans_again(workspace) == 0
    assert record.read_text() == sound
    assert sorted(path.name for path in (folder / "adaptive_3d").iterdir()) == inputs
    assert (folder / "adaptive_3d" / inputs[0]).read_bytes() != b"of an unknown plan"


def test_a_damaged_record_beside_out_of_fold_maps_makes_them_anew(trained, workspace):
    record = workspace / trained.model.relative_to(trained.workspace) / "crossvalidation" / "made_by.json"
    sound = json.loads(record.read_text())
    record.write_text("[")
    where = ["-d", "501", "--workspace", str(workspace), "-device", "cpu"]
    assert finalize.main([*where, "-r", "tiny"]) == 0
    assert json.loads(record.read_text()) == sound


def test_folds_that_were_edited_are_not_explained(workspace, capsys):
    path = workspace / "raw" / "Dataset501_Elsewhere" / "splits_final.json"
    folds = json.loads(path.read_text())
    folds[0]["val"].append("nobody")
    path.write_text(json.dumps(folds))
    assert plans_again(workspace, "--explain") == 2
    assert "splits_final.json: fold 0 names nobody" in error_line(capsys)


def test_what_planning_found_is_in_its_log(workspace, capsys):
    logs = workspace / "logs"
    shutil.rmtree(logs)
    assert plans_again(workspace) == 0
    said = capsys.readouterr().out.splitlines()
    (log,) = logs.glob("*.log")
    assert len(said) > 3
    assert all(line in log.read_text() for line in said)
