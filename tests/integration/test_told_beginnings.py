"""Commands say what they do before the first long step is done."""

import shutil

from cmb_autoseg import progress
from cmb_autoseg.cli import explain, train


def test_a_training_says_that_it_begins(trained, tmp_path, capsys):
    shutil.copytree(trained.workspace, tmp_path / "w")
    recipe = tmp_path / "other.yaml"
    recipe.write_text(trained.recipe.read_text().replace("name: tiny", "name: other"))
    arguments = ["-d", "501", "--workspace", str(tmp_path / "w"), "-r", str(recipe), "-f", "0", "-device", "cpu"]
    assert train.main(arguments) == 0
    said = capsys.readouterr().err.splitlines()
    assert said.index("Training fold 0: 0/4, begun") == 0


def test_an_explanation_says_that_it_loads_the_model_and_begins(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_OF_SILENCE", 0.0)
    scan = sorted((trained.raw / "imagesTr").glob("*_0000.nii.gz"))[0]
    arguments = ["-i", str(scan), "--role", "swi", "-m", str(trained.model), "-o", str(tmp_path / "out")]
    assert explain.main([*arguments, "-device", "cpu", "--max-lesions", "1"]) == 0
    said = capsys.readouterr().err.splitlines()
    assert said.index("loading the model ...") < said.index("Explaining: 0/1, begun")
