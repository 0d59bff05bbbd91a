import json
import os
import subprocess
import sys

import numpy as np
import pytest

from cmb_autoseg.cli.evaluate import main
from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.evaluate import CaseSource, evaluate_cases, evaluate_folder
from cmb_autoseg.evaluation.inputs.naming import find_masks
from cmb_autoseg.evaluation.reporting.report_files import write_report
from cmb_autoseg.evaluation.reporting.rows import CASE_COLUMNS, MATCH_COLUMNS, match_rows
from cmb_autoseg.evaluation.scoring import ScoringSettings
from cmb_autoseg.evaluation.statistics.intervals import Resampling
from cmb_autoseg.files import read_tsv, write_text
from cmb_autoseg.geometry import write_volume

VALDO = ScoringSettings()


@pytest.fixture
def folders(tmp_path, phantom):
    """Two pairs in different spellings; `a` has one hit, one miss and one false positive, `b` is lesion-free."""
    predicted, reference = tmp_path / "predicted", tmp_path / "reference"
    hit, miss, wrong = np.s_[3:5, 3, 3], np.s_[9, 9, 9], np.s_[15, 2, 2]
    write_volume(reference / "a.nii.gz", phantom(hit, miss), np.uint8)
    write_volume(reference / "b_dseg.nii.gz", phantom(), np.uint8)
    write_volume(predicted / "a_mask.nii.gz", phantom(hit, wrong), np.uint8)
    write_volume(predicted / "a_prob.nii.gz", phantom(hit, wrong, value=0.75), np.float32)
    write_volume(predicted / "b_mask.nii.gz", phantom(), np.uint8)
    write_volume(predicted / "b_0000.nii.gz", phantom(value=99), np.float32)
    write_text(predicted / "failures.tsv", "case\treason\n")
    return predicted, reference


def evaluate(folders, out, *more):
    predicted, reference = folders
    return main(["-p", str(predicted), "--reference", str(reference), "-o", str(out), "--resamples", "20", *more])


def test_masks_of_integers_in_memory_are_judged_by_their_own_voxels(phantom):
    hit, wrong = np.s_[3:5, 3, 3], np.s_[15, 2, 2]
    reference, map_ = phantom(hit), phantom(hit, wrong, value=0.75)
    mask = map_.with_data((map_.data >= 0.5).astype(np.uint8))

    case = CaseSource.of_volumes("a", "people/a", lambda: (mask, reference, map_))
    (judged,) = evaluate_cases([case], VALDO).cases

    assert (len(judged.predicted), len(judged.matchings["valdo"].found)) == (2, 1)


def test_command_writes_every_file_and_prints_a_table(folders, tmp_path, capsys):
    out = tmp_path / "out"

    assert evaluate(folders, out) == 0

    metrics = json.loads((out / "metrics.json").read_text())
    assert (metrics["n_cases"], metrics["n_lesions"], metrics["lesion"]["f1"]["value"]) == (2, 2, 0.5)
    first, second = read_tsv(out / "per_case.tsv")
    assert tuple(first) == CASE_COLUMNS
    assert (first["case"], first["hits"], first["misses"], first["false_positives"]) == ("a", "1", "1", "1")
    assert (second["sensitivity"], second["f1"]) == ("n/a", "n/a")
    rows = read_tsv(out / "matches.tsv")
    assert tuple(rows[0]) == MATCH_COLUMNS
    assert [row["kind"] for row in rows] == ["hit", "miss", "false_positive"]
    assert [row["prob_max"] for row in rows] == ["0.75", "n/a", "0.75"]
    assert (rows[0]["x_mm"], rows[0]["distance_mm"], rows[2]["x_mm"]) == ("3.5", "0", "15")
    assert read_tsv(out / "failures.tsv") == []
    assert "<b>valdo</b>" in (out / "report.html").read_text()
    lines = capsys.readouterr().out.splitlines()
    assert "lesion F1                             0.500" in lines
    assert "cases                                 2 (1 without lesions)" in lines


def test_two_runs_write_the_same_bytes(folders, tmp_path):
    for name in ("one", "two"):
        evaluate(folders, tmp_path / name)

    for path in (tmp_path / "one").glob("*.*"):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_a_reference_without_prediction_fails_and_a_prediction_without_reference_warns(
    folders, tmp_path, phantom, capsys
):
    predicted, reference = folders
    write_volume(reference / "c.nii.gz", phantom(), np.uint8)
    write_volume(predicted / "d.nii.gz", phantom(), np.uint8)

    assert evaluate(folders, tmp_path / "out") == 1

    assert read_tsv(tmp_path / "out" / "failures.tsv")[0]["case"] == "c"
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["n_failed_cases"] == 1
    written = capsys.readouterr().err
    assert "failed: c: no prediction in" in written
    assert "warning: d: predicted, but without reference" in written


def test_a_damaged_case_fails_and_the_others_are_scored(folders, phantom):
    predicted, reference = folders
    whole = (predicted / "b_mask.nii.gz").read_bytes()
    (predicted / "b_mask.nii.gz").write_bytes(whole[: len(whole) // 2])
    write_volume(reference / "c.nii.gz", phantom(np.s_[1, 1, 1], value=3), np.uint8)
    write_volume(predicted / "c.nii.gz", phantom(), np.uint8)

    report = evaluate_folder(predicted, reference, VALDO)

    assert [score.case for score in report.cases] == ["a"]
    assert [failure.case for failure in report.failures] == ["b", "c"]
    assert "copy" in report.failures[0].reason
    assert "holds 3, but only 0 and 1" in report.failures[1].reason


def test_a_probability_map_in_place_of_the_mask_is_cut_at_one_half(folders, phantom):
    predicted, reference = folders
    (predicted / "a_prob.nii.gz").unlink()
    write_volume(predicted / "a_mask.nii.gz", phantom(np.s_[3:5, 3, 3], value=0.625), np.float32)

    report = evaluate_folder(predicted, reference, VALDO)

    assert match_rows(report.cases, "valdo")[0]["prob_max"] == 0.625


def test_a_plain_mask_gives_no_probabilities(folders):
    predicted, reference = folders
    (predicted / "a_prob.nii.gz").unlink()

    rows = match_rows(evaluate_folder(predicted, reference, VALDO).cases, "valdo")

    assert all(row.get("prob_max") is None for row in rows)


def test_progress_sees_every_case(folders):
    seen = []

    def watch(cases, doing):
        for case in cases:
            yield case
            seen.append((doing, case.name))

    evaluate_folder(*folders, VALDO, track=watch)

    assert seen[:2] == [("Scoring", "a"), ("Scoring", "b")]


def test_names_are_escaped_in_the_report(tmp_path, phantom):
    for side in ("p", "r"):
        write_volume(tmp_path / side / "<i>&.nii.gz", phantom(np.s_[1, 1, 1]), np.uint8)

    report = evaluate_folder(tmp_path / "p", tmp_path / "r", VALDO, resampling=Resampling(n_resamples=0))
    write_report(report, tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<dt>candidate</dt><dd>A peak of the probability map" in page

    assert "&lt;i&gt;&amp;" in page
    assert "<i>" not in page


def test_two_masks_of_one_case_are_refused(folders, phantom):
    predicted, _ = folders
    write_volume(predicted / "a.nii.gz", phantom(), np.uint8)

    with pytest.raises(InputError, match=r"a\.nii\.gz and a_mask\.nii\.gz are both masks of a; keep one"):
        find_masks(predicted)


def refused(capsys, folders, out, *more):
    assert evaluate(folders, out, *more) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert not out.exists() or out.is_file() or not list(out.glob("metrics.json"))
    return line


def test_bad_folders_are_one_line_with_the_cure(folders, tmp_path, phantom, capsys):
    predicted, reference = folders
    empty, other, out = tmp_path / "empty", tmp_path / "other", tmp_path / "out"
    empty.mkdir()
    write_volume(other / "z_mask.nii.gz", phantom(), np.uint8)

    assert "-p " in refused(capsys, (tmp_path / "nowhere", reference), out)
    assert "found no mask; expected files named <case>.nii.gz" in refused(capsys, (predicted, empty), out)
    line = refused(capsys, (predicted, other), out)
    assert "no case is in both folders" in line
    assert "has a, b" in line
    assert "has z" in line
    assert "<case>_mask.nii.gz" in line
    assert "choose another folder" in refused(capsys, (predicted, reference), predicted)
    blocked = tmp_path / "blocked"
    blocked.touch()
    assert "cannot write there" in refused(capsys, (predicted, reference), blocked)


def test_an_unwritable_output_is_refused_before_any_scan_is_read(folders, tmp_path, capsys, monkeypatch):
    blocked = tmp_path / "blocked"
    blocked.touch()
    monkeypatch.setattr("cmb_autoseg.evaluation.evaluate.load_case", lambda *_: pytest.fail("read a scan first"))

    assert "cannot write there" in refused(capsys, folders, blocked)


def test_unknown_protocol_lists_the_known_ones(folders, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        evaluate(folders, tmp_path / "out", "--protocol", "volda")

    assert stopped.value.code == 2
    assert "'valdo', 'overlap'" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["--protocol", "volda"], ["-p", "nowhere"]])
def test_arguments_are_judged_without_heavy_imports(arguments):
    code = (
        "import sys\nfrom cmb_autoseg.cli.evaluate import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "sys.exit(any(name in sys.modules for name in ('numpy', 'scipy', 'pydantic', 'nibabel', 'torch')))"
    )

    done = subprocess.run([sys.executable, "-c", code, *arguments], env=os.environ, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
