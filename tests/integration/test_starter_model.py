"""The model of the package: what is pinned about it, what it says of itself, what it reads and what begins with it."""

import re
import shutil

import nibabel as nib
import pytest
import torch

from cmb_autoseg.cli import explain, models, plan_preprocess, predict, train
from cmb_autoseg.evaluation.reporting.provenance import facts_of_run
from cmb_autoseg.files import file_digest, read_json, write_json
from cmb_autoseg.inference import layouts
from cmb_autoseg.inference.ensemble import checkpoint_path, load_checkpoint
from cmb_autoseg.inference.model_choice import STARTER_MODEL, available_folds
from cmb_autoseg.inference.model_folder import trained_plan
from cmb_autoseg.raw_dataset import read_raw_dataset
from cmb_autoseg.records import FoldModel, Model, Plan
from cmb_autoseg.workspace import Workspace

DIGESTS = {
    0: "sha256:9749df29f4016cd88ffb3e3b93353cfb9d83bf84aff7119aa688a5fe87805b09",
    1: "sha256:bfbf18684f415eea09e30b8cff46e46e86ea2d0b35baa84b9bbf22c9def76a09",
}
LARGEST_WEIGHTS, LARGEST_PACKAGE = 15e6, 30e6
MOST_PARAMETERS = 3.5e6


def test_the_weights_are_those_that_were_measured():
    assert {
        fold: file_digest(checkpoint_path(STARTER_MODEL, fold)) for fold in available_folds(STARTER_MODEL)
    } == DIGESTS
    card = Model.read(STARTER_MODEL / "model.json")
    assert card.folds == DIGESTS
    assert card.parents == (trained_plan(STARTER_MODEL).digest,)


def test_the_package_stays_small():
    for fold in DIGESTS:
        assert checkpoint_path(STARTER_MODEL, fold).stat().st_size <= LARGEST_WEIGHTS
        weights = load_checkpoint(STARTER_MODEL, fold)["network_weights"]
        assert sum(values.numel() for values in weights.values()) <= MOST_PARAMETERS
    package = STARTER_MODEL.parents[1]
    assert sum(path.stat().st_size for path in package.rglob("*") if path.is_file()) <= LARGEST_PACKAGE


def test_a_scan_is_read_without_naming_a_model(trained, tmp_path, monkeypatch, capsys):
    notes = []
    draw = layouts.write_overlay
    monkeypatch.setattr(layouts, "write_overlay", lambda *words: notes.append(words[-1]) or draw(*words))
    scan = nib.load(next(trained.cohort.glob("centreA/p2/visit1/scans/p2-susc.nii.gz")))
    scan.set_qform(None, 0)
    scan.set_sform(None, 0)
    source, out = tmp_path / "p2-susc.nii.gz", tmp_path / "out"
    nib.save(scan, source)
    assert predict.main(["-i", str(source), "-o", str(out), "-device", "cpu"]) == 0
    record = read_json(out / "p2-susc.json")
    assert re.search(r"^p2-susc: \d+ lesions? \(swi\)$", capsys.readouterr().out, re.MULTILINE)
    assert "simulated data alone" in record["intended_use"]
    assert record["model"]["dataset"] == "Dataset000_SIMULATED"
    assert record["model"]["folds"] == [0, 1]
    assert any("outside the model's training range: a brain mask of 22 ml" in text for text in record["warnings"])
    assert "simulated data alone" in notes[0]
    assert "Warning: outside the model's training range: a brain mask of 22 ml" in notes[0]
    assert "Warning: swi: p2-susc.nii.gz does not say how it lies in the head" in notes[0]
    probability = nib.load(out / "p2-susc_prob.nii.gz")
    assert probability.shape == nib.load(source).shape
    assert "simulated data alone" in facts_of_run(out)["intended_use"]  # the evaluation's report says it, too


def test_explanations_say_what_it_has_learned_from(trained, tmp_path, capsys):
    source = next(trained.cohort.glob("centreA/p2/visit1/scans/p2-susc.nii.gz"))
    words = ["-i", str(source), "-o", str(tmp_path / "out"), "--max-lesions", "1", "-device", "cpu"]
    assert explain.main(words) == 0
    assert "starter model: Trained on simulated data alone" in capsys.readouterr().err
    assert "simulated data alone" in read_json(tmp_path / "out" / "run.json")["model"]["intended_use"]


def test_it_is_listed_first_with_range_and_licence(tmp_path, capsys):
    assert models.main(["--workspace", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("starter\n")
    for words in (
        "cmb_predict -i SCANS -o OUT\n",
        "Apache-2.0",
        "1.5, 3, 7 T",
        "simulated data alone",
        "swi + gre_mag",
        "cmb_train -d DATASET -p starter -f all --init starter\n",
    ):
        assert words in said


@pytest.mark.parametrize("wanted", ["starter", str(STARTER_MODEL)])
def test_a_training_begins_with_it(trained, tmp_path, capsys, wanted):
    shutil.copytree(trained.workspace / "raw", tmp_path / "raw")
    (tmp_path / "preprocessed").symlink_to(trained.workspace / "preprocessed")
    record = next(tmp_path.glob("raw/*/dataset_record.json"))
    cohorts = sorted({case.cohort for case in read_raw_dataset(Workspace(tmp_path).dataset("501")).cases})
    write_json(record, {**read_json(record), "simulated": cohorts})
    recipe = tmp_path / "on.yaml"
    recipe.write_text(
        "{schema: 1, name: onward, description: trains the model of the package on, epochs: 1, steps_per_epoch: 1, "
        "validation_steps: 1, batch_size: 1, optimizer: {learning_rate: 1.0e-12}}"
    )
    words = ["-d", "501", "-f", "1", "-r", str(recipe), "--workspace", str(tmp_path), "-device", "cpu"]
    assert train.main([*words, "--init", wanted]) == 0
    said = capsys.readouterr().err
    assert "(z, y, x); for the file's run cmb_plan_preprocess -d Dataset501_" in said
    assert "--preset starter, and train by -p starter" in said
    made = Workspace(tmp_path).dataset("501").model("onward")
    assert FoldModel.read(made / "fold_1" / "fold.json").encoder.name == "starter"
    assert models.main(["--workspace", str(tmp_path)]) == 0
    own = capsys.readouterr().out.partition("onward")[2]
    assert "began with:        starter\n" in own
    assert "intended use:      Trained on simulated data alone" in own
    before = load_checkpoint(STARTER_MODEL, 1)["network_weights"]
    after = load_checkpoint(made, 1)["network_weights"]
    reshaped = {name for name, values in before.items() if after[name].shape != values.shape}
    assert len(reshaped) == 1  # the first convolution has the dataset's sequences alone
    for name in set(before) - reshaped:
        torch.testing.assert_close(after[name], before[name], atol=1e-6, rtol=0)


def test_a_dataset_is_planned_with_its_voxels(trained, tmp_path, capsys):
    shutil.copytree(trained.workspace / "raw", tmp_path / "raw")
    recipe = tmp_path / "on.yaml"
    recipe.write_text(
        "{schema: 1, name: onward, description: trains the model of the package on, epochs: 1, steps_per_epoch: 1, "
        "validation_steps: 1, batch_size: 1}"
    )
    where = ["--workspace", str(tmp_path), "-device", "cpu"]
    assert train.main(["-d", "501", "-f", "1", "-r", str(recipe), "--init", "starter", *where]) == 2
    assert "not planned with preset starter; run cmb_plan_preprocess -d 501 --preset starter" in capsys.readouterr().err
    assert plan_preprocess.main(["-d", "501", "--preset", "starter", *where]) == 0
    said = capsys.readouterr().out
    assert "1.5 x 0.75 x 0.75 mm for every case: fixed" in said
    assert "next: cmb_train -d 501 -p starter -f all --init starter" in said
    folders = Workspace(tmp_path).dataset("501")
    planned, own = Plan.read(folders.plan("starter")), trained_plan(STARTER_MODEL)
    assert planned.spacing_mm == own.spacing_mm
    assert planned.preserve_lesions
    assert planned.lesions_after == planned.lesions_before > 0
    shutil.copy(folders.plan("starter"), folders.plan("adaptive"))  # the starter's goes before it
    assert train.main(["-d", "501", "-f", "1", "-r", str(recipe), "--init", "starter", *where]) == 0
    out, said = capsys.readouterr()
    assert f"-r {recipe} -p starter --init starter --workspace {tmp_path}\n" in out
    assert "sequences: swi" in said
    assert "mm in the file" not in said
    assert trained_plan(folders.model("onward", "starter")).spacing_mm == own.spacing_mm
