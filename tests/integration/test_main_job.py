"""The main job through its real commands, on a cohort in a layout that the code has never seen."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage

from cmb_autoseg.cli import convert, evaluate, models, predict, train
from cmb_autoseg.files import read_json, read_tsv
from cmb_autoseg.records import Model, Plan


def run_predict(trained, out, source, *more):
    return predict.main(["-i", str(source), "-o", str(out), "-m", str(trained.model), "-device", "cpu", *more])


def test_conversion_keeps_every_lesion_of_every_session(trained):
    rows = {row["case"]: row for row in read_tsv(trained.raw / "cases.tsv")}
    assert set(rows) == {*trained.truth, "p5_2"}
    assert rows["p5_2"]["labelled"] == "0"
    assert rows["p1_1"]["subject"] == rows["p1_2"]["subject"]
    for case, centres in trained.truth.items():
        image = nib.load(trained.raw / "labelsTr" / f"{case}.nii.gz")
        labels, count = ndimage.label(image.get_fdata(), np.ones((3, 3, 3)))
        assert count == len(centres) == int(rows[case]["n_lesions"])
        if not count:
            continue
        found = nib.affines.apply_affine(image.affine, ndimage.center_of_mass(labels > 0, labels, range(1, count + 1)))
        for centre in centres:
            assert np.linalg.norm(found - centre, axis=1).min() < 0.5


def test_plan_and_inputs_lose_no_lesion_and_folds_share_no_subject(trained):
    base = trained.workspace / "preprocessed" / "Dataset501_Elsewhere"
    plan = Plan.read(base / "adaptive_plan.json")
    assert plan.channels == ("swi", "gre_mag")
    assert plan.lesions_before == plan.lesions_after == sum(map(len, trained.truth.values()))
    assert (base / "adaptive_3d" / "p5_2.b2nd").is_file()
    splits = read_json(trained.raw / "splits_final.json")
    assert len(splits) == 5
    for fold in splits:
        assert not {name[:2] for name in fold["train"]} & {name[:2] for name in fold["val"]}
        assert "p5_2" not in fold["train"] + fold["val"]


def test_a_finished_model_has_points_a_card_and_a_report(trained):
    model = Model.read(trained.model / "model.json")
    assert sorted(model.folds) == [0, 1, 2, 3, 4]
    assert model.n_subjects == 6
    points = read_json(trained.model / "operating_points.json")
    assert [point["name"] for point in points] == ["counting", "screening", "youden"]
    metrics = read_json(trained.model / "crossvalidation" / "metrics.json")
    assert metrics["n_cases"] == len(trained.truth)
    for figure in ("sensitivity", "fp_per_scan"):
        assert metrics["lesion"][figure]["value"] == pytest.approx(points[0][figure])
    for fold in range(5):
        folder = trained.model / f"fold_{fold}"
        assert (folder / "progress.png").stat().st_size > 1000
        assert len(read_tsv(folder / "progress.tsv")) == 2
        torch.load(folder / "checkpoint_final.pth", weights_only=True)


def test_prediction_is_on_the_inputs_grid_with_its_header(trained, tmp_path):
    source = trained.cohort / "centreA" / "p2" / "visit1" / "scans" / "p2-susc.nii.gz"
    image = nib.load(source)
    image.set_qform(image.affine, 1)
    image.set_sform(image.affine, 4)
    nib.save(image, tmp_path / "p2_swi.nii.gz")
    assert run_predict(trained, tmp_path / "out", tmp_path / "p2_swi.nii.gz", "--operating-point", "0.3") == 0
    for part in ("prob", "mask"):
        result = nib.load(tmp_path / "out" / f"p2_swi_{part}.nii.gz")
        assert result.shape == image.shape
        for form in ("qform", "sform"):
            theirs, their_code = getattr(result.header, f"get_{form}")(coded=True)
            ours, our_code = getattr(image.header, f"get_{form}")(coded=True)
            assert their_code == our_code
            assert np.array_equal(theirs, ours)
    mask = nib.load(tmp_path / "out" / "p2_swi_mask.nii.gz").get_fdata()
    probability = nib.load(tmp_path / "out" / "p2_swi_prob.nii.gz").get_fdata()
    assert np.array_equal(mask, probability >= np.float32(0.3))
    lesions = read_tsv(tmp_path / "out" / "p2_swi_lesions.tsv")
    assert len(lesions) == ndimage.label(mask, np.ones((3, 3, 3)))[1]
    for row in lesions:
        voxel = nib.affines.apply_affine(np.linalg.inv(image.affine), [float(row[f"{a}_mm"]) for a in "xyz"])
        assert np.abs(voxel - [int(row[a]) for a in "ijk"]).max() <= 0.5 + 1e-6
    record = json.loads((tmp_path / "out" / "p2_swi.json").read_text())
    assert record["sequences_missing"] == ["gre_mag"]
    assert record["inputs"][0]["file"] == "p2_swi.nii.gz"
    assert (tmp_path / "out" / "p2_swi_overlay.png").is_file()


def test_a_finished_case_is_not_predicted_twice_and_a_bad_one_stops_nobody(trained, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    scans = trained.cohort / "centreA"
    shutil.copy(scans / "p0" / "visit1" / "scans" / "p0-susc.nii.gz", folder / "good_0000.nii.gz")
    whole = (scans / "p1" / "visit1" / "scans" / "p1-susc.nii.gz").read_bytes()
    (folder / "cut_0000.nii.gz").write_bytes(whole[: len(whole) // 2])
    assert run_predict(trained, tmp_path / "out", folder) == 1
    counts = {row["case"]: row for row in read_tsv(tmp_path / "out" / "counts.tsv")}
    assert (counts["good"]["status"], counts["cut"]["status"]) == ("done", "failed")
    assert counts["cut"]["n_lesions"] == "n/a"
    assert "truncated" in read_tsv(tmp_path / "out" / "failures.tsv")[0]["reason"]
    assert not list((tmp_path / "out").glob("cut*"))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("good*")}
    assert run_predict(trained, tmp_path / "out", folder) == 1
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("good*")}
    assert read_json(tmp_path / "out" / "run.json")["skipped_as_finished"] == ["good"]
    assert run_predict(trained, tmp_path / "out", folder, "--operating-point", "0.9") == 1
    assert read_json(tmp_path / "out" / "run.json")["skipped_as_finished"] == []


def test_a_card_predicts_and_its_predictions_of_unseen_people_are_scored(trained, tmp_path, capsys):
    assert run_predict(trained, tmp_path / "out", trained.cohort / "card.yaml", "-f", "0") == 0
    where = ["-p", str(tmp_path / "out"), "-o", str(tmp_path / "scores"), "--reference"]
    fold = read_json(trained.model / "fold_0" / "fold.json")
    assert evaluate.main([*where, str(trained.raw / "labelsTr")]) == 2
    assert f"has learned from {sorted(fold['training_cases'])[0]}" in capsys.readouterr().err
    (tmp_path / "masks").mkdir()
    for case in fold["validation_cases"]:
        shutil.copy(trained.raw / "labelsTr" / f"{case}.nii.gz", tmp_path / "masks")
    assert evaluate.main([*where, str(tmp_path / "masks")]) == 0
    metrics = read_json(tmp_path / "scores" / "metrics.json")
    assert metrics["n_cases"] == len(fold["validation_cases"])
    assert metrics["n_lesions"] == sum(len(trained.truth[case]) for case in fold["validation_cases"])


def test_the_split_of_a_card_chooses_its_cases(trained, tmp_path, capsys):
    assert run_predict(trained, tmp_path / "out", trained.cohort / "card.yaml", "--split", "test") == 2
    assert "no usable case" in capsys.readouterr().err


HIDING = """\
schema: 1
name: Hidden
root: people
case: "{sub}"
images:
  S: {role: swi, path: "{sub:\\\\d{5}}/CMB{sub}{rest:.*}.nii.gz"}
labels: {}
prep: {brain: none}
privacy: {hash_ids: true}
"""


@pytest.mark.parametrize("layout", [(), ("--bids",)])
def test_no_identifier_of_a_card_with_pseudonyms_is_written(trained, tmp_path, capsys, layout):
    scans = trained.cohort / "centreA"
    for sub, rest in (("77810", "-19400102"), ("77811", "")):
        (tmp_path / "people" / sub).mkdir(parents=True)
        shutil.copy(
            scans / "p0" / "visit1" / "scans" / "p0-susc.nii.gz", tmp_path / "people" / sub / f"CMB{sub}{rest}.nii.gz"
        )
    cut = tmp_path / "people" / "77811" / "CMB77811.nii.gz"
    cut.write_bytes(cut.read_bytes()[:500])
    (tmp_path / "card.yaml").write_text(HIDING)
    where = ("--workspace", str(tmp_path / "w"))
    capsys.readouterr()

    assert run_predict(trained, tmp_path / "out", tmp_path / "card.yaml", "-f", "0", *where, *layout) == 1

    said = capsys.readouterr()
    assert convert.main([str(tmp_path / "card.yaml"), "-d", "7", *where]) == 1
    (row,) = read_tsv(tmp_path / "w" / "raw" / "Dataset007_Hidden" / "cases.tsv")
    assert f"{row['case']}: " in said.out
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert any(row["case"] in path.name for path in files)
    texts = {path: path.read_text() for path in files if path.suffix in (".json", ".tsv", ".jsonl", ".txt", ".log")}
    assert any("truncated" in text for text in texts.values())
    for text in (said.out, said.err, *map(str, files), *texts.values()):
        for secret in ("77810", "77811", "19400102"):
            assert secret not in text


def test_our_probabilities_are_plain_nnunets(trained, tmp_path):
    from cmb_autoseg._nnunet import nnunet_environment
    from cmb_autoseg.geometry import read_volume
    from cmb_autoseg.inference.patches import PatchEnsemble
    from cmb_autoseg.records import Role

    with nnunet_environment():
        from nnunetv2.imageio.nibabel_reader_writer import NibabelIO
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

        predictor = nnUNetPredictor(1.0, use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str(trained.model), (0, 1, 2, 3, 4))
        files = [trained.raw / "imagesTr" / f"p2_1_000{channel}.nii.gz" for channel in (0, 1)]
        images, properties = NibabelIO().read_images(list(map(str, files)))
        _, theirs = predictor.predict_single_npy_array(images, properties, None, None, True)
    volumes = {role: read_volume(files[index]) for index, role in enumerate((Role.SWI, Role.GRE_MAG))}
    ours = PatchEnsemble(trained.model, None, "cpu").probability(volumes).data.transpose(2, 1, 0)
    brain = (images != 0).any(axis=0)
    assert np.abs(ours - theirs[1])[brain].max() < 1e-3
    assert not ours[~brain].any()
    assert theirs[1].std() > 1e-3


def test_folds_of_another_schedule_are_not_mixed(trained, capsys):
    where = ["-d", "501", "--workspace", str(trained.workspace), "-device", "cpu"]
    assert train.main([*where, "-r", str(trained.recipe), "-f", "0", "--epochs", "7"]) == 2
    assert "another recipe or schedule" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["plans.json", "fold"])
def test_models_that_are_none_or_foreign_are_refused(trained, tmp_path, capsys, part):
    model = tmp_path / "model"
    source = trained.cohort / "centreA" / "p2" / "visit1" / "scans" / "p2-susc.nii.gz"
    shutil.copytree(trained.model, model, ignore=shutil.ignore_patterns("crossvalidation"))
    if part == "fold":
        for fold in model.glob("fold_*"):
            shutil.rmtree(fold)
        expected = "no checkpoint"
    else:
        plans = read_json(model / "plans.json")
        plans["configurations"]["3d"]["architecture"]["network_class_name"] = "evil.Network"
        (model / "plans.json").write_text(json.dumps(plans))
        expected = "foreign code"
    out = tmp_path / "out"
    assert predict.main(["-i", str(source), "-o", str(out), "-m", str(model), "-device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert not out.exists()


def test_models_of_the_workspace_are_listed_with_what_they_have_seen(trained, capsys):
    assert models.main(["--workspace", str(trained.workspace), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)["Dataset501_Elsewhere, tiny"]
    assert facts["choice"] == f"-d 501 -r tiny --workspace {trained.workspace}"
    assert facts["sequences"] == ["swi", "gre_mag"]
    assert facts["voxel_mm"] == [[1.0, 1.0], [1.0, 1.0], [2.0, 2.0]]
    assert facts["learned_from"] == {"subjects": 6, "cases": 7, "lesions": sum(map(len, trained.truth.values()))}
    assert models.main(["-m", str(trained.model)]) == 0
    said = capsys.readouterr().out
    assert "1.00 x 1.00 x 2.00 mm (x, y, z)" in said
    assert "Not a medical device" in said
