"""Which folder the user means; what is in it is tested through the commands."""

import json
import re
from pathlib import Path

import pytest

from cmb_autoseg.cli import explain, predict
from cmb_autoseg.errors import InputError
from cmb_autoseg.inference import model_choice
from cmb_autoseg.inference.model_choice import absent_folds, find_model
from cmb_autoseg.inference.model_folder import operating_point, trained_settings
from cmb_autoseg.workspace import Workspace


@pytest.fixture
def workspace(tmp_path):
    """One dataset with a model of each preset under `both`, and one of s0 alone under `publication`."""
    (tmp_path / "raw" / "Dataset501_A").mkdir(parents=True)
    for name in ("both", "both_s0", "publication_s0"):
        folder = tmp_path / "results" / "Dataset501_A" / f"CMBTrainer__{name}__3d"
        folder.mkdir(parents=True)
        (folder / "plans.json").write_text("{}")
        (folder / "fold_0").mkdir()
        (folder / "fold_0" / "checkpoint_final.pth").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("recipe", "preset", "name"),
    [
        ("both", None, "both"),
        ("both", "adaptive", "both"),
        ("both", "s0", "both_s0"),
        ("publication", None, "publication_s0"),
    ],
)
def test_the_adaptive_model_goes_first_where_no_preset_is_named(workspace, recipe, preset, name):
    assert find_model(None, "501", recipe, preset, workspace).name == f"CMBTrainer__{name}__3d"


def test_a_model_that_is_not_there_says_how_it_is_trained(workspace):
    with pytest.raises(InputError, match=r"publication_s0\); did you mean -p s0\? Else run .*-r publication -p ad"):
        find_model(None, "501", "publication", "adaptive", workspace)


def test_a_model_of_which_no_fold_is_finished_is_not_proposed(workspace):
    fold = workspace / "results" / "Dataset501_A" / "CMBTrainer__both__3d" / "fold_0"
    (fold / "checkpoint_final.pth").rename(fold / "checkpoint_latest.pth")
    with pytest.raises(InputError, match=r"\(trained: both_s0, publication_s0\); did you mean -p s0\? Else run"):
        find_model(None, "501", "publication", "adaptive", workspace)
    (workspace / "results" / "Dataset501_A" / "CMBTrainer__both_s0__3d" / "fold_0" / "checkpoint_final.pth").unlink()
    with pytest.raises(InputError, match=r"\(trained: publication_s0\); did you mean -r publication -p s0\? Else run"):
        find_model(None, "501", "mine", None, workspace)
    for path in workspace.glob("results/*/*/fold_0/checkpoint_final.pth"):
        path.unlink()
    with pytest.raises(InputError, match=r"-r mine: not trained on Dataset501_A \(trained: none\); run cmb_train"):
        find_model(None, "501", "mine", None, workspace)


def recipe_file(folder, name):
    path = folder / "anything.yaml"
    path.write_text(f"name: {name}\ndescription: b\nepochs: 1\nsteps_per_epoch: 1\n")
    return str(path)


def test_the_file_of_a_recipe_names_its_model(workspace, tmp_path):
    path = recipe_file(tmp_path, "both")
    assert find_model(None, "501", path, None, workspace).name == "CMBTrainer__both__3d"
    with pytest.raises(InputError, match=r"-r .*anythin\.yaml: no such file; did you mean .*anything\.yaml\?"):
        find_model(None, "501", path.replace("anything", "anythin"), None, workspace)


def test_the_starter_model_has_no_folder_to_be_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="-m starter: the starter model is taken where there is neither -m nor -d"):
        find_model(Path("starter"), None, None, None, None)


def test_a_model_of_nearly_that_name_is_proposed(workspace):
    with pytest.raises(InputError, match=r"did you mean -r publication -p s0\? Else run cmb_train .*-r publicaton_s0"):
        find_model(None, "501", "publicaton_s0", None, workspace)


@pytest.mark.parametrize("command", [predict, explain])
def test_the_cure_trains_the_folds_and_the_recipe_that_were_asked_for(command, workspace, tmp_path, capsys):
    (tmp_path / "scan.nii.gz").touch()
    where = ["-i", str(tmp_path / "scan.nii.gz"), "-o", str(tmp_path / "out"), "--workspace", str(workspace)]
    recipe = recipe_file(tmp_path, "mine")
    assert command.main([*where, "-d", "501", "-r", recipe, "-f", "3", "1"]) == 2
    assert capsys.readouterr().err.rstrip().endswith(f"run cmb_train -d 501 -r {recipe} -f 3 1")
    assert command.main([*where, "-d", "501", "-r", "mine"]) == 2
    assert capsys.readouterr().err.rstrip().endswith("run cmb_train -d 501 -r mine -f all")


@pytest.mark.parametrize(
    ("wanted", "cure"),
    [
        ("abc", "name it as 501, NAME or Dataset501_NAME, or convert one with cmb_convert CARD -d 501"),
        ("1000", "name it as 501, NAME or Dataset501_NAME, or convert one with cmb_convert CARD -d 501"),
        ("502", "convert one with cmb_convert CARD -d 502"),
        ("Dataset502_B", "convert one with cmb_convert CARD -d Dataset502_B"),
        ("A", "more than one dataset of that name (Dataset501_A, Dataset502_A)"),
    ],
)
def test_a_dataset_that_is_not_there_is_told_with_a_cure_that_works(workspace, wanted, cure):
    if wanted == "A":
        (workspace / "raw" / "Dataset502_A").mkdir()
    with pytest.raises(InputError, match=re.escape(cure)) as raised:
        Workspace(workspace).dataset(wanted)
    assert (f"-d {wanted}" in cure) == ("CARD -d " + wanted in str(raised.value))


def test_without_a_word_it_is_the_model_of_the_package(workspace, monkeypatch):
    assert find_model(None, None, None, None, workspace) == model_choice.STARTER_MODEL
    monkeypatch.setattr(model_choice, "STARTER_MODEL", workspace / "none")
    with pytest.raises(InputError, match="no model given"):
        find_model(None, None, None, None, workspace)


def test_two_models_are_refused(workspace):
    with pytest.raises(InputError, match="-r both: found without -d"):
        find_model(None, None, "both", None, workspace)
    with pytest.raises(InputError, match="found both"):
        find_model(workspace, "501", "both", None, workspace)
    with pytest.raises(InputError, match="-m and -r both: found both"):
        find_model(workspace, None, "both", None, workspace)


def test_half_a_file_of_a_model_is_cured_by_another_copy(workspace):
    model = workspace / "results" / "Dataset501_A" / "CMBTrainer__both__3d"
    (model / "plans.json").write_text('{"cmb_autoseg": {"plan"')
    with pytest.raises(InputError, match=r"plans.json: not readable as JSON .*; copy the model folder again, whole"):
        trained_settings(model)


@pytest.mark.parametrize("content", ["{}", "[]", '{"cmb_autoseg": null}', '{"cmb_autoseg": {}}'])
def test_plans_without_what_the_model_was_trained_by_name_the_file_and_the_cure(workspace, content):
    model = workspace / "results" / "Dataset501_A" / "CMBTrainer__both__3d"
    (model / "plans.json").write_text(content)
    with pytest.raises(InputError, match=r"both__3d/plans.json: lacks the key .* or move the folder away"):
        trained_settings(model)
    with pytest.raises(InputError, match=r"both__3d/plans.json: lacks the key"):
        operating_point(model, "balanced")


def test_a_model_of_a_comparison_is_not_to_be_finalized(tmp_path):
    folder = tmp_path / "cmp" / "models" / "Dataset501_A" / "CMBTrainer__mine-seed0-budget1__3d"
    folder.mkdir(parents=True)
    (tmp_path / "cmp" / "comparison.json").write_text("{}")
    with pytest.raises(
        InputError, match=r"has no operating points yet; give a probability like 0\.5: it is a model of"
    ):
        operating_point(folder, "counting")
    assert operating_point(folder, "0.4").threshold == 0.4


@pytest.mark.parametrize(
    ("finished", "begun", "card", "absent"),
    [
        ((0, 1, 2), (), (), ()),
        ((0, 2), (), (), (1,)),  # a folder that was not copied
        ((0, 1), (3,), (), (2, 3)),  # a training that was not finished
        ((0, 1), (), (0, 1, 2), (2,)),  # the card knows of one more
        ((1,), (), (), (0,)),
    ],
)
def test_folds_that_are_not_there_are_known(tmp_path, finished, begun, card, absent):
    for fold in (*finished, *begun):
        (tmp_path / f"fold_{fold}").mkdir()
    for fold in finished:
        (tmp_path / f"fold_{fold}" / "checkpoint_final.pth").touch()
    if card:
        (tmp_path / "model.json").write_text(json.dumps({"folds": {str(fold): "x" for fold in card}}))
    assert absent_folds(tmp_path) == absent


def test_a_damaged_card_names_no_folds(tmp_path):
    (tmp_path / "fold_0").mkdir()
    (tmp_path / "fold_0" / "checkpoint_final.pth").touch()
    (tmp_path / "model.json").write_text('{"folds": {"0"')
    assert absent_folds(tmp_path) == ()
