"""A 3D segmenter that is trained with feature enhancement: another training, the same network."""

import shutil

import pytest
import torch

from cmb_autoseg._nnunet import CONFIGURATION, nnunet_environment
from cmb_autoseg.cli import train
from cmb_autoseg.files import read_json
from cmb_autoseg.inference.loading import load_ensemble
from cmb_autoseg.trainers.patches.cmb_trainer import CMBTrainer

DATASET = "Dataset501_Elsewhere"
NETWORK = "network: {features: [4, 8]}"


@pytest.fixture(scope="module")
def enhanced(trained, tmp_path_factory):
    """The workspace with a second model of fold 0, and the recipes' text."""
    base = tmp_path_factory.mktemp("enhanced")
    for kind in ("raw", "preprocessed"):
        shutil.copytree(trained.workspace / kind, base / "workspace" / kind)
    recipe = trained.recipe.read_text().replace("name: tiny", "name: enhanced")
    changed = recipe.replace(NETWORK, "network: {features: [4, 8], feature_enhancement: {level: 1, beta: 1.5}}")
    assert changed != recipe
    (base / "enhanced.yaml").write_text(changed)
    assert train.main(arguments(base, "enhanced")) == 0
    return base


def arguments(base, name):
    where = ["-d", "501", "--workspace", str(base / "workspace"), "-device", "cpu"]
    return [*where, "-r", str(base / f"{name}.yaml"), "-f", "0"]


def model_of(base, name):
    return base / "workspace" / "results" / DATASET / f"CMBTrainer__{name}__3d"


def weights(model):
    return torch.load(model / "fold_0" / "checkpoint_final.pth", weights_only=True)["network_weights"]


def test_the_weights_differ_and_the_network_does_not(trained, enhanced):
    plain, ours = weights(trained.model), weights(model_of(enhanced, "enhanced"))
    assert {name: value.shape for name, value in ours.items()} == {name: value.shape for name, value in plain.items()}
    assert any(not torch.equal(ours[name], plain[name]) for name in plain)
    settings = read_json(model_of(enhanced, "enhanced") / "plans.json")
    assert settings["cmb_autoseg"]["recipe"]["network"]["feature_enhancement"] == {"level": 1, "beta": 1.5}


def test_nothing_of_it_is_left_in_prediction(trained, enhanced, tmp_path):
    """The model and one whose files know of no enhancement, with the same weights, say the same of a scan."""
    model, without = model_of(enhanced, "enhanced"), tmp_path / model_of(enhanced, "enhanced").name
    shutil.copytree(trained.model, without, ignore=shutil.ignore_patterns("crossvalidation"))
    shutil.copy2(model / "fold_0" / "checkpoint_final.pth", without / "fold_0" / "checkpoint_final.pth")
    assert read_json(without / "plans.json")["cmb_autoseg"]["recipe"]["network"]["feature_enhancement"] is None
    shape = (1, 2, 8, 16, 16)
    picture = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    networks = [next(load_ensemble(folder, (0,), "cpu").networks())[1].eval() for folder in (model, without)]
    with torch.no_grad():
        assert torch.equal(networks[0](picture), networks[1](picture))


def test_plain_nnunet_loads_the_model(enhanced):
    with nnunet_environment():
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

        predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str(model_of(enhanced, "enhanced")), (0,))
        assert CONFIGURATION in predictor.plans_manager.available_configurations
        assert predictor.network.load_state_dict(predictor.list_of_parameters[0])


def test_a_stop_changes_nothing(enhanced, monkeypatch):
    recipe = (enhanced / "enhanced.yaml").read_text().replace("name: enhanced", "name: stopped")
    (enhanced / "stopped.yaml").write_text(recipe)
    step = CMBTrainer.train_step

    def stopped_at_once(self, batch):
        if self.steps_done in (0, 2):
            self.stop.number = 15
        return step(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(CMBTrainer, "train_step", stopped_at_once)
        assert [train.main(arguments(enhanced, "stopped")) for _ in range(3)] == [143, 143, 0]
    whole, stopped = (weights(model_of(enhanced, name)) for name in ("enhanced", "stopped"))
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)


def test_a_level_too_deep_is_refused_before_anything_is_written(enhanced, capsys):
    recipe = (enhanced / "enhanced.yaml").read_text().replace("name: enhanced", "name: deep")
    (enhanced / "deep.yaml").write_text(recipe.replace("level: 1", "level: 7"))
    assert train.main(arguments(enhanced, "deep")) == 2
    shown = capsys.readouterr().err.strip()
    assert "network.feature_enhancement.level: found 7, but the network has levels 0 to 1" in shown
    assert not list(model_of(enhanced, "deep").rglob("*.json"))
