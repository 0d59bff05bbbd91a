"""What users get wrong, through the real commands: one line that names it and says the cure, and nothing written."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from cmb_autoseg.cli import convert, evaluate, explain, finalize, plan_preprocess, predict, train
from cmb_autoseg.files import read_json, read_tsv

SHAPE = (16, 18, 10)
CARD = """\
schema: 1
name: Small
images:
  T2S: {role: gre_mag, path: "{sub}/{sub}_T2S.nii.gz"}
labels:
  cmb: {kind: mask, path: "{sub}/{sub}_CMB.nii.gz", values: {cmb: 1}}
prep: {brain: already_masked}
"""


def save(path, data, spacing_mm=1.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, np.diag([spacing_mm] * 3 + [1.0])), path)
    return path


def scan(seed=0):
    data = np.zeros(SHAPE, dtype=np.float32)
    data[1:-1, 1:-1, 1:-1] = 100 + np.random.default_rng(seed).normal(0, 5, [n - 2 for n in SHAPE])
    return data


def mask(*voxels):
    data = np.zeros(SHAPE, dtype=np.uint8)
    for voxel in voxels:
        data[voxel] = 1
    return data


def write_subjects(root, n, lesion=True):
    for index in range(n):
        save(root / f"s{index}" / f"s{index}_T2S.nii.gz", scan(index))
        save(root / f"s{index}" / f"s{index}_CMB.nii.gz", mask((8, 8, 5)) if lesion else mask())


@pytest.fixture
def cohort(tmp_path):
    """Two good subjects and their card."""
    write_subjects(tmp_path / "cohort", 2)
    (tmp_path / "cohort" / "card.yaml").write_text(CARD)
    return tmp_path / "cohort"


def change_card(cohort, old, new):
    assert old in CARD
    (cohort / "card.yaml").write_text(CARD.replace(old, new))


def convert_cohort(cohort):
    return convert.main([str(cohort / "card.yaml"), "-d", "7", "--workspace", str(cohort.parent / "ws")])


def error_line(capsys):
    """The one line on standard error; progress and left-out cases stand apart from it."""
    captured = capsys.readouterr().err
    assert "Traceback" not in captured
    lines = [line for line in captured.splitlines() if ": error: " in line]
    assert len(lines) == 1
    assert captured.splitlines()[-1] == lines[0]
    return lines[0]


def files_below(folder):
    return [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("role: gre_mag", "role: gre_magg", ["card.yaml:4", "images.T2S.role", "'gre_magg'", "did you mean gre_mag?"]),
        ("labels:", "lables:", ["card.yaml:5", "lables", "unknown key", "did you mean labels?"]),
        ("{sub}_T2S", "{sub}_SWI", ["images.T2S.path", "{sub}_SWI.nii.gz' matches nothing", "nearest file is s0/s0_"]),
        ("{sub}_CMB", "{sub}_MB", ["labels.cmb.path", "matches nothing", "nearest file is s0/s0_CMB.nii.gz"]),
    ],
)
def test_a_card_that_is_wrong(cohort, capsys, old, new, expected):
    change_card(cohort, old, new)
    assert convert_cohort(cohort) == 2
    line = error_line(capsys)
    assert all(part in line for part in expected), line
    assert not (cohort.parent / "ws").exists()


def second_file(folder):
    save(folder / "s0_again_T2S.nii.gz", scan())


def other_affine(folder):
    save(folder / "s0_CMB.nii.gz", mask((8, 8, 5)), 1.1)


def other_shape(folder):
    save(folder / "s0_CMB.nii.gz", np.zeros((16, 18, 11), dtype=np.uint8))


def foreign_value(folder):
    save(folder / "s0_CMB.nii.gz", mask((8, 8, 5)) * 3)


def all_nan(folder):
    save(folder / "s0_T2S.nii.gz", np.full(SHAPE, np.nan, dtype=np.float32))


def all_zero(folder):
    save(folder / "s0_T2S.nii.gz", np.zeros(SHAPE, dtype=np.float32))


def four_dimensional(folder):
    save(folder / "s0_T2S.nii.gz", np.stack([scan(), scan()], axis=-1))


def flat(folder):
    save(folder / "s0_T2S.nii.gz", scan()[:, :, 5])


def truncated(folder):
    whole = (folder / "s0_T2S.nii.gz").read_bytes()
    (folder / "s0_T2S.nii.gz").write_bytes(whole[: len(whole) // 2])


SPOILT = [
    (second_file, ["2 files for images.T2S", "s0_T2S.nii.gz", "s0_again_T2S.nii.gz", "one of them"]),
    (other_affine, ["s0_CMB.nii.gz", "mm off", "s0_T2S.nii.gz", "labels.cmb.resample"]),
    (other_shape, ["s0_CMB.nii.gz", "(16, 18, 11)", "(16, 18, 10)", "labels.cmb.resample"]),
    (foreign_value, ["s0_CMB.nii.gz", "value 3", "legal are 0 and cmb = 1", "labels.cmb.values"]),
    (all_nan, ["s0_T2S.nii.gz", "every voxel is NaN", "export the scan again"]),
    (all_zero, ["s0_T2S.nii.gz", "every voxel is zero", "export the scan again"]),
    (four_dimensional, ["s0_T2S.nii.gz", "4D file with 2 volumes", "images.<name>.echo"]),
    (flat, ["s0_T2S.nii.gz", "(16, 18)", "3D volume is needed", "give the whole scan"]),
    (truncated, ["s0_T2S.nii.gz", "damaged or truncated", "copy the file again"]),
]


@pytest.mark.parametrize(("spoil", "expected"), SPOILT, ids=[spoil.__name__ for spoil, _ in SPOILT])
def test_a_bad_case_of_a_cohort_is_left_out_and_alone_it_is_refused(cohort, capsys, spoil, expected):
    if spoil is second_file:
        change_card(cohort, "{sub}_T2S", r"{sub}{extra:(_again)?}_T2S")
    spoil(cohort / "s0")
    assert convert_cohort(cohort) == 1
    assert "Traceback" not in capsys.readouterr().err
    raw = cohort.parent / "ws" / "raw" / "Dataset007_Small"
    left_out = read_tsv(raw / "exclusions.tsv")
    assert [row["case"] for row in left_out] == ["s0"]
    assert all(part in left_out[0]["reason"] for part in expected), left_out[0]["reason"]
    assert [row["case"] for row in read_tsv(raw / "cases.tsv")] == ["s1"]
    assert not [path for path in files_below(raw) if path.name.startswith("s0")]

    shutil.rmtree(cohort.parent / "ws")
    shutil.rmtree(cohort / "s1")
    assert convert_cohort(cohort) == 2
    line = error_line(capsys)
    assert all(part in line for part in expected), line
    assert not files_below(cohort.parent / "ws")


@pytest.mark.parametrize(
    ("n", "lesion", "expected"),
    [
        (
            4,
            True,
            [
                "Dataset007_Small",
                "found 4 labelled training subjects",
                "5 folds need at least 5",
                "add labelled subjects",
            ],
        ),
        (5, False, ["Dataset007_Small", "no lesion in any labelled case", "labels.cmb.values"]),
    ],
)
def test_a_dataset_that_cannot_be_trained_is_not_planned(cohort, capsys, n, lesion, expected):
    write_subjects(cohort, n, lesion)
    assert convert_cohort(cohort) == 0
    capsys.readouterr()
    where = ["-d", "7", "--workspace", str(cohort.parent / "ws"), "-device", "cpu"]
    before = files_below(cohort.parent / "ws")
    assert plan_preprocess.main(where) == 2
    line = error_line(capsys)
    assert all(part in line for part in expected), line
    assert files_below(cohort.parent / "ws") == before
    assert not (cohort.parent / "ws" / "preprocessed").exists()
    assert train.main([*where, "-f", "0"]) == 2
    assert "run cmb_plan_preprocess -d 7" in error_line(capsys)


def test_a_dataset_that_was_converted_anew_is_not_trained_by_its_old_plan(trained, tmp_path, capsys):
    for kind in ("raw", "preprocessed"):
        shutil.copytree(trained.workspace / kind, tmp_path / kind)
    table = tmp_path / "raw" / "Dataset501_Elsewhere" / "cases.tsv"
    table.write_text(table.read_text().replace("sha256:", "sha256:0"))
    where = ["-d", "501", "--workspace", str(tmp_path), "-device", "cpu"]
    assert train.main([*where, "-r", str(trained.recipe), "-f", "0"]) == 2
    assert "cases changed since it was planned; run cmb_plan_preprocess -d 501" in error_line(capsys)
    assert not files_below(tmp_path / "results")


def run_predict(trained, out, source, *more):
    return predict.main(["-i", str(source), "-o", str(out), "-m", str(trained.model), "-device", "cpu", *more])


def a_scan(trained):
    return trained.cohort / "centreA" / "p2" / "visit1" / "scans" / "p2-susc.nii.gz"


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [(spoil, expected[1:-1]) for spoil, expected in SPOILT if spoil in (all_nan, all_zero, flat, truncated)]
    + [(four_dimensional, ["4D file with 2 volumes", "--echo 1..2"])],
    ids=["all_nan", "all_zero", "flat", "truncated", "four_dimensional"],
)
def test_a_single_bad_scan_is_refused(trained, tmp_path, capsys, spoil, expected):
    save(tmp_path / "s0" / "s0_T2S.nii.gz", scan())
    spoil(tmp_path / "s0")
    assert run_predict(trained, tmp_path / "out", tmp_path / "s0" / "s0_T2S.nii.gz") == 2
    line = error_line(capsys)
    assert all(part in line for part in ("s0_T2S.nii.gz", *expected)), line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("[enforce fail] can't allocate memory: 9 bytes")])
def test_a_scan_that_needs_more_memory_than_there_is_says_so(trained, tmp_path, capsys, monkeypatch, error):
    from cmb_autoseg.inference.patches import PatchEnsemble

    def fail(self, volumes):
        raise error

    monkeypatch.setattr(PatchEnsemble, "predict", fail)
    assert run_predict(trained, tmp_path / "out", a_scan(trained)) == 2
    assert "p2-susc: needs more memory than there is; close other programs" in error_line(capsys)
    assert not (tmp_path / "out").exists()


def test_no_input_is_refused(trained, tmp_path, capsys, monkeypatch):
    (tmp_path / "empty").mkdir()
    assert run_predict(trained, tmp_path / "out", tmp_path / "empty") == 2
    assert "nothing to predict in it; expected CASE_0000.nii.gz" in error_line(capsys)
    shutil.copy(a_scan(trained), tmp_path)
    monkeypatch.chdir(tmp_path)
    assert run_predict(trained, tmp_path / "out", "") == 2
    assert "-i: found nothing, expected a scan" in error_line(capsys)
    assert run_predict(trained, tmp_path, tmp_path) == 2
    assert "holds the scans" in error_line(capsys)
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_cannot_be_made_is_refused(trained, cohort, tmp_path, capsys):
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "out"
    assert run_predict(trained, out, a_scan(trained)) == 2
    assert f"{out}: cannot write there" in error_line(capsys)
    maps, masks = str(trained.model / "crossvalidation"), str(trained.raw / "labelsTr")
    assert evaluate.main(["-p", maps, "--reference", masks, "-o", str(out)]) == 2
    assert "cannot write there" in error_line(capsys)
    assert convert.main([str(cohort / "card.yaml"), "-d", "7", "--workspace", str(out)]) == 2
    assert "cannot write there" in error_line(capsys)


def test_a_folder_in_which_no_scan_is_usable_says_why_of_each(trained, tmp_path, capsys):
    for name in ("a_T1.nii.gz", "b_flair.nii.gz"):
        save(tmp_path / "in" / name, scan())
    assert run_predict(trained, tmp_path / "out", tmp_path / "in") == 1
    assert "0 of 2 cases predicted" in capsys.readouterr().out
    failures = read_tsv(tmp_path / "out" / "failures.tsv")
    assert [row["case"] for row in failures] == ["a_T1", "b_flair"]
    assert all("does not show microbleeds" in row["reason"] for row in failures)


@pytest.mark.parametrize("command", [predict, explain])
def test_masks_beside_the_scans_fail_and_the_scans_go_on(command, trained, tmp_path, capsys):
    scans = tmp_path / "in"
    scans.mkdir()
    shutil.copy(a_scan(trained), scans / "p2.nii.gz")
    save(scans / "p2_CMB.nii.gz", mask((8, 8, 5), (8, 8, 6)))
    numbered = mask((8, 8, 5))
    numbered[4, 4, 4] = 2
    save(scans / "p3_CMB.nii.gz", numbered)
    model = ["-m", str(trained.model), "-f", "0", "-device", "cpu"]

    assert command.main(["-i", str(scans), "-o", str(tmp_path / "out"), *model]) == 1

    assert "1 of 3 cases" in capsys.readouterr().out
    two, numbered = read_tsv(tmp_path / "out" / "failures.tsv")
    assert two["case"] == "p2_CMB"
    assert "p2_CMB.nii.gz: has the values 0 and 1 alone, as a mask has and no scan; take the mask out" in two["reason"]
    assert numbered["case"] == "p3_CMB"
    assert "p3_CMB.nii.gz: found 0.0" in numbered["reason"]
    assert "ml of brain, expected a head" in numbered["reason"]
    assert not list((tmp_path / "out").glob("*_CMB*"))


def model_copy(trained, folder):
    return shutil.copytree(trained.model, folder, ignore=shutil.ignore_patterns("crossvalidation"))


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("plans.json", "{}", "lacks the key cmb_autoseg.plan"),
        ("plans.json", "[]", "lacks the key cmb_autoseg.plan"),
        ("plans.json", '{"cmb_autoseg": {"plan": {"dataset": 1}}}', "made by another version"),
        ("plans.json", "{", "not readable as JSON"),
        ("operating_points.json", '[{"name": "counting"}]', "field threshold: Field required"),
        ("fold_0/checkpoint_final.pth", "weights", "checkpoint_final.pth"),
    ],
)
def test_a_model_with_a_broken_file_is_refused(trained, tmp_path, capsys, file, content, expected):
    model = model_copy(trained, tmp_path / "model")
    (model / file).write_text(content)
    arguments = ["-i", str(a_scan(trained)), "-o", str(tmp_path / "out"), "-m", str(model), "-device", "cpu"]
    assert predict.main(arguments) == 2
    assert expected in error_line(capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("wanted", ["1.5", "best", "nan"])
def test_an_operating_point_that_is_none_names_those_there_are(trained, tmp_path, capsys, wanted):
    assert run_predict(trained, tmp_path / "out", a_scan(trained), "--operating-point", wanted) == 2
    assert "one of counting, screening, youden, or a threshold" in error_line(capsys)


def test_a_model_without_all_folds_is_not_finalized(trained, tmp_path, capsys):
    for kind in ("raw", "preprocessed"):
        shutil.copytree(trained.workspace / kind, tmp_path / kind)
    model = model_copy(trained, tmp_path / "results" / "Dataset501_Elsewhere" / trained.model.name)
    shutil.rmtree(model / "fold_3")
    assert finalize.main(["-d", "501", "-r", "tiny", "--workspace", str(tmp_path), "-device", "cpu"]) == 2
    assert "fold 3 is not trained; run cmb_train -d 501 -r tiny -p adaptive -f 3" in error_line(capsys)


def test_an_interrupted_second_prediction_is_not_taken_for_the_first(trained, tmp_path, monkeypatch):
    """Its probability map is written, its record is not; the first run's record must not vouch for it."""
    out = tmp_path / "out"
    assert run_predict(trained, out, a_scan(trained), "--operating-point", "0.3") == 0
    assert read_json(out / "run.json")["seconds"]["p2-susc"]["network"] > 0
    record = json.loads((out / "p2-susc.json").read_text())
    first = (out / "p2-susc_prob.nii.gz").read_bytes()

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("cmb_autoseg.inference.layouts.write_overlay", killed)
    assert run_predict(trained, out, a_scan(trained), "--operating-point", "0.3", "-f", "0") == 130
    assert (out / "p2-susc_prob.nii.gz").read_bytes() != first
    monkeypatch.undo()
    assert run_predict(trained, out, a_scan(trained), "--operating-point", "0.3") == 0
    assert (out / "p2-susc_prob.nii.gz").read_bytes() == first
    assert json.loads((out / "p2-susc.json").read_text()) == record


def test_a_threshold_near_zero_makes_lesions_too_large_and_says_so(trained, tmp_path, capsys):
    assert run_predict(trained, tmp_path / "out", a_scan(trained), "--operating-point", "0.000001") == 0
    captured = capsys.readouterr().err
    assert "lesion 1 has" in captured
    assert "more than a microbleed can have (10 mm across: 524 mm3); look at the picture" in captured
    assert run_predict(trained, tmp_path / "other", a_scan(trained), "--operating-point", "0.999999") == 0
    assert "more than a microbleed" not in capsys.readouterr().err


def test_masks_named_like_images_are_told_of(trained, tmp_path, capsys):
    for folder in ("pred", "ref"):
        save(tmp_path / folder / "a.nii.gz", mask((8, 8, 5)))
        save(tmp_path / folder / "b_2019.nii.gz", mask((8, 8, 5)))
    save(tmp_path / "ref" / "c_0001.nii.gz", mask((8, 8, 5)))
    where = ["-p", str(tmp_path / "pred"), "--reference", str(tmp_path / "ref"), "-o", str(tmp_path / "out")]
    assert evaluate.main(where) == 0
    assert "c_0001.nii.gz: taken for an image by its name, not scored" in capsys.readouterr().err
    assert [row["case"] for row in read_tsv(tmp_path / "out" / "per_case.tsv")] == ["a", "b_2019"]


def test_a_suffix_in_capitals_is_read(trained, tmp_path):
    shutil.copy(a_scan(trained), tmp_path / "SWI.NII.GZ")
    assert run_predict(trained, tmp_path / "out", tmp_path / "SWI.NII.GZ", "-f", "0") == 0
    assert (tmp_path / "out" / "SWI_mask.nii.gz").is_file()
