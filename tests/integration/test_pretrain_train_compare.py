"""From unlabelled scans to a table: an encoder is pretrained, trained from, and compared, through the commands."""

import shutil

import nibabel as nib
import numpy as np
import pytest
import torch

from cmb_autoseg.cli import compare, plan_preprocess, pretrain, train
from cmb_autoseg.files import read_json, read_tsv
from cmb_autoseg.pretraining.encoder_file import read_encoder

RECIPE = """\
schema: 1
name: {name}
description: seconds, for tests
epochs: 1
steps_per_epoch: 2
validation_steps: 1
batch_size: 1
network: {{features: [4, 8]}}
optimizer: {{learning_rate: 1.0e-3}}
inference: {{mirror: [], tile_step: 1.0}}
"""
PRETRAINING = """\
pretraining:
  method: {method}
  epochs: 2
  steps_per_epoch: 2
  batch_size: 4
  barlow_twins: {{projector: [8, 8]}}
transfer: {{encoder: {name}}}
"""
UNLABELLED = ("u1", "u2", "u3")


def add_unlabelled(cohort):
    """Three more subjects, whose scans nobody has read."""
    source = cohort / "centreA" / "p1" / "visit1" / "scans"
    for seed, sub in enumerate(UNLABELLED, 1):
        target = cohort / "centreA" / sub.replace("u", "p9") / "visit1" / "scans"
        target.mkdir(parents=True)
        for part in ("susc", "mag"):
            image = nib.load(source / f"p1-{part}.nii.gz")
            values = np.asarray(image.dataobj, dtype=np.float32)
            noise = np.random.default_rng(seed).normal(0, 5, values.shape)
            shown = np.where(values > 0, values + noise, 0).astype(np.float32)
            nib.save(nib.Nifti1Image(shown, image.affine), target / f"{sub.replace('u', 'p9')}-{part}.nii.gz")


@pytest.fixture(scope="module")
def base(tiny_cohort, tmp_path_factory):
    base = tmp_path_factory.mktemp("pretrain_train_compare")
    cohort = shutil.copytree(tiny_cohort, base / "cohort")
    add_unlabelled(cohort)
    for name, method in (("barlow", "barlow_twins"), ("masked", "masked_autoencoding")):
        text = RECIPE.format(name=name) + PRETRAINING.format(name=name, method=method)
        (base / f"{name}.yaml").write_text(text)
    (base / "scratch.yaml").write_text(RECIPE.format(name="scratch"))
    fix = RECIPE.format(name="fix") + "semi_supervised: {method: fixmatch, ramp_up_steps: 1}\n"
    (base / "fix.yaml").write_text(fix)
    plan = ["-d", "501", "-c", str(cohort / "card.yaml"), "-device", "cpu", "--workspace", str(base / "workspace")]
    assert plan_preprocess.main(plan) == 0
    return base


def test_pretrain_train_compare(base):
    there = ["-d", "501", "--workspace", str(base / "workspace"), "-device", "cpu"]
    for name in ("barlow", "masked"):
        assert pretrain.main([*there, "-r", str(base / f"{name}.yaml")]) == 0
    weights, record = read_encoder(base / "workspace" / "encoders" / "barlow" / "encoder.pt")
    assert {subject.rpartition("/")[2] for subject in record.subjects} == {"p91", "p92", "p93"}
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())

    assert train.main([*there, "-r", str(base / "barlow.yaml"), "-f", "0"]) == 0
    results = base / "workspace" / "results" / "Dataset501_Elsewhere"
    fold = read_json(results / "CMBTrainer__barlow__3d" / "fold_0" / "fold.json")
    assert record.weights in fold["parents"]
    assert set(record.subjects) < set(fold["training_subjects"])

    recipes = [str(base / f"{name}.yaml") for name in ("scratch", "barlow", "masked", "fix")]
    out = base / "out"
    asked = [*there, "-r", *recipes, "-f", "0", "--budgets", "1", "0.5", "--seeds", "1", "2", "-o", str(out)]
    assert compare.main(asked) == 0
    table = {row["recipe"]: row for row in read_tsv(out / "tables" / "paradigms.tsv")}
    assert list(table) == ["scratch", "barlow", "masked", "fix"]
    cells = read_tsv(out / "tables" / "cells.tsv")
    assert len(cells) == 16
    begun = {row["recipe"]: row["encoder"] for row in cells}
    assert begun["scratch"] == begun["fix"] == "random"
    assert begun["barlow"].startswith("barlow")
    assert begun["masked"].startswith("masked")
