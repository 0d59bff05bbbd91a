"""BIDS in and out through the real commands, and the official validator on what they write."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cmb_autoseg.cli import bids, evaluate, predict
from cmb_autoseg.files import read_json, read_tsv

VALIDATOR = shutil.which("bids-validator-deno", path=str(Path(sys.executable).parent)) or shutil.which(
    "bids-validator-deno"
)
needs_validator = pytest.mark.skipif(VALIDATOR is None, reason="bids-validator-deno is not installed")


def volume_of(trained, sub="p2"):
    return nib.load(trained.cohort / "centreA" / sub / "visit1" / "scans" / f"{sub}-susc.nii.gz")


def put(image, *paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(image, path)


def coarse(image):
    """The same scan on another grid."""
    return nib.Nifti1Image(image.get_fdata(dtype=np.float32)[::2], image.affine @ np.diag([2.0, 1, 1, 1]))


def describe(root, **more):
    root.mkdir(parents=True, exist_ok=True)
    (root / "dataset_description.json").write_text(json.dumps({"Name": "Raw", "BIDSVersion": "1.8.0", **more}))


def megre(root, image):
    """Sessions, swi folder, separate echoes and parts (heudiconv's naming of a multi-echo scan)."""
    stem = "sub-01_ses-1_acq-QSM_run-01_echo-{}_part-{}_MEGRE.nii.gz"
    put(image, *(root / "sub-01/ses-1/swi" / stem.format(n, part) for n in (1, 2, 3) for part in ("mag", "phase")))
    for number in (1, 2, 3):
        sidecar = root / "sub-01/ses-1/swi" / stem.format(number, "mag").replace(".nii.gz", ".json")
        sidecar.write_text(json.dumps({"EchoTime": 0.01 * number}))


def t2starw(root, image):
    """No sessions, no description, one weighted scan a subject and other modalities beside it."""
    put(image, root / "sub-A1/anat/sub-A1_T2starw.nii.gz", root / "sub-B2/anat/sub-B2_T2starw.nii")
    put(coarse(image), root / "sub-A1/func/sub-A1_task-rest_bold.nii.gz")
    put(image, root / "derivatives/x/sub-C3/anat/sub-C3_T2starw.nii.gz")
    put(image, root / "sourcedata/sub-D4/anat/sub-D4_T2starw.nii.gz")


def legacy_swi(root, image):
    """BEP 4 and ReproIn: swi folder, runs, parts, minimum intensity projection."""
    describe(root)
    for run in (1, 2):
        stem = f"sub-01_acq-highres_run-0{run}"
        put(image, *(root / f"sub-01/swi/{stem}{end}.nii.gz" for end in ("_part-mag_swi", "_part-phase_swi", "_swi")))
    put(
        coarse(image),
        root / "sub-01/swi/sub-01_acq-highres_rec-mIP_swi.nii.gz",
        root / "sub-01/swi/sub-01_minIP.nii.gz",
    )
    put(coarse(image), root / "sub-01/anat/sub-01_T2starw.nii.gz")


def clinical(root, image):
    """Sessions with SWI in capitals, FLAIR and T1w on grids of their own; one session without SWI."""
    describe(root, License="CC0", Authors=["A", "B"], DatasetDOI="doi:10.1/x")
    put(image, root / "sub-07/ses-base/anat/sub-07_ses-base_SWI.nii.gz")
    put(coarse(image), *(root / f"sub-07/ses-base/anat/sub-07_ses-base_{end}.nii.gz" for end in ("T1w", "FLAIR")))
    put(image, root / "sub-07/ses-m12/anat/sub-07_ses-m12_acq-swi_T2starw.nii.gz")
    put(image, root / "sub-07/ses-m24/anat/sub-07_ses-m24_T1w.nii.gz")


def run(trained, out, source, *more):
    return predict.main(
        ["-i", str(source), "-o", str(out), "-m", str(trained.model), "-device", "cpu", "-f", "0", *more]
    )


def counts(out):
    return {row["case"]: row for row in read_tsv(out / "counts.tsv")}


def warnings_of(out, case, bids_layout=False):
    path = out.joinpath(*case.split("_"), "anat", f"{case}_dseg.json") if bids_layout else out / f"{case}.json"
    return read_json(path)["warnings"]


def test_multi_echo_scans_with_parts(trained, tmp_path, capsys):
    megre(tmp_path / "raw", volume_of(trained))
    assert run(trained, tmp_path / "out", tmp_path / "raw") == 0
    (row,) = read_tsv(tmp_path / "out" / "counts.tsv")
    assert (row["case"], row["sequences_used"], row["sequences_missing"]) == ("sub-01_ses-1", "gre_mag", "swi")
    record = read_json(tmp_path / "out" / "sub-01_ses-1.json")
    assert record["inputs"][0]["file"] == "sub-01_ses-1_acq-QSM_run-01_echo-2_part-mag_MEGRE.nii.gz"
    shown = capsys.readouterr().err
    assert "warning: sub-01_ses-1: gre_mag: took sub-01_ses-1_acq-QSM_run-01_echo-2_part-mag_MEGRE.nii.gz, not" in shown
    assert "warning: sub-01_ses-1: missing sequences: swi" in shown
    assert run(trained, tmp_path / "out", tmp_path / "raw", "--echo", "3") == 0
    assert "echo-3" in read_json(tmp_path / "out" / "sub-01_ses-1.json")["inputs"][0]["file"]
    assert run(trained, tmp_path / "out", tmp_path / "raw", "--echo", "9") == 1
    assert "no echo 9 (there: 1, 2, 3)" in read_tsv(tmp_path / "out" / "failures.tsv")[0]["reason"]


def test_weighted_scans_without_sessions_or_description(trained, tmp_path):
    t2starw(tmp_path / "raw", volume_of(trained))
    assert run(trained, tmp_path / "out", tmp_path / "raw") == 0
    assert list(counts(tmp_path / "out")) == ["sub-A1", "sub-B2"]


def test_the_legacy_swi_folder_with_runs(trained, tmp_path):
    legacy_swi(tmp_path / "raw", volume_of(trained))
    assert run(trained, tmp_path / "out", tmp_path / "raw", "--prefer", "run-2") == 0
    record = read_json(tmp_path / "out" / "sub-01.json")
    assert [entry["file"] for entry in record["inputs"]] == [
        "sub-01_acq-highres_run-02_swi.nii.gz",
        "sub-01_acq-highres_run-02_part-mag_swi.nii.gz",
    ]
    assert any("not sub-01_acq-highres_run-01_swi.nii.gz" in warning for warning in record["warnings"])
    assert record["sequences_missing"] == []


def test_clinical_sessions_with_companions_on_other_grids(trained, tmp_path):
    clinical(tmp_path / "raw", volume_of(trained))
    assert run(trained, tmp_path / "out", tmp_path / "raw") == 1
    table = counts(tmp_path / "out")
    assert {case: row["status"] for case, row in table.items()} == {
        "sub-07_ses-base": "done",
        "sub-07_ses-m12": "done",
        "sub-07_ses-m24": "failed",
    }
    (failure,) = read_tsv(tmp_path / "out" / "failures.tsv")
    assert "no sequence in which microbleeds are visible" in failure["reason"]


def test_a_bids_root_without_a_usable_scan_says_what_was_looked_for(trained, tmp_path, capsys):
    describe(tmp_path / "raw")
    put(volume_of(trained), tmp_path / "raw/sub-01/anat/sub-01_part-phase_T2starw.nii.gz")
    assert run(trained, tmp_path / "out", tmp_path / "raw") == 2
    assert "a BIDS dataset without a usable scan; looked for *_swi" in capsys.readouterr().err
    put(volume_of(trained), tmp_path / "raw/sub-02/anat/sub-02_T2starw.nii.gz")
    assert run(trained, tmp_path / "out", tmp_path / "raw") == 1
    assert read_tsv(tmp_path / "out" / "failures.tsv")[0]["case"] == "sub-01"


def test_scans_in_subfolders_are_not_searched_for(trained, tmp_path, capsys):
    put(volume_of(trained), tmp_path / "in/p1/swi.nii.gz")
    assert run(trained, tmp_path / "out", tmp_path / "in") == 2
    error = capsys.readouterr().err
    assert "subfolders are not searched (1 NIfTI files below, first p1/swi.nii.gz)" in error
    assert "cmb_cohort init" in error
    assert not (tmp_path / "out").exists()


def validate(folder):
    """Errors and warnings of the official validator, as `code file`."""
    done = subprocess.run([VALIDATOR, str(folder), "--format", "json"], capture_output=True, text=True, check=False)
    issues = json.loads(done.stdout)["issues"]["issues"]
    lines = {"error": [], "warning": []}
    for issue in issues:
        lines[issue["severity"]].append(f"{issue['code']} {issue.get('subCode', '')} {issue.get('location', '')}")
    return lines


@needs_validator
@pytest.mark.parametrize("shape", [megre, t2starw, legacy_swi, clinical])
def test_derivatives_of_bids_input_are_valid(trained, tmp_path, shape):
    shape(tmp_path / "raw", volume_of(trained))
    out = tmp_path / "raw" / "derivatives" / "cmb_autoseg"
    assert run(trained, out, tmp_path / "raw", "--bids", "--operating-point", "0.4") == (shape is clinical)
    found = validate(out)
    assert found["error"] == []
    allowed = {"TOO_FEW_AUTHORS", "JSON_KEY_RECOMMENDED"}
    assert {line.split()[0] for line in found["warning"]} <= allowed, found["warning"]


@needs_validator
def test_derivatives_of_plain_input_are_valid(trained, tmp_path):
    put(volume_of(trained), tmp_path / "in/p 2 (a)_swi.nii.gz", tmp_path / "in/sub-9_ses-x_swi.nii.gz")
    assert run(trained, tmp_path / "out", tmp_path / "in", "--bids") == 0
    assert validate(tmp_path / "out")["error"] == []
    record = read_json(tmp_path / "out/sub-p2aswi/anat/sub-p2aswi_dseg.json")
    assert (record["case"], record["OriginalFiles"]) == ("p 2 (a)_swi", ["p 2 (a)_swi.nii.gz"])
    assert (tmp_path / "out/sub-9/ses-x/anat/sub-9_ses-x_dseg.nii.gz").is_file()


def test_derivatives_say_the_same_as_the_flat_folder(trained, tmp_path):
    clinical(tmp_path / "raw", volume_of(trained))
    flat, out = tmp_path / "flat", tmp_path / "out"
    for folder, more in ((flat, ()), (out, ("--bids",))):
        assert run(trained, folder, tmp_path / "raw", *more) == 1
    stem = out / "sub-07/ses-base/anat/sub-07_ses-base"
    for ours, theirs in (("mask", "dseg"), ("prob", "label-CMB_probseg")):
        one, other = nib.load(flat / f"sub-07_ses-base_{ours}.nii.gz"), nib.load(f"{stem}_{theirs}.nii.gz")
        assert np.array_equal(one.get_fdata(), other.get_fdata())
        assert np.array_equal(one.affine, other.affine)
    numbers = nib.load(f"{stem}_desc-lesions_dseg.nii.gz").get_fdata()
    rows = read_tsv(Path(f"{stem}_desc-lesions_dseg.tsv"))
    record = read_json(Path(f"{stem}_dseg.json"))
    assert rows
    assert [int(row["index"]) for row in rows] == [lesion["lesion"] for lesion in record["lesions"]]
    for row in rows:
        assert np.isclose((numbers == int(row["index"])).sum() * 2.0, float(row["volume_mm3"]))
    assert {key: record[key] for key in read_json(flat / "sub-07_ses-base.json")} == read_json(
        flat / "sub-07_ses-base.json"
    )
    assert record["Sources"] == ["bids:raw:sub-07/ses-base/anat/sub-07_ses-base_SWI.nii.gz"]
    description = read_json(out / "dataset_description.json")
    assert description["DatasetType"] == "derivative"
    assert description["SourceDatasets"] == [{"URL": "../raw", "DOI": "doi:10.1/x"}]
    table = {row["case"]: row for row in read_tsv(out / "counts.tsv")}
    assert (table["sub-07_ses-m24"]["session_id"], table["sub-07_ses-m24"]["status"]) == ("ses-m24", "failed")


def test_derivatives_are_resumed_and_the_same_bytes(trained, tmp_path):
    t2starw(tmp_path / "raw", volume_of(trained))
    out = tmp_path / "out"
    assert run(trained, out, tmp_path / "raw", "--bids") == 0
    files = [path for path in out.rglob("*") if path.is_file() and "logs" not in path.parts and path.name[0] != "."]
    before = {path: path.read_bytes() for path in files if path.name != "run.json"}
    stamps = {path: path.stat().st_mtime_ns for path in files if "_dseg" in path.name and path.parent != out}
    assert run(trained, out, tmp_path / "raw", "--bids") == 0
    assert read_json(out / "run.json")["skipped_as_finished"] == ["sub-A1", "sub-B2"]
    assert stamps == {path: path.stat().st_mtime_ns for path in stamps}
    assert run(trained, tmp_path / "again", tmp_path / "raw", "--bids") == 0
    assert {path.relative_to(out): content for path, content in before.items()} == {
        path.relative_to(out): (tmp_path / "again" / path.relative_to(out)).read_bytes() for path in before
    }


def test_names_that_fall_together_in_bids_are_refused(trained, tmp_path, capsys):
    put(volume_of(trained), tmp_path / "in/a-1.nii.gz", tmp_path / "in/a_1.nii.gz")
    assert run(trained, tmp_path / "out", tmp_path / "in", "--bids") == 2
    assert "a_1: as BIDS it would be sub-a1, and so is a-1; rename the scans" in capsys.readouterr().err
    (tmp_path / "in/a_1.nii.gz").unlink()
    assert run(trained, tmp_path / "out", tmp_path / "in", "--bids") == 0
    shutil.move(tmp_path / "in/a-1.nii.gz", tmp_path / "in/a1.nii.gz")
    assert run(trained, tmp_path / "out", tmp_path / "in", "--bids") == 2
    assert "a1: as BIDS it would be sub-a1, and so is a-1" in capsys.readouterr().err


def app(trained, *arguments):
    return bids.main([*map(str, arguments), "-m", str(trained.model), "-device", "cpu", "-f", "0"])


def test_participants_write_their_own_files_and_the_group_gathers(trained, tmp_path, capsys):
    raw, out = tmp_path / "raw", tmp_path / "out"
    clinical(raw, volume_of(trained))
    t2starw(raw, volume_of(trained))
    assert app(trained, raw, out, "participant", "--participant-label", "sub-A1") == 0
    assert app(trained, raw, out, "participant", "--participant-label", "B2", "07", "--session-label", "base") == 0
    assert not list(out.glob("*s.tsv"))
    assert sorted(path.name for path in out.glob("sub-*/**/*_dseg.nii.gz") if "desc" not in path.name) == [
        "sub-07_ses-base_dseg.nii.gz",
        "sub-A1_dseg.nii.gz",
    ]
    assert app(trained, raw, out, "participant", "--participant-label", "07") == 1
    assert app(trained, raw, out, "participant", "--participant-label", "B2") == 0
    # As a run leaves it that was stopped after its case had failed before and was finished now.
    shutil.copy(out / "logs/sub-07_ses-m24_failure.json", out / "logs/sub-A1_failure.json")
    assert bids.main([str(raw), str(out), "group"]) == 1
    rows = read_tsv(out / "counts.tsv")
    assert [(row["participant_id"], row["session_id"], row["status"]) for row in rows] == [
        ("sub-07", "ses-base", "done"),
        ("sub-07", "ses-m12", "done"),
        ("sub-A1", "n/a", "done"),
        ("sub-B2", "n/a", "done"),
        ("sub-07", "ses-m24", "failed"),
    ]
    assert len(read_tsv(out / "failures.tsv")) == 1
    if VALIDATOR is not None:
        assert validate(out)["error"] == []


def test_a_participant_in_use_is_refused_and_others_go_on(trained, tmp_path, capsys):
    from cmb_autoseg.locking import own_folder

    raw, out = tmp_path / "raw", tmp_path / "out"
    t2starw(raw, volume_of(trained))
    with own_folder(out / "sub-A1", "another run"):
        assert app(trained, raw, out, "participant", "--participant-label", "A1") == 2
        assert "in use by another run" in capsys.readouterr().err
        assert app(trained, raw, out, "participant", "--participant-label", "B2") == 0


def test_a_participant_that_only_fails_is_owned_too(trained, tmp_path, capsys):
    from cmb_autoseg.locking import own_folder

    raw, out = tmp_path / "raw", tmp_path / "out"
    t2starw(raw, volume_of(trained))
    put(volume_of(trained), raw / "sub-C3/anat/sub-C3_T1w.nii.gz")
    assert app(trained, raw, out, "participant", "--participant-label", "C3") == 1
    (note,) = out.glob("logs/*_failure.json")
    note.unlink()
    with own_folder(out / "sub-C3", "another run"):
        assert app(trained, raw, out, "participant", "--participant-label", "C3") == 2
    assert f"{out}/sub-C3: in use by another run" in capsys.readouterr().err
    assert not note.exists()
    assert not (out / "sub-C3").exists()


def test_the_root_is_owned_while_a_participant_describes_it(trained, tmp_path, capsys, monkeypatch):
    from cmb_autoseg.inference import bids_layout
    from cmb_autoseg.locking import own_folder

    monkeypatch.setattr(bids_layout, "ROOT_WAIT_S", 0.1)
    raw, out = tmp_path / "raw", tmp_path / "out"
    t2starw(raw, volume_of(trained))
    with own_folder(out, "cmb_bids group", nested=False):
        assert app(trained, raw, out, "participant", "--participant-label", "A1") == 2
        assert f"{out}: in use by cmb_bids group" in capsys.readouterr().err
        assert not (out / "dataset_description.json").exists()
    assert app(trained, raw, out, "participant", "--participant-label", "A1") == 0
    assert (out / "dataset_description.json").is_file()


def test_the_group_names_different_ways_and_notes_that_are_none(trained, tmp_path, capsys):
    raw, out = tmp_path / "raw", tmp_path / "out"
    t2starw(raw, volume_of(trained))
    for label, threshold in (("A1", "0.4"), ("B2", "0.5")):
        more = ("--participant-label", label, "--operating-point", threshold)
        assert app(trained, raw, out, "participant", *more) == 0
    assert bids.main([str(raw), str(out), "group"]) == 0
    shown = capsys.readouterr().err
    assert "warning: cases of different models or operating points in one table" in shown
    assert re.search(r"model \w{12} folds 0 at threshold 0\.4: 1 cases, first sub-A1; .* 0\.5: .*sub-B2", shown)
    assert app(trained, raw, out, "participant", "--operating-point", "0.5") == 0
    assert bids.main([str(raw), str(out), "group"]) == 0
    assert "in one table" not in capsys.readouterr().err
    for content in ("[]", "{}", '{"case": 1, "reason": "x"}'):
        (out / "logs/sub-Z9_failure.json").write_text(content)
        assert bids.main([str(raw), str(out), "group"]) == 2
        assert "sub-Z9_failure.json: not the note of a failure; remove it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["raw", "out", "participant", "--participant-label", "09"],
            "--participant-label 09: not in the dataset; there",
        ),
        (
            ["raw", "out", "participant", "--session-label", "1"],
            "--session-label 1: not in the dataset; there are none",
        ),
        (["raw", "raw", "participant"], "is the dataset itself"),
        (["raw", "raw/sub-A1/cmb", "participant"], "OUT raw/sub-A1/cmb: is within sub-A1 of the BIDS dataset"),
        (["raw", "raw/sourcedata", "group"], "raw/derivatives/cmb_autoseg"),
        (["raw", "file", "participant"], "Not a directory); choose another folder\n"),
        (["none", "out", "participant"], "no such file or folder"),
        (["plain", "out", "participant"], "no BIDS dataset"),
        (["raw", "out", "group"], "OUT out: no such file or folder"),
        (["raw", "empty", "group"], "no predicted case in it"),
    ],
)
def test_wrong_arguments_of_the_app(trained, tmp_path, capsys, monkeypatch, arguments, expected):
    t2starw(tmp_path / "raw", volume_of(trained))
    put(volume_of(trained), tmp_path / "plain/x.nii.gz")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    assert app(trained, *arguments) == 2
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "empty").glob("[!.]*"))


@pytest.mark.parametrize("more", [(), ("--bids",)])
def test_results_are_not_written_among_the_scans_of_a_bids_dataset(trained, tmp_path, capsys, more):
    raw = tmp_path / "raw"
    put(volume_of(trained), raw / "sub-A1/anat/sub-A1_T2starw.nii.gz")
    assert run(trained, raw / "sub-A1", raw, *more) == 2
    assert f"-o {raw}/sub-A1: is within sub-A1 of the BIDS dataset {raw}" in capsys.readouterr().err
    assert [path.name for path in (raw / "sub-A1").iterdir()] == ["anat"]
    assert run(trained, raw / "derivatives/sub-A1", raw, *more) == 0


def test_results_of_a_case_that_fails_now_are_set_aside(trained, tmp_path, capsys):
    folder, out = tmp_path / "in", tmp_path / "out"
    put(volume_of(trained), folder / "a_swi.nii.gz", folder / "b_swi.nii.gz")
    for more in ((), ("--bids",)):
        target = out / ("bids" if more else "flat")
        put(volume_of(trained), folder / "a_swi.nii.gz")
        assert run(trained, target, folder, *more) == 0
        whole = (folder / "a_swi.nii.gz").read_bytes()
        (folder / "a_swi.nii.gz").write_bytes(whole[: len(whole) // 2])
        assert run(trained, target, folder, *more) == 1
        kept = [path for path in target.rglob("*a_swi*" if not more else "*aswi*") if path.is_file()]
        assert {path.relative_to(target).parts[0] for path in kept} <= {"outdated", "logs"}
        assert len([path for path in kept if "outdated" in path.parts]) == (9 if more else 5)
        assert "a_swi: " in capsys.readouterr().err
        assert counts(target)["b_swi"]["status"] == "done"
        assert counts(target)["a_swi"]["status"] == "failed"


def test_a_single_bad_file_sets_its_old_results_aside_and_writes_nothing(trained, tmp_path, capsys):
    path, out = tmp_path / "a_swi.nii.gz", tmp_path / "out"
    put(volume_of(trained), path)
    assert run(trained, out, path) == 0
    path.write_bytes(path.read_bytes()[:500])
    assert run(trained, out, path) == 2
    assert not list(out.glob("a_swi*"))
    assert len(list((out / "outdated").glob("a_swi*"))) == 5
    assert run(trained, tmp_path / "new", path) == 2
    assert not (tmp_path / "new").exists()


def test_derivatives_are_evaluated(trained, tmp_path):
    t2starw(tmp_path / "raw", volume_of(trained))
    assert run(trained, tmp_path / "out", tmp_path / "raw", "--bids", "--operating-point", "0.4") == 0
    masks = tmp_path / "masks"
    masks.mkdir()
    shutil.copy(trained.raw / "labelsTr" / "p2_1.nii.gz", masks / "sub-A1.nii.gz")
    assert evaluate.main(["-p", str(tmp_path / "out"), "--reference", str(masks), "-o", str(tmp_path / "scores")]) == 0
    assert read_json(tmp_path / "scores" / "metrics.json")["n_cases"] == 1


def test_the_page_on_bids_runs_as_it_stands(trained, tmp_path, monkeypatch):
    image = volume_of(trained)
    for label, run_label in (("01", "run-1"), ("01", "run-2"), ("02", "acq-highres_run-1")):
        put(image, tmp_path / f"raw/sub-{label}/swi/sub-{label}_{run_label}_swi.nii.gz")
    (tmp_path / "model").symlink_to(trained.model)
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "predict-bids.md").read_text()
    commands = re.findall(r"^(cmb_\w+) (.+)$", "".join(re.findall(r"```bash\n(.*?)```", page, re.DOTALL)), re.MULTILINE)
    assert len(commands) == 5
    for command, arguments in commands:
        more = [] if arguments.endswith("group") else ["-device", "cpu"]
        assert {"cmb_predict": predict, "cmb_bids": bids}[command].main([*shlex.split(arguments), *more]) == 0
    record = read_json(tmp_path / "derivatives/second_run/sub-01/anat/sub-01_dseg.json")
    assert record["inputs"][0]["file"] == "sub-01_run-2_swi.nii.gz"
    assert len(read_tsv(tmp_path / "derivatives/cmb_autoseg/counts.tsv")) == 2
