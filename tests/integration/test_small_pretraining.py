"""The recipe with which pretraining is tried out: its encoder is made, and training begins with it."""

import shutil

from cmb_autoseg.cli import pretrain, train
from cmb_autoseg.records import Encoder, FoldModel


def test_the_recipe_makes_the_encoder_that_it_trains_with(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("cmb_autoseg.pipeline.pretraining_pictures.draw_pictures", lambda *_: None)
    workspace = tmp_path / "w"
    shutil.copytree(trained.workspace, workspace)
    where = ["-d", "501", "--workspace", str(workspace), "-r", "demo_pretrained", "-f", "0", "-device", "cpu"]
    short = ["--epochs", "1", "--steps-per-epoch", "1"]
    assert pretrain.main([*where, *short]) == 0
    encoder = Encoder.read(workspace / "encoders" / "demo_pretrained" / "fold_0" / "encoder.json")
    assert encoder.method == "masked_autoencoding"
    assert encoder.topology.features_per_stage[0] == 8

    assert train.main([*where, *short]) == 0
    fold = workspace / "results" / "Dataset501_Elsewhere" / "CMBTrainer__demo_pretrained__3d" / "fold_0" / "fold.json"
    began = FoldModel.read(fold).encoder
    assert began is not None
    assert began.weights == encoder.weights
