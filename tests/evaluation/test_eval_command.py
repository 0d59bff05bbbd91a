"""`cmb_evaluate` with everything at once, and what it refuses."""

import json

import numpy as np
import pytest

from cmb_autoseg.cli.evaluate import main
from cmb_autoseg.files import read_tsv, write_json, write_text, write_tsv
from cmb_autoseg.geometry import write_volume

N_CASES = 12
LESIONS = {0: (), 1: (np.s_[3:5, 3:5, 3:5],), 2: (np.s_[3:5, 3:5, 3:5], np.s_[12:15, 12:15, 12])}
"""Every third case has no lesion, the next one, the next two."""


OTHER_LESIONS = {0: (), 1: (np.s_[6:9, 6:9, 6:8],), 2: (np.s_[6:9, 6:9, 6:8], np.s_[14:16, 14:16, 14])}


def write_cases(folder, phantom, found, names, value=0.8, lesions=LESIONS):
    """Masks with probabilities beside them; `found` says which lesions of a case are predicted, None for references."""
    for n, name in enumerate(names):
        boxes = lesions[n % 3]
        if found is None:
            write_volume(folder / f"{name}.nii.gz", phantom(*boxes), np.uint8)
            continue
        chosen = [*found(n, boxes)]
        write_volume(folder / f"{name}_mask.nii.gz", phantom(*chosen), np.uint8)
        write_volume(folder / f"{name}_prob.nii.gz", phantom(*chosen, value=value), np.float32)


@pytest.fixture
def study(tmp_path, phantom):
    """12 scans of 6 people; ours finds every first lesion and makes one false positive, theirs finds all."""
    names = [f"sub-{n // 2:02d}_ses-{n % 2}" for n in range(N_CASES)]
    write_cases(tmp_path / "masks", phantom, None, names)
    write_cases(tmp_path / "ours", phantom, lambda n, boxes: boxes[:1] + ((np.s_[18, 2, 2],) if n == 0 else ()), names)
    write_cases(tmp_path / "theirs", phantom, lambda n, boxes: boxes, names, value=0.9)
    for name in names:
        write_volume(tmp_path / "regions" / f"{name}.nii.gz", phantom(np.s_[:10], value=1), np.uint8)
        write_volume(tmp_path / "scans" / f"{name}_0000.nii.gz", phantom(np.s_[2:18, 2:18, 2:18], value=90), np.float32)
    rows = [
        {"case": name, "subject": f"s{n // 2}", "cohort": "C", "scanner": "AB"[n % 2], "age": 50 + n}
        for n, name in enumerate(names)
    ]
    write_tsv(tmp_path / "cases.tsv", ("case", "subject", "cohort", "scanner", "age"), rows)
    verdicts = [
        f"{names[1]}\t{lesion}\t{rater}\t{'missed' if lesion == 2 and rater == 'b' else 'correct'}\n"
        for lesion in (1, 2)
        for rater in "ab"
    ]
    write_text(tmp_path / "verdicts.tsv", "case\tlesion\trater\tverdict\n" + "".join(verdicts))
    write_text(tmp_path / "seconds.tsv", "case\tseconds\n" + "".join(f"{name}\t2.5\n" for name in names))
    return tmp_path


def evaluate(study, *more, out="out", pred="ours"):
    paths = ["-p", str(study / pred), "--reference", str(study / "masks"), "-o", str(study / out)]
    return main([*paths, "--resamples", "50", *more])


def test_everything_at_once(study, capsys):
    given = {"cases": "cases.tsv", "regions": "regions", "seconds": "seconds.tsv", "images": "scans"}
    options = [part for flag, name in given.items() for part in (f"--{flag}", str(study / name))]
    options += ["--subgroups", "scanner", "age:55", "--against", f"theirs={study / 'theirs'}"]

    assert evaluate(study, *options, "--verdicts", str(study / "verdicts.tsv")) == 0

    out = study / "out"
    metrics = json.loads((out / "metrics.json").read_text())
    assert (metrics["n_cases"], metrics["n_subjects"], metrics["n_lesions"]) == (12, 6, 12)
    # 8 of 12 lesions, 8 right of 9; one false positive in 12 scans, 4 of them free of lesions.
    lesion = {name: metrics["lesion"][name]["value"] for name in ("sensitivity", "precision", "fp_per_scan")}
    assert lesion == {"sensitivity": 8 / 12, "precision": 8 / 9, "fp_per_scan": 1 / 12}
    assert metrics["lesion"]["sensitivity"]["ci"] is not None
    assert metrics["patient"]["counts"]["any"] == {
        "true_positives": 8,
        "false_positives": 1,
        "false_negatives": 0,
        "true_negatives": 3,
    }
    assert list(metrics["protocols"]) == ["valdo", "overlap", "overlap40", "points", "iou"]
    by = {(group["by"], group["name"]): group for group in metrics["subgroups"]}
    assert by["scanner", "A"]["cases"] == 6
    assert by["age", "below 55"]["cases"] == 5
    assert "fewer than" in by["age", "below 55"]["warning"]
    strata = {(group["by"], group["name"]): group for group in metrics["strata"]}
    assert strata["region", "lobar"]["lesion.sensitivity"]["value"] == 1.0
    assert strata["region", "unknown"]["lesion.sensitivity"]["value"] == 0.0
    assert list(metrics["systems"]) == ["this system", "theirs"]
    (row,) = [row for row in metrics["differences"] if row["figure"] == "lesion.sensitivity"]
    assert (row["system"], row["value"], row["against_value"]) == ("theirs", 1.0, 8 / 12)
    assert metrics["reader_study"]["n_findings"] == 2
    rows = read_tsv(out / "per_case.tsv")
    assert (rows[0]["subject"], rows[0]["seconds"]) == ("C/s0", "2.5")
    for name in ("main", "protocols", "subgroups", "systems", "system_differences", "delong", "reader_verdicts"):
        for ending in ("tsv", "md", "tex", "json"):
            assert (out / "tables" / f"{name}.{ending}").is_file(), name
    for name in ("froc", "patient_roc", "bland_altman", "reliability", "subgroups", "systems_froc"):
        assert (out / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG"), name
    page = (out / "report.html").read_text()
    assert "TRIPOD" in page
    assert "http" not in page.replace("http-equiv", "")
    shown = capsys.readouterr().out
    assert "cases                                 12 of 6 subjects (4 without lesions)" in shown


def test_other_systems_are_scored_as_they_were_delivered(study):
    assert evaluate(study, "--threshold", "0.85", "--against", f"theirs={study / 'theirs'}", "--name", "ours") == 0

    systems = json.loads((study / "out" / "metrics.json").read_text())["systems"]
    # All our probabilities are below the threshold, which is ours alone.
    assert systems["ours"]["lesion.sensitivity"]["value"] == 0.0
    assert systems["theirs"]["lesion.sensitivity"]["value"] == 1.0


def test_nothing_that_could_be_scored_is_one_line_and_no_report(study, capsys):
    write_text(study / "points.tsv", "case\tx_mm\ty_mm\tz_mm\n" + "sub-00_ses-1\t3\t3\t3\n")

    line = refused(study, capsys, "--protocol", "iou", pred="points.tsv")

    assert "none of the 12 cases could be scored: protocol iou: the prediction is a list of points" in line


def refused(study, capsys, *more, **places):
    assert evaluate(study, *more, **places) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert not (study / places.get("out", "out") / "metrics.json").exists()
    return line


def test_a_threshold_comes_from_validation_data_of_other_people(study, phantom, capsys):
    others = [f"val-{n}" for n in range(6)]
    write_cases(study / "val_masks", phantom, None, others, lesions=OTHER_LESIONS)
    write_cases(study / "val", phantom, lambda n, boxes: boxes, others, value=0.6, lesions=OTHER_LESIONS)
    validation = ["--validation", str(study / "val"), str(study / "val_masks")]

    assert "flatters" in refused(study, capsys, "--threshold", "best-f1")
    same = ["--validation", str(study / "theirs"), str(study / "masks")]
    assert "are the test's own" in refused(study, capsys, "--threshold", "best-f1", *same)
    assert "--threshold RULE" in refused(study, capsys, *validation)
    assert "found 'best'" in refused(study, capsys, "--threshold", "best", *validation)
    swapped = ["--validation", str(study / "val_masks"), str(study / "val")]
    line = refused(study, capsys, "--threshold", "best-f1", *swapped)
    assert "--validation: predictions and references look swapped" in line
    assert evaluate(study, "--threshold", "best-f1", *validation, "--resamples", "0") == 0

    point = json.loads((study / "out" / "metrics.json").read_text())["operating_point"]
    assert point["threshold"] == pytest.approx(0.6)
    assert "6 validation cases" in point["rule"]


def test_people_whom_the_model_has_learned_from_are_refused(study, capsys):
    model = study / "model"
    write_json(model / "fold_0" / "fold.json", {"training_subjects": ["C/s1", "C/s9"]})
    write_json(study / "ours" / "run.json", {"model": {"folder": str(model), "folds": [0], "digest": "x"}})

    line = refused(study, capsys, "--cases", str(study / "cases.tsv"))

    assert "has learned from C/s1" in line
    assert "C/s9" not in line


def test_limits_and_rules_of_lesions_are_told(study):
    options = ["--protocol", "points", "--limit", "2.5", "--connectivity", "6", "--diameter", "2", "10"]

    assert evaluate(study, *options, "--resamples", "0") == 0

    metrics = json.loads((study / "out" / "metrics.json").read_text())
    assert metrics["protocol"] == "points"
    assert "within 2.5 mm" in metrics["definition"]
    assert "6-connected" in metrics["lesion_rule"]
    assert "2 to 10 mm" in metrics["lesion_rule"]
    # The false positive of a single voxel is too small to count.
    assert metrics["lesion"]["fp_per_scan"]["value"] == 0


def test_verdicts_alone(study, capsys):
    assert main(["--verdicts", str(study / "verdicts.tsv"), "-o", str(study / "readers"), "--resamples", "0"]) == 0

    content = json.loads((study / "readers" / "metrics.json").read_text())["reader_study"]
    assert content["raters"] == ["a", "b"]
    shown = capsys.readouterr().out
    assert "correct" in shown
    assert "Fleiss' kappa" in shown


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--subgroups", "vendor"], "no case has this column"),
        (["--against", "theirs"], "expected NAME=PRED"),
        (["--against", "a=nothere.csv"], "--against a nothere.csv: no such file"),
        (["--against", "a=ours/../theirs", "a=theirs"], "the name a stands twice"),
        (["--diameter", "10", "2"], "expected 0 <= LOW < HIGH"),
        (["--limit", "2"], None),
        (["--cases", "nowhere.tsv"], "--cases nowhere.tsv"),
    ],
)
def test_bad_options_are_one_line(study, capsys, monkeypatch, options, expected):
    monkeypatch.chdir(study)
    if expected is None:
        assert "share" in refused(study, capsys, "--protocol", "overlap40", *options)
    else:
        assert expected in refused(study, capsys, *options)


def test_a_missing_side_is_named(tmp_path, capsys):
    assert main(["-p", str(tmp_path), "-o", str(tmp_path / "out")]) == 2
    assert "--reference REF is missing" in capsys.readouterr().err


def test_an_evaluation_that_is_stopped_leaves_no_earlier_report_beside_new_tables(study, monkeypatch):
    assert evaluate(study, "--resamples", "0") == 0

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("cmb_autoseg.evaluation.reporting.report_files.render", stop)
    assert evaluate(study, "--resamples", "0", "--protocol", "iou") not in (0, 1)

    assert not (study / "out" / "metrics.json").exists()
    assert not (study / "out" / "report.html").exists()


@pytest.mark.parametrize(
    ("flag", "name"),
    [("--images", "scans"), ("--regions", "regions"), ("--against", "a=theirs"), ("--cases", "tables/c.tsv")],
)
def test_results_never_go_where_something_is_read(study, capsys, monkeypatch, flag, name):
    monkeypatch.chdir(study)
    write_text(study / "tables" / "c.tsv", "case\n")
    out = name.removeprefix("a=").partition("/")[0]

    assert "choose another folder" in refused(study, capsys, flag, name, out=out)


def test_pictures_that_do_not_fit_are_left_out_with_a_warning(study, phantom, capsys):
    for path in (study / "scans").iterdir():
        write_volume(path, phantom(shape=(5, 5, 5)), np.float32)
    write_text(study / "ours" / "sub-00_ses-1_gradcam.png", "no picture")

    assert evaluate(study, "--images", str(study / "scans"), "--resamples", "0") == 0

    told = capsys.readouterr().err
    assert "on another grid than" in told
    assert "sub-00_ses-1_gradcam.png: not readable as a picture" in told
