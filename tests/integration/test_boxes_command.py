"""Pictures with boxes and no volumes, from the first command to the last, by a reduced detector with enhancement."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from cmb_autoseg.cli import convert, evaluate, explain, plan_preprocess, predict, train
from cmb_autoseg.files import read_tsv
from cmb_autoseg.geometry import read_volume

SIZE, SLICES, PIXEL_MM, SLICE_MM = 72, 6, 1.0, 4.0
SIDES = ("x_min", "y_min", "x_max", "y_max")
RECIPE = """\
schema: 1
name: ssd_tiny
description: seconds, for tests
epochs: 1
steps_per_epoch: 2
validation_steps: 1
batch_size: 2
boxes:
  size: 300
  width: 0.02
  feature_enhancement: true
  min_score: 0.001
  boxes_per_slice: 20
"""


def people():
    """By name the dots (column, row, slice, radius in pixels); p6 and p7 have none."""
    rng = np.random.default_rng(3)
    dots = {}
    for number in range(8):
        n = (2, 1, 3, 1, 2, 1, 0, 0)[number]
        middles = rng.choice([22, 30, 38, 46], size=(n, 2))
        dots[f"p{number}"] = [(int(x), int(y), 1 + place, 2.5) for place, (x, y) in enumerate(middles)]
    return dots


TEST = {name: people()[name] for name in ("p5", "p7")}


def write_pictures(root, dots_of):
    rng = np.random.default_rng(0)
    for part in ("images", "labels", "slices"):
        (root / part).mkdir(parents=True)
    y, x = np.mgrid[:SIZE, :SIZE]
    for name, dots in dots_of.items():
        rows = []
        for index in range(SLICES):
            height = (index - (SLICES - 1) / 2) / (SLICES / 2)
            brain = ((x - 35.5) ** 2 + (y - 35.5) ** 2) / 32**2 + height**2 < 1
            grey = np.where(brain, 150 + rng.normal(0, 6, brain.shape), 0)
            lines = []
            for column, row, slice_, radius in dots:
                if slice_ == index:
                    grey[(x - column) ** 2 + (y - row) ** 2 <= radius**2] = 30
                    side = (2 * radius + 2) / SIZE
                    lines.append(f"0 {(column + 0.5) / SIZE:.6f} {(row + 0.5) / SIZE:.6f} {side:.6f} {side:.6f}\n")
            stem = f"{name}_{index:03d}"
            Image.fromarray(grey.clip(0, 255).astype(np.uint8)).save(root / "images" / f"{stem}.jpg", quality=95)
            (root / "labels" / f"{stem}.txt").write_text("".join(lines))
            rows.append((f"{stem}.jpg", 0.0, 0.0, index * SLICE_MM, PIXEL_MM, SLICE_MM))
        with (root / "slices" / f"{name}.tsv").open("w", newline="") as file:
            writer = csv.writer(file, delimiter="\t")
            writer.writerows([("image", "x_mm", "y_mm", "z_mm", "pixel_mm", "slice_mm"), *rows])
    (root / "recipe.yaml").write_text(RECIPE)
    split = {name: "test" if name in TEST else "train" for name in dots_of}
    (root / "card.yaml").write_text(
        "schema: 1\nname: PICTURES\nextends: slices_boxes\nroot: .\n"
        f"meta: {{split: {{from: sub, map: {json.dumps(split)}}}}}\nprep: {{brain: auto}}\n"
    )


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """A cohort of pictures, the workspace with a model of five folds, and the predictions of its test cases."""
    base = tmp_path_factory.mktemp("pictures")
    write_pictures(base / "cohort", people())
    write_pictures(base / "new", TEST)
    where = ["-d", "511", "--workspace", str(base / "workspace"), "-device", "cpu"]
    assert plan_preprocess.main([*where, "-c", str(base / "cohort" / "card.yaml")]) == 0
    assert train.main([*where, "-r", str(base / "cohort" / "recipe.yaml"), "-f", "all"]) == 0
    asked = ["-i", str(base / "new" / "card.yaml"), "-o", str(base / "predictions"), "-r", "ssd_tiny"]
    assert predict.main([*where, *asked]) == 0
    return base


def raw(base):
    return base / "workspace" / "raw" / "Dataset511_PICTURES"


def judged(base, out, *more):
    return evaluate.main(
        [
            *("-p", str(base / "predictions"), "--predicted-kind", "boxes", "--protocol", "iou"),
            *("--reference", str(raw(base) / "boxesTs"), "-o", str(base / out), "--resamples", "0", *more),
        ]
    )


def test_five_folds_become_a_model_with_operating_points(detector):
    model = detector / "workspace" / "results" / "Dataset511_PICTURES" / "CMBTrainer__ssd_tiny__3d"
    assert {path.name for path in model.glob("fold_*")} == {f"fold_{n}" for n in range(5)}
    assert (model / "model.json").is_file()
    assert {point["name"] for point in json.loads((model / "operating_points.json").read_text())} >= {"counting"}
    assert "validation_ap" in (model / "fold_0" / "progress.tsv").read_text()


def test_boxes_of_labels_are_kept_as_they_were_drawn(detector):
    """p5 has one dot of radius 2.5 with a margin: 7 pixels, from 3 before its middle to 3 behind."""
    column, row, index, _ = people()["p5"][0]
    (box,) = read_tsv(raw(detector) / "boxesTs" / "p5_boxes.tsv")
    assert [int(value) for value in box.values()] == [index, column - 3, row - 3, column + 4, row + 4]
    assert read_tsv(raw(detector) / "boxesTs" / "p7_boxes.tsv") == []
    assert len(list((raw(detector) / "boxesTr").iterdir())) == 6


def test_predicted_boxes_lie_in_the_pictures_and_agree_with_the_map(detector):
    rows = read_tsv(detector / "predictions" / "p5_boxes.tsv")
    assert rows
    probability = read_volume(detector / "predictions" / "p5_prob.nii.gz")
    assert probability.shape == (SIZE, SIZE, SLICES)
    for row in rows:
        x_min, y_min, x_max, y_max, score = (float(row[key]) for key in (*SIDES, "score"))
        assert 0 <= x_min < x_max <= SIZE
        assert 0 <= y_min < y_max <= SIZE
        at = tuple(min(SIZE - 1, int((low + high) / 2)) for low, high in ((x_min, x_max), (y_min, y_max)))
        near = probability.data[at[0] - 1 : at[0] + 2, at[1] - 1 : at[1] + 2, int(row["slice"])]
        assert near.max() >= score - 1e-5
    record = json.loads((detector / "predictions" / "p5.json").read_text())
    assert record["n_boxes"] == len(rows)


def test_a_finished_case_whose_boxes_are_gone_is_predicted_again(detector, tmp_path):
    shutil.copytree(detector / "predictions", tmp_path / "predictions")
    boxes = tmp_path / "predictions" / "p5_boxes.tsv"
    before = boxes.read_bytes()
    boxes.unlink()
    where = ["-d", "511", "--workspace", str(detector / "workspace"), "-device", "cpu"]
    asked = ["-i", str(detector / "new" / "card.yaml"), "-o", str(tmp_path / "predictions"), "-r", "ssd_tiny"]
    assert predict.main([*where, *asked]) == 0
    assert boxes.read_bytes() == before


def test_a_cohort_of_boxes_gets_ap_froc_and_counts_a_patient(detector):
    assert judged(detector, "scores", "--need", "lesion.ap", "lesion.froc_area", "patient.auc") == 0
    metrics = json.loads((detector / "scores" / "metrics.json").read_text())
    assert metrics["protocol"] == "iou"
    assert 0 <= metrics["lesion"]["average_precision"]["value"] <= 1
    assert metrics["lesion"]["froc"]["sensitivity"]
    assert sum(metrics["patient"]["counts"]["any"].values()) == 2
    assert metrics["voxel"]["dice"]["value"] is None


def test_boxes_of_any_score_are_told_and_a_threshold_ends_that(detector, tmp_path, capsys):
    rows = ["1\t20\t20\t27\t27\t0.02", "2\t40\t40\t47\t47\t0.9"]
    (tmp_path / "p").mkdir()
    for name, lines in (("p5", rows), ("p7", [])):
        text = "\n".join(["\t".join(("slice", *SIDES, "score")), *lines, ""])
        (tmp_path / "p" / f"{name}_boxes.tsv").write_text(text)
    sides = ["-p", str(tmp_path / "p"), "--reference", str(raw(detector) / "boxesTs"), "--protocol", "iou"]
    asked = [*sides, "--resamples", "0", "-o", str(tmp_path / "out")]
    assert evaluate.main(asked) == 0
    told = capsys.readouterr()
    assert told.err.count("no threshold: every prediction counts, and scores begin at 0.02 (1 of 2 below 0.5)") == 1
    assert "FROC, mean sensitivity" in told.out
    assert evaluate.main([*asked, "--threshold", "0.5"]) == 0
    assert "no threshold" not in capsys.readouterr().err


def test_voxel_figures_of_labels_that_are_boxes_are_told(detector, tmp_path, capsys):
    model = detector / "workspace" / "results" / "Dataset511_PICTURES" / "CMBTrainer__ssd_tiny__3d"
    told = "the labels of 6 of 6 cases are boxes, and their masks are the ellipses in these"
    assert told in (model / "crossvalidation" / "report.html").read_text()
    for path in (detector / "predictions").glob("*.nii.gz"):
        shutil.copy(path, tmp_path)
    sides = ["-p", str(tmp_path), "--reference", str(raw(detector) / "labelsTs")]
    assert evaluate.main([*sides, "-o", str(tmp_path / "scores"), "--resamples", "0"]) == 0
    assert told.replace("6 of 6", "2 of 2") in capsys.readouterr().err


def test_an_unknown_group_of_figures_is_told_with_all_groups(detector, capsys):
    assert judged(detector, "unknown", "--need", "zzzz.qqqq") == 2
    assert "groups are lesion, voxel, count, patient, severity, calibration, surface; " in capsys.readouterr().err


def test_a_detector_is_not_explained_even_before_it_is_finalized(detector, tmp_path, capsys):
    model = detector / "workspace" / "results" / "Dataset511_PICTURES" / "CMBTrainer__ssd_tiny__3d"
    shutil.copytree(model, tmp_path / "model")
    (tmp_path / "model" / "operating_points.json").unlink()
    asked = ["-i", str(detector / "new" / "card.yaml"), "-o", str(tmp_path / "out"), "-m", str(tmp_path / "model")]
    assert explain.main([*asked, "-device", "cpu"]) == 2
    assert "is a model of the kind boxes, and Grad-CAM explains models of 3D patches alone" in capsys.readouterr().err


def test_pictures_need_a_card(detector, tmp_path, capsys):
    where = ["-d", "511", "--workspace", str(detector / "workspace"), "-device", "cpu", "-r", "ssd_tiny"]
    assert predict.main([*where, "-i", str(detector / "new" / "images"), "-o", str(tmp_path / "out")]) == 2
    assert "holds pictures, which say neither whose they are nor how far apart" in capsys.readouterr().err


def test_dice_of_boxes_is_an_error_of_one_line(detector, capsys):
    assert judged(detector, "dice", "--need", "lesion.ap", "voxel.dice") == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert told == [
        "cmb_evaluate: error: --need voxel.dice: undefined for these cases: no case has voxels on both sides (points "
        "and boxes have none); give cases that have it, or leave the figure out of --need"
    ]
    assert not (detector / "dice").exists()


def test_an_unknown_figure_is_told_with_its_neighbors(detector, capsys):
    assert judged(detector, "unknown", "--need", "voxel.dise") == 2
    assert "--need voxel.dise: no such figure; did you mean voxel.dice" in capsys.readouterr().err
    assert not (detector / "unknown").exists()


def test_a_figure_that_only_scoring_shows_to_be_undefined_leaves_nothing(tmp_path, capsys):
    for side in ("found", "marked"):
        (tmp_path / side).mkdir()
        for name in TEST:
            (tmp_path / side / f"{name}_boxes.tsv").write_text("slice\tx_min\ty_min\tx_max\ty_max\n")
    asked = ["-p", str(tmp_path / "found"), "--reference", str(tmp_path / "marked"), "--protocol", "iou"]
    assert evaluate.main([*asked, "-o", str(tmp_path / "out"), "--resamples", "0", "--need", "lesion.sensitivity"]) == 2
    assert "--need lesion.sensitivity: undefined for these cases: no reference lesion" in capsys.readouterr().err
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_who_converts_boxes_is_told_that_masks_are_ellipses(tmp_path, capsys):
    write_pictures(tmp_path / "cohort", TEST)
    workspace = ["--workspace", str(tmp_path / "workspace")]
    assert convert.main(["-d", "512", *workspace, str(tmp_path / "cohort" / "card.yaml")]) == 0
    assert "PICTURES: its labels are boxes, and its masks the ellipses that fit into them" in capsys.readouterr().err


def test_pictures_that_were_learned_from_are_known_again(detector, tmp_path, capsys):
    """By their digest: a folder of new predictions gives no cohort that would tell people of one name apart."""
    write_pictures(tmp_path / "again", {"p1": people()["p1"]})
    for path in (tmp_path / "again").rglob("p1_*"):
        shutil.copyfile(detector / "cohort" / path.relative_to(tmp_path / "again"), path)
    where = ["-d", "511", "--workspace", str(detector / "workspace"), "-device", "cpu"]
    asked = ["-i", str(tmp_path / "again" / "card.yaml"), "-o", str(tmp_path / "predictions"), "-r", "ssd_tiny"]
    assert predict.main([*where, *asked]) == 0
    capsys.readouterr()
    record = json.loads((tmp_path / "predictions" / "p1.json").read_text())["inputs"][0]
    row = next(row for row in read_tsv(raw(detector) / "cases.tsv") if row["case"] == "p1")
    assert record["digest"] in row["source_digests"].split(";")
    assert f"({SLICES} pictures)" in row["source_files"]
    judged_again = ["-p", str(tmp_path / "predictions"), "--predicted-kind", "boxes", "--protocol", "iou"]
    reference = ["--reference", str(raw(detector) / "boxesTr"), "-o", str(tmp_path / "out"), "--resamples", "0"]
    assert evaluate.main([*judged_again, *reference]) == 2
    assert "has learned from" in capsys.readouterr().err
