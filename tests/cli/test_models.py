"""`cmb_models`."""

import shutil

import pytest

from cmb_autoseg.cli import models
from cmb_autoseg.inference import model_list
from cmb_autoseg.inference.model_choice import STARTER_MODEL


@pytest.fixture(autouse=True)
def no_starter(monkeypatch, tmp_path):
    monkeypatch.setattr(model_list, "STARTER_MODEL", tmp_path / "none")


def test_without_a_model_it_says_so(tmp_path, capsys):
    assert models.main(["--workspace", str(tmp_path)]) == 0
    assert "no trained model in" in capsys.readouterr().out


def test_a_folder_that_is_no_model_is_one_line(tmp_path, capsys):
    assert models.main(["-m", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "no plans.json" in said
    assert len(said.strip().splitlines()) == 1


def test_a_workspace_that_is_not_there_is_one_line(tmp_path, capsys):
    assert models.main(["--workspace", str(tmp_path / "elsewhere")]) == 2
    said = capsys.readouterr().err
    assert "no such folder" in said
    assert len(said.strip().splitlines()) == 1


def test_damaged_operating_points_are_one_line(tmp_path, capsys):
    model = tmp_path / "model"
    shutil.copytree(STARTER_MODEL, model)
    (model / "operating_points.json").write_text("[{")
    assert models.main(["-m", str(model)]) == 2
    said = capsys.readouterr().err
    assert "operating_points.json" in said
    assert len(said.strip().splitlines()) == 1


@pytest.fixture
def listed(monkeypatch):
    """What a model says of itself plays no part."""
    facts = {"finalized": True, "sequence_sets": [], "sequences": ["swi"], "folder": "x", "dataset": "x", "folds": [0]}
    facts |= {"voxel_mm": [[1, 1]] * 3, "field_strength_t": [], "brain_volume_ml": [1, 2], "snr": None}
    facts |= {"learned_from": {}, "began_with": [], "family": "slices", "licence": None, "intended_use": "x"}
    monkeypatch.setattr(model_list, "describe_model", lambda folder: facts)


@pytest.mark.parametrize(
    ("folder", "choice"),
    [
        ("Dataset501_SITE/CMBTrainer__supervised__3d", "-d 501 -r supervised --workspace '{root}'"),
        ("Dataset501_SITE/CMBTrainer__unet2d_s0__3d", "-d 501 -r unet2d -p s0 --workspace '{root}'"),
        ("DatasetX/CMBTrainer__supervised__3d", None),
        ("Dataset501_SITE/CMBTrainer__untrained__3d", None),
    ],
)
def test_what_is_to_be_typed_names_dataset_recipe_preset_and_workspace(tmp_path, capsys, listed, folder, choice):
    root = tmp_path / "my workspace"
    model = root / "results" / folder
    (model / "fold_0").mkdir(parents=True)
    (model / "plans.json").write_text("{}")
    if "untrained" not in folder:
        (model / "fold_0" / "checkpoint_final.pth").write_bytes(b"")
    assert models.main(["--workspace", str(root)]) == 0
    said = capsys.readouterr().out
    if choice is None:
        assert "no trained model in" in said
    else:
        assert f"cmb_predict -i SCANS -o OUT {choice.format(root=root)}\n" in said
        assert "--init" not in said  # it sees slices
