"""Cross-validation of ten folds: dealt once, trained in part, finalized when all are there."""

import json

import nibabel as nib
import numpy as np
import pytest

from cmb_autoseg.cli import compare, finalize, plan_preprocess, predict, pretrain, train
from cmb_autoseg.files import read_json
from cmb_autoseg.workspace import model_folder_name

SHAPE = (24, 24, 8)
CARD = """\
schema: 1
name: Tens
root: .
licence: {id: none, redistribute: false}
case: "{sub}"
images:
  S: {role: swi, path: "{sub}_swi.nii.gz"}
labels:
  cmb: {kind: mask, path: "{sub}_mask.nii.gz", values: {cmb: 1}}
"""
RECIPE = """\
schema: 1
name: tiny
description: seconds, for tests
epochs: 1
steps_per_epoch: 1
validation_steps: 1
batch_size: 1
network: {features: [2, 4]}
inference: {mirror: [], tile_step: 1.0}
"""


def write_people(root, n):
    rng = np.random.default_rng(0)
    for number in range(n):
        mask = np.zeros(SHAPE, np.uint8)
        mask[8:11, 8 : 11 + number % 3, 3:5] = number % 4 > 0
        image = (100 + rng.normal(0, 5, SHAPE)) * (1 - 0.7 * mask)
        for name, data in (("swi", image.astype(np.float32)), ("mask", mask)):
            nib.save(nib.Nifti1Image(data, np.diag([1.0, 1.0, 2.0, 1.0])), root / f"p{number:02d}_{name}.nii.gz")
    (root / "card.yaml").write_text(CARD)
    (root / "tiny.yaml").write_text(RECIPE)


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """A dataset of ten folds, planned, and the arguments that name it."""
    base = tmp_path_factory.mktemp("ten")
    write_people(base, 11)
    where = ["-d", "501", "--workspace", str(base / "workspace"), "-device", "cpu"]
    assert plan_preprocess.main([*where, "-c", str(base / "card.yaml"), "--folds", "10"]) == 0
    return base, where


def raw_of(base):
    return base / "workspace" / "raw" / "Dataset501_Tens"


def error_of(capsys):
    return next(line for line in capsys.readouterr().err.splitlines() if ": error: " in line)


def test_every_case_is_judged_by_one_of_ten_folds(planned):
    base, _ = planned
    folds = read_json(raw_of(base) / "splits_final.json")
    assert len(folds) == 10
    assert sorted(name for fold in folds for name in fold["val"]) == [f"p{number:02d}" for number in range(11)]
    assert read_json(base / "workspace" / "preprocessed" / "Dataset501_Tens" / "splits_final.json") == folds
    text = (base / "workspace" / "preprocessed" / "Dataset501_Tens" / "adaptive_plan.txt").read_text()
    assert "fold 9: trains on" in text
    assert "dealt to 10 folds" in " ".join(text.split())


def test_the_deal_is_kept_and_another_number_refused(planned, capsys):
    base, where = planned
    before = (raw_of(base) / "splits_final.json").read_bytes()
    assert plan_preprocess.main(where) == 0
    assert plan_preprocess.main([*where, "--folds", "10"]) == 0
    capsys.readouterr()
    for more in ([], ["--explain"]):
        assert plan_preprocess.main([*where, "--folds", "5", *more]) == 2
        line = error_of(capsys)
        assert "--folds 5: Dataset501_Tens is dealt into 10 folds already" in line
        assert f"delete {raw_of(base) / 'splits_final.json'}" in line
    assert (raw_of(base) / "splits_final.json").read_bytes() == before
    assert plan_preprocess.main([*where, "--explain"]) == 0
    assert "fold 9: trains on" in capsys.readouterr().out


@pytest.mark.parametrize("number", ["1", "21", "ten", "-3", "2.5"])
def test_a_number_of_folds_that_is_none_is_refused(planned, capsys, number):
    with pytest.raises(SystemExit):
        plan_preprocess.main([*planned[1], f"--folds={number}"])
    assert f"found '{number}', expected a whole number from 2 to 20" in capsys.readouterr().err


def test_more_folds_than_people_are_refused_with_fewer_as_the_cure(tmp_path, capsys):
    write_people(tmp_path, 7)
    where = ["-d", "501", "--workspace", str(tmp_path / "workspace"), "-device", "cpu"]
    assert plan_preprocess.main([*where, "-c", str(tmp_path / "card.yaml"), "--folds", "10"]) == 2
    line = error_of(capsys)
    assert "found 7 labelled training subjects, 10 folds need at least 10" in line
    assert "--folds 5" in line
    assert plan_preprocess.main([*where, "--folds", "2"]) == 0
    assert len(read_json(raw_of(tmp_path) / "splits_final.json")) == 2


def test_ten_folds_from_training_to_prediction(planned, tmp_path, capsys):
    base, where = planned
    recipe = ["-r", str(base / "tiny.yaml")]
    assert train.main([*where, *recipe, "-f", "0", "9"]) == 0
    assert "-f 1 2 3 4 5 6 7 8 " in capsys.readouterr().out
    model = base / "workspace" / "results" / "Dataset501_Tens" / model_folder_name("tiny")
    folds = read_json(raw_of(base) / "splits_final.json")
    assert read_json(model / "fold_9" / "fold.json")["validation_cases"] == folds[9]["val"]
    assert finalize.main([*where, "-r", "tiny"]) == 2
    assert "folds 1, 2, 3, 4, 5, 6, 7, 8 are not trained" in error_of(capsys)
    for command, more in ((train, recipe), (pretrain, []), (compare, [*recipe, "-o", str(tmp_path / "compared")])):
        assert command.main([*where, *more, "-f", "10"]) == 2
        line = error_of(capsys)
        assert "-f: found 10, but Dataset501_Tens has 10 folds" in line
        assert line.endswith("name some of 0 to 9, or all")  # folds are dealt once
    assert train.main([*where, *recipe, "-f", "all"]) == 0
    assert len(read_json(model / "model.json")["folds"]) == 10
    assert read_json(model / "model.json")["n_cases"] == 11
    scan = ["-i", str(base / "p00_swi.nii.gz"), "-o", str(tmp_path / "out")]
    assert predict.main([*scan, *where, "-r", "tiny", "--operating-point", "0.5"]) == 0
    assert read_json(tmp_path / "out" / "p00_swi.json")["model"]["folds"] == list(range(10))
    assert predict.main([*scan, *where, "-r", "tiny", "--operating-point", "0.5", "-f", "12"]) == 2
    assert "found finished folds [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], needed [12]" in error_of(capsys)


def test_a_new_deal_after_new_cases_keeps_the_number(tmp_path, capsys):
    write_people(tmp_path, 8)
    where = ["-d", "501", "--workspace", str(tmp_path / "workspace"), "-device", "cpu"]
    card = ["-c", str(tmp_path / "card.yaml")]
    assert plan_preprocess.main([*where, *card, "--folds", "7"]) == 0
    write_people(tmp_path, 9)
    assert plan_preprocess.main([*where, *card]) == 0
    assert "splits_final.json: removed, because the cases changed" in capsys.readouterr().err
    assert len(read_json(raw_of(tmp_path) / "splits_final.json")) == 7


def test_folds_that_judge_a_case_twice_or_never_are_refused(planned, tmp_path, capsys):
    base, where = planned
    path = raw_of(base) / "splits_final.json"
    text = path.read_text()
    folds = json.loads(text)
    try:
        path.write_text(json.dumps(folds[:9]))
        assert train.main([*where, "-r", str(base / "tiny.yaml"), "-f", "0"]) == 2
        assert f"case {folds[9]['val'][0]} is in val of none of its 9 folds, one is needed" in error_of(capsys)
        path.write_text(json.dumps([*folds, folds[0]]))
        assert train.main([*where, "-r", str(base / "tiny.yaml"), "-f", "0"]) == 2
        assert f"case {folds[0]['val'][0]} is in val of 2 of its 11 folds, one is needed" in error_of(capsys)
    finally:
        path.write_text(text)
