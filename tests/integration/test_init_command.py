"""`cmb_train --init`: a training that begins with all weights of a trained model."""

import shutil

import pytest
import torch

from cmb_autoseg.cli import train
from cmb_autoseg.files import read_json, write_json
from cmb_autoseg.inference.loading import load_ensemble
from cmb_autoseg.records import FoldModel
from cmb_autoseg.trainers.recipe import Recipe
from cmb_autoseg.workspace import Workspace

NEXT = """\
name: next_one
description: begins with another model's weights
epochs: 1
steps_per_epoch: 1
validation_steps: 1
batch_size: 1
optimizer: {learning_rate: 1.0e-12}
inference: {mirror: [], tile_step: 1.0}
"""


@pytest.fixture
def again(trained, tmp_path):
    """The prepared workspace without results, and the trained model as a folder of its own with one sequence more."""
    workspace = tmp_path / "workspace"
    for part in ("raw", "preprocessed"):
        shutil.copytree(trained.workspace / part, workspace / part)
    shutil.copytree(trained.model, tmp_path / "model")
    (tmp_path / "next.yaml").write_text(NEXT)
    return workspace, tmp_path / "model", tmp_path / "next.yaml"


def run(workspace, recipe, *more):
    words = ["-d", "501", "-f", "1", "-r", str(recipe), "--workspace", str(workspace), "-device", "cpu"]
    return train.main([*words, *map(str, more)])


def test_all_weights_come_from_the_model(again, capsys):
    workspace, model, recipe = again
    assert run(workspace, recipe, "--init", model) == 0
    assert "fold 1: model tiny of" in capsys.readouterr().err

    made = Workspace(workspace).dataset("501").model("next_one")
    begun = load_ensemble(model, None, "cpu")
    before = begun.checkpoint(begun.folds[1 % len(begun.folds)])["network_weights"]
    after = load_ensemble(made, None, "cpu").checkpoint(1)["network_weights"]
    assert before.keys() == after.keys()
    for name, values in before.items():  # one step at hardly any learning rate
        torch.testing.assert_close(after[name], values, atol=1e-6, rtol=0)
    record = FoldModel.read(made / "fold_1" / "fold.json")
    assert (record.encoder.name, record.encoder.method) == ("tiny", "segmentation")
    topology = Recipe.model_validate(read_json(made / "plans.json")["cmb_autoseg"]["recipe"]).network.topology
    assert topology.features_per_stage == (4, 8)


def test_folds_that_begin_otherwise_are_not_of_one_model(again, capsys):
    workspace, model, recipe = again
    assert run(workspace, recipe, "--init", model) == 0
    words = ["-d", "501", "-f", "0", "-r", str(recipe), "--workspace", str(workspace), "-device", "cpu"]
    assert train.main(words) == 2
    said = capsys.readouterr().err
    assert "folds of one model must share it" in said
    assert "--init MODEL_DIR (of tiny)" in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--init", "nowhere"), "--init nowhere: no such folder"),
        (("--init", "{model}", "--encoder", "x"), "--init and --encoder: found both"),
        (("--init", "{model}", "-r", "unet2d"), "recipe unet2d sees no 3D patches"),
        (("--init", "{model}", "-r", "ssl_mae"), "recipe ssl_mae begins with an encoder of its own"),
    ],
)
def test_what_cannot_be_begun_with_is_refused(again, capsys, options, words):
    workspace, model, recipe = again
    options = [option.format(model=model) for option in options]
    assert run(workspace, recipe, *options) == 2
    said = capsys.readouterr().err
    assert words in said
    assert len(said.strip().splitlines()) == 1
    assert not (workspace / "results").exists()


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        ("checkpoint_final.pth", "none of its folds is trained to the end"),
        ("fold.json", "lacks fold.json, which tells whom it learned from"),
    ],
)
def test_a_model_of_which_files_are_lost_is_refused(again, capsys, lost, words):
    workspace, model, recipe = again
    for path in model.glob(f"fold_*/{lost}"):
        path.unlink()
    assert run(workspace, recipe, "--init", model) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("name", ["tiny", "starter"])
def test_a_model_that_knows_those_it_is_judged_on_is_refused(again, capsys, name):
    workspace, model, recipe = again
    plans = read_json(model / "plans.json")
    plans["cmb_autoseg"]["recipe"]["name"] = name
    write_json(model / "plans.json", plans)
    path = model / "fold_1" / "fold.json"
    content = read_json(path)
    subjects = read_json(model / "fold_0" / "fold.json")["training_subjects"]
    write_json(path, {**content, "training_subjects": sorted({*content["training_subjects"], *subjects})})
    assert run(workspace, recipe, "--init", model) == 2
    said = capsys.readouterr().err
    assert f"model {name}: has learned from" in said
    assert "begin with one that has not" in said
