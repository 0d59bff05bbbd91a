"""What an evaluation with validation cases and other systems refuses, and what it tells of cases that fail."""

import json
import shutil

import numpy as np
import pytest

from cmb_autoseg.cli.evaluate import main
from cmb_autoseg.files import read_tsv, write_json, write_text
from cmb_autoseg.geometry import write_volume

NAMES = [f"sub-{n:02d}_ses-1" for n in range(4)]


@pytest.fixture
def study(tmp_path, phantom):
    """Four people with a lesion each in the test, two others for validation; predictions are right."""

    def write(folder, name, place, value=1.0):
        volume = phantom(np.s_[place : place + 2, 5:7, 5:7], value=value)
        write_volume(tmp_path / folder / f"{name}.nii.gz", volume, np.float32)

    for n, name in enumerate(NAMES):
        for folder in ("masks", "ours", "theirs"):
            write(folder, name, 2 * n + 1)
    for n, name in enumerate(("val-0", "val-1")):
        write("val_masks", name, 12 + n)
        write("val", f"{name}_prob", 12 + n, 0.6)
    return tmp_path


def evaluate(study, *more):
    paths = ["-p", str(study / "ours"), "--reference", str(study / "masks"), "-o", str(study / "out")]
    return main([*paths, "--resamples", "0", *more])


def choosing(study):
    return ["--threshold", "best-f1", "--validation", str(study / "val"), str(study / "val_masks")]


def metrics_of(study):
    return json.loads((study / "out" / "metrics.json").read_text())


@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_a_validation_case_that_cannot_be_scored_is_refused(study, capsys, damage):
    for name in ("val-0", "val-1")[: 1 + (damage == "damaged")]:
        path = study / "val" / f"{name}_prob.nii.gz"
        path.unlink() if damage == "missing" else path.write_bytes(b"damaged")

    assert evaluate(study, *choosing(study)) == 2

    told = capsys.readouterr().err
    line = told.splitlines()[-1]
    how_many = " (2 such cases in all)" if damage == "damaged" else ""
    assert f"--validation: val-0 cannot be scored{how_many}: " in line
    assert line.endswith("mend it or remove it from the validation folder")
    assert ("Scoring" in told) == (damage == "damaged")
    assert not (study / "out").exists()


def test_warnings_of_validation_are_in_the_report(study):
    shutil.copy(study / "val" / "val-0_prob.nii.gz", study / "val" / "more_prob.nii.gz")

    assert evaluate(study, *choosing(study)) == 0

    assert any(
        told.startswith("validation: more: predicted, but without reference") for told in metrics_of(study)["warnings"]
    )


def test_another_visit_of_a_test_person_is_refused_though_the_table_knows_but_one(study, capsys):
    for folder, ending in (("val", "_prob"), ("val_masks", "")):
        (study / folder / f"val-0{ending}.nii.gz").rename(study / folder / f"sub-02_ses-2{ending}.nii.gz")
    rows = "".join(f"{name}\t{name[:6]}\tA\n" for name in (NAMES[0], NAMES[2]))
    write_text(study / "cases.tsv", f"case\tsubject\tcohort\n{rows}val-1\tv\tA\n")

    assert evaluate(study, *choosing(study), "--cases", str(study / "cases.tsv")) == 2
    assert "subjects A/sub-02 are in the test, too" in capsys.readouterr().err

    rows = f"{NAMES[0]}\tsub-00\tA\nsub-02_ses-2\tsub-02\tA\nsub-02_ses-3\tsub-02\tB\n"
    write_text(study / "cases.tsv", f"case\tsubject\tcohort\n{rows}")
    assert evaluate(study, *choosing(study), "--cases", str(study / "cases.tsv")) == 2
    assert (
        "sub-02_ses-2 (subject A/sub-02) is by its name of the same person as sub-02_ses-1" in capsys.readouterr().err
    )


def test_failures_of_another_system_are_told_and_are_none_of_ours(study, capsys):
    (study / "theirs" / f"{NAMES[1]}.nii.gz").unlink()
    (study / "theirs" / f"{NAMES[3]}.nii.gz").write_bytes(b"damaged")

    assert evaluate(study, "--against", f"theirs={study / 'theirs'}") == 1

    metrics = metrics_of(study)
    assert (metrics["n_cases"], metrics["n_failed_cases"]) == (4, 0)
    first, second = read_tsv(study / "out" / "failures.tsv")
    assert (first["case"], second["case"]) == (NAMES[1], NAMES[3])
    assert first["reason"].startswith(f"theirs: {NAMES[1]}: no prediction in")
    assert second["reason"].startswith("theirs: ")
    told = [text for text in metrics["warnings"] if text.startswith("theirs: ")]
    assert [text.split(" could not be scored: ")[0] for text in told] == [f"theirs: {NAMES[1]}", f"theirs: {NAMES[3]}"]
    assert all(text in (study / "out" / "report.html").read_text() for text in told[:1])
    assert "failed cases" not in capsys.readouterr().out


def test_a_reference_that_fails_is_told_once(study):
    (study / "masks" / f"{NAMES[1]}.nii.gz").write_bytes(b"damaged")

    assert evaluate(study, "--against", f"theirs={study / 'theirs'}") == 1

    assert metrics_of(study)["n_failed_cases"] == 1
    (row,) = read_tsv(study / "out" / "failures.tsv")
    assert row["case"] == NAMES[1]


def test_only_the_first_failures_of_another_system_are_warnings(study, monkeypatch):
    monkeypatch.setattr("cmb_autoseg.evaluation.run.MOST_TOLD", 1)
    for name in NAMES[1:]:
        (study / "theirs" / f"{name}.nii.gz").unlink()

    assert evaluate(study, "--against", f"theirs={study / 'theirs'}") == 1

    told = [text for text in metrics_of(study)["warnings"] if text.startswith("theirs: ")]
    assert told[1:] == ["theirs: 2 more cases could not be scored; see failures.tsv"]
    assert len(read_tsv(study / "out" / "failures.tsv")) == 3


def test_doubts_about_the_training_are_in_the_report(study):
    write_json(study / "ours" / "run.json", {"model": {"folder": str(study / "gone"), "folds": [0], "digest": "x"}})

    assert evaluate(study) == 0

    (told,) = (text for text in metrics_of(study)["warnings"] if "leakage could not be checked" in text)
    assert "fold.json is gone" in told


def test_people_of_the_training_are_refused_without_a_table(study, capsys):
    write_json(study / "model" / "fold_0" / "fold.json", {"training_subjects": ["A/sub-03"]})
    write_json(study / "ours" / "run.json", {"model": {"folder": str(study / "model"), "folds": [0], "digest": "x"}})

    assert evaluate(study) == 2
    assert "has learned from sub-03" in capsys.readouterr().err


def test_a_table_of_seconds_of_other_cases_is_refused(study, capsys):
    write_text(study / "seconds.tsv", "case\tseconds\nx\t1\n")

    assert evaluate(study, "--seconds", str(study / "seconds.tsv")) == 2
    assert "has no seconds of any case" in capsys.readouterr().err
