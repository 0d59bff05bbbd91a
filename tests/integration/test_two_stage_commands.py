"""A second stage behind a small model of patches, through the commands."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from cmb_autoseg.cli import explain, finalize, predict, train
from cmb_autoseg.files import read_tsv
from cmb_autoseg.geometry import read_volume
from cmb_autoseg.inference.ensemble import Prediction
from cmb_autoseg.inference.loading import load_ensemble
from cmb_autoseg.trainers.candidates.candidates import propose

RECIPE = """\
schema: 1
name: {name}
description: seconds, for tests
epochs: 2
steps_per_epoch: 3
batch_size: 8
optimizer: {{learning_rate: 1.0e-3}}
two_stage:
  first: {first}
  threshold: 0.02
  candidates_per_case: 12
  random_places: 4
  second: {second}
  window_mm: 12
  window_pixels: 16
  slices: 3
  features: [4, 8]
  fusion: second
"""


@pytest.fixture(scope="module")
def workspace(trained, tmp_path_factory):
    """A copy of the workspace with the tiny model, so that other tests do not meet ours."""
    there = tmp_path_factory.mktemp("two_stage") / "workspace"
    shutil.copytree(trained.workspace, there)
    return there


def recipe_file(folder, name="second_look", first="tiny", second="yolo", **changes):
    path = folder / f"{name}.yaml"
    text = RECIPE.format(name=name, first=first, second=second)
    for old, new in changes.items():
        text = text.replace(old, new)
    path.write_text(text)
    return path


def model_of(workspace, name="second_look"):
    return workspace / "results" / "Dataset501_Elsewhere" / f"CMBTrainer__{name}__3d"


def where(workspace):
    return ["-d", "501", "--workspace", str(workspace), "-device", "cpu"]


@pytest.fixture(scope="module")
def second_look(workspace):
    """All five folds and what `-f all` ends with."""
    assert train.main([*where(workspace), "-r", str(recipe_file(workspace.parent)), "-f", "all"]) == 0
    return model_of(workspace)


def test_five_folds_end_in_a_model_card_and_operating_points(second_look):
    for fold in range(5):
        curves = read_tsv(second_look / f"fold_{fold}" / "progress.tsv")
        assert len(curves) == 2
        precision = curves[-1]["validation_average_precision"]
        assert precision == "n/a" or 0 <= float(precision) <= 1  # undefined where no candidate is right
        record = json.loads((second_look / f"fold_{fold}" / "fold.json").read_text())
        assert not {*record["training_subjects"]} & {*record["validation_subjects"]}
    assert json.loads((second_look / "model.json").read_text())["recipe"] == "second_look"
    assert (second_look / "operating_points.json").is_file()
    assert (second_look / "crossvalidation" / "metrics.json").is_file()


def test_a_copied_model_predicts_without_its_first_stage_beside_it(second_look, trained, tmp_path):
    model = tmp_path / "elsewhere" / "model"
    shutil.copytree(second_look, model, ignore=shutil.ignore_patterns("crossvalidation"))
    scan = trained.raw / "imagesTr"
    inputs = tmp_path / "scans"
    inputs.mkdir()
    for path in sorted(scan.glob("*p1_1_000?.nii.gz")):
        shutil.copy(path, inputs)
    assert list(inputs.iterdir())
    for out in ("one", "two"):
        arguments = ["-i", str(inputs), "-o", str(tmp_path / out), "-m", str(model), "-device", "cpu"]
        assert predict.main([*arguments, "--operating-point", "0.1"]) == 0
    first, second = (next((tmp_path / out).glob("*_prob.nii.gz")) for out in ("one", "two"))
    assert first.read_bytes() == second.read_bytes()
    values = np.asarray(nib.load(first).dataobj)
    assert values.shape == (40, 44, 14)
    assert 0 <= values.min() <= values.max() <= 1


def test_what_is_predicted_is_the_first_stages_map_with_fused_peaks(second_look, trained, monkeypatch):
    ensemble = load_ensemble(second_look, (0, 3), "cpu")
    alone = load_ensemble(model_of(second_look.parents[2], "tiny"), (0,), "cpu")
    per_fold = sum(values.numel() for values in ensemble.networks[0].parameters())
    assert ensemble.n_parameters == alone.n_parameters + per_fold
    scan = read_volume(next(trained.raw.glob("imagesTr/*p1_1_0000.nii.gz")))
    volumes = {ensemble.channels[0]: scan}
    proposed = np.full(scan.shape, 0.01, dtype=np.float32)
    proposed[10, 20, 5], proposed[11, 20, 5], proposed[30, 30, 8] = 0.8, 0.4, 0.3
    maps = iter((proposed, np.zeros_like(proposed)))
    monkeypatch.setattr(ensemble.first, "predict", lambda _: Prediction(scan.with_data(next(maps))))
    found = ensemble.probability(volumes)
    candidates = propose(scan.with_data(proposed), 0.02, 12)
    second = ensemble.second_scores(volumes, candidates)
    assert found.data[10, 20, 5] == pytest.approx(second[0], abs=1e-6)
    assert found.data[11, 20, 5] == pytest.approx(second[0] / 2, abs=1e-6)
    assert found.data[30, 30, 8] == pytest.approx(second[1], abs=1e-6)
    assert found.data[0, 0, 0] == pytest.approx(0.01 * 0.5, abs=1e-6)
    assert not ensemble.probability(volumes).data.any()  # nothing is proposed


def test_a_damaged_folder_is_told_in_one_line(second_look, trained, tmp_path, capsys):
    model = tmp_path / "model"
    shutil.copytree(second_look, model, ignore=shutil.ignore_patterns("crossvalidation"))
    shutil.rmtree(model / "first_stage")
    scans = ["-i", str(trained.raw / "imagesTr"), "-o", str(tmp_path / "out"), "-m", str(model), "-device", "cpu"]
    assert predict.main([*scans, "--operating-point", "0.1"]) == 2
    message = capsys.readouterr().err
    assert "first_stage: no plans.json" in message
    assert f"is a part of {model}: copy that model folder again, whole" in message
    assert "check -m" not in message


def test_a_first_stage_of_another_training_is_told(second_look, trained, tmp_path, capsys):
    model = tmp_path / "model"
    shutil.copytree(second_look, model, ignore=shutil.ignore_patterns("crossvalidation"))
    first = model / "first_stage"
    (first / "fold_1" / "checkpoint_final.pth").unlink()
    shutil.copy(first / "fold_0" / "checkpoint_final.pth", first / "fold_1")
    scans = ["-i", str(trained.raw / "imagesTr"), "-o", str(tmp_path / "out"), "-m", str(model), "-device", "cpu"]
    assert predict.main([*scans, "--operating-point", "0.1"]) == 2
    message = capsys.readouterr().err
    assert f"{first / 'fold_1' / 'checkpoint_final.pth'}: another one than fold 1 was made with" in message
    assert "copy the model again, whole" in message


def test_it_has_no_heat_maps(second_look, trained, tmp_path, capsys):
    arguments = ["-i", str(trained.raw / "imagesTr"), "-o", str(tmp_path), "-m", str(second_look), "-device", "cpu"]
    assert explain.main(arguments) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_finished_fold_is_left_as_it_is(second_look, workspace):
    checkpoint = second_look / "fold_0" / "checkpoint_final.pth"
    before = checkpoint.stat().st_mtime_ns
    assert train.main([*where(workspace), "-r", str(recipe_file(workspace.parent)), "-f", "0"]) == 0
    assert checkpoint.stat().st_mtime_ns == before


def test_a_damaged_map_of_the_first_stage_is_told_with_the_cure_and_made_again(second_look, workspace, capsys):
    path = next((model_of(workspace, "tiny") / "crossvalidation").glob("*p1_1_prob.nii.gz"))
    whole = path.read_bytes()
    path.write_bytes(whole[:200])
    arguments = [*where(workspace), "-r", str(recipe_file(workspace.parent, "second_try")), "-f", "0"]
    assert train.main(arguments) == 2
    message = capsys.readouterr().err
    assert f"{path}: " in message
    assert "delete it and run the same command again" in message
    path.unlink()
    assert train.main(arguments) == 0
    assert path.read_bytes() == whole


def test_the_classifier_takes_the_same_way(workspace, trained):
    path = recipe_file(
        workspace.parent,
        "second_cube",
        second="classifier3d",
        **{"  slices: 3\n": "", "window_pixels: 16": "window_pixels: 32"},
    )
    assert train.main([*where(workspace), "-r", str(path), "-f", "1"]) == 0
    assert (model_of(workspace, "second_cube") / "fold_1" / "checkpoint_final.pth").is_file()


def test_a_first_stage_that_is_not_trained_is_named_with_the_command(workspace, capsys):
    path = recipe_file(workspace.parent, "second_nothing", first="supervised")
    assert train.main([*where(workspace), "-r", str(path), "-f", "0"]) == 2
    message = capsys.readouterr().err
    assert "is built on supervised, which is not trained" in message
    assert "cmb_train -d 501 -r supervised" in message
    assert not model_of(workspace, "second_nothing").exists()


def test_a_first_stage_with_folds_missing_is_named_with_the_command(workspace, capsys):
    shutil.copytree(model_of(workspace, "tiny"), model_of(workspace, "torso"))
    shutil.rmtree(model_of(workspace, "torso") / "fold_3")
    path = recipe_file(workspace.parent, "second_torso", first="torso")
    assert train.main([*where(workspace), "-r", str(path), "-f", "0"]) == 2
    message = capsys.readouterr().err
    assert "recipe second_torso: is built on torso, of which fold 3 is not trained; run cmb_train -d 501 -r" in message


def test_a_recipe_built_on_itself_is_refused(workspace, capsys):
    path = recipe_file(workspace.parent, "ouroboros", first="ouroboros")
    assert train.main([*where(workspace), "-r", str(path), "-f", "0"]) == 2
    assert "built on itself" in capsys.readouterr().err


def test_a_second_stage_behind_a_second_stage_carries_both(second_look, workspace):
    path = recipe_file(workspace.parent, "third_look", first="second_look")
    assert train.main([*where(workspace), "-r", str(path), "-f", "2"]) == 0
    inner = model_of(workspace, "third_look") / "first_stage"
    assert (inner / "fold_2" / "checkpoint_final.pth").is_file()
    assert (inner / "first_stage" / "fold_2" / "checkpoint_final.pth").is_file()
    assert finalize.main([*where(workspace), "-r", "third_look"]) == 2  # four folds are missing
