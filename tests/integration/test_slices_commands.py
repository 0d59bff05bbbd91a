"""Networks of slices from the first command to the last."""

import json
import shutil

import nibabel as nib
import pytest

from cmb_autoseg.cli import evaluate, plan_preprocess, predict, train

RECIPES = {
    "tiny25d": """\
schema: 1
name: tiny25d
description: seconds, for tests
epochs: 2
steps_per_epoch: 2
validation_steps: 2
batch_size: 2
optimizer: {learning_rate: 1.0e-3}
schedule: {decay: plateau, patience_epochs: 1, keep: best}
slices:
  network: residual25d
  features: [4, 4, 4]
  pictures: {size: [32, 32], fit: crop, normalization: white_matter_peak, neighbors: 1}
  positive_share: 0.5
  lesion_diameter_mm: [2.0, 10.0]
  augmentation: {flip: [coronal], rotation_degrees: 15, translation_pixels: 2, intensity: [0.8, 1.2]}
""",
    "tiny2d": """\
schema: 1
name: tiny2d
description: seconds, for tests
epochs: 1
steps_per_epoch: 2
validation_steps: 2
batch_size: 2
optimizer: {learning_rate: 1.0e-3}
slices:
  network: unet2d
  features: [4, 4, 8]
  pictures: {size: [32, 32], fit: pad}
""",
}


@pytest.fixture(scope="module")
def workspace(tiny_cohort, tmp_path_factory):
    """Both recipes, five folds each, with their cross-validation."""
    base = tmp_path_factory.mktemp("slices")
    where = ["-d", "501", "--workspace", str(base / "ws"), "-device", "cpu"]
    assert plan_preprocess.main([*where, "-c", str(tiny_cohort / "card.yaml")]) == 0
    for name, text in RECIPES.items():
        (base / f"{name}.yaml").write_text(text)
        assert train.main([*where, "-r", str(base / f"{name}.yaml"), "-f", "all"]) == 0
    return base


def model_of(base, name):
    return base / "ws" / "results" / "Dataset501_Elsewhere" / f"CMBTrainer__{name}__3d"


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_five_folds_are_trained_judged_and_predict(workspace, tmp_path, name):
    """The model is used where it was copied to, on a case that the publication's rules then judge."""
    model = model_of(workspace, name)
    assert json.loads((model / "crossvalidation" / "metrics.json").read_text())["n_cases"] == 7
    assert (model / "operating_points.json").is_file()
    copy = shutil.copytree(model, tmp_path / "elsewhere" / "model")
    shutil.rmtree(copy / "crossvalidation")
    raw = workspace / "ws" / "raw" / "Dataset501_Elsewhere"
    scan = next((raw / "imagesTr").glob("*p1_1_0000.nii.gz"))
    label = raw / "labelsTr" / scan.name.replace("_0000", "")
    inputs, truth, out, judged = (tmp_path / part for part in ("in", "truth", "out", "judged"))
    for folder, path, copied in ((inputs, scan, "new_0000.nii.gz"), (truth, label, "new.nii.gz")):
        folder.mkdir()
        shutil.copy(path, folder / copied)
    given = ["-i", str(inputs), "-o", str(out), "-m", str(copy), "-device", "cpu"]
    assert predict.main([*given, "--operating-point", "0.5"]) == 0
    probability = nib.load(out / "new_prob.nii.gz")
    assert probability.shape == nib.load(scan).shape
    assert 0 < probability.get_fdata().max() <= 1
    assert "seconds" in json.dumps(json.loads((out / "run.json").read_text()))
    rules = ["--diameter", "2", "10", "--protocol", "overlap40"]
    assert evaluate.main(["-p", str(out), "--reference", str(truth), "-o", str(judged), *rules]) == 0
    assert json.loads((judged / "metrics.json").read_text())["n_cases"] == 1
