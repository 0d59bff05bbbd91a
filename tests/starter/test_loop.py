"""Trainings that go on where they stopped."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from cmb_autoseg.starter.learning import loop
from cmb_autoseg.starter.learning.first_stage import FirstStage, FirstStageSettings
from cmb_autoseg.starter.learning.loop import CHECKPOINT, LOG, learn
from cmb_autoseg.starter.learning.settings import changed_settings


def losses(folder):
    lines = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
    assert "torch" in lines[0]["run"]
    return [line["loss"] for line in lines if "loss" in line]


def test_the_loss_falls_and_the_average_follows(pool, tmp_path, monkeypatch, settings):
    monkeypatch.setattr(loop, "LOG_EVERY", 10)
    settings = replace(settings, steps=80, learning_rate=1e-2)
    assert learn(FirstStage(pool, settings), tmp_path / "out", minutes=2) == 80

    early, *_, late = losses(tmp_path / "out")
    assert late < 0.8 * early
    content = torch.load(tmp_path / "out" / CHECKPOINT, weights_only=True)
    assert changed_settings(FirstStageSettings(), json.loads(content["settings"])) == settings
    names = [name for name in content["network"] if name.endswith("weight")]
    assert any(not torch.equal(content["network"][name], content["average"][name]) for name in names)


def test_a_run_goes_on_where_the_last_one_stopped(pool, tmp_path, settings):
    out = tmp_path / "out"
    assert learn(FirstStage(pool, settings), out, minutes=0) == 0
    assert learn(FirstStage(pool, settings), out, minutes=2) == 12
    before = (out / CHECKPOINT).read_bytes()
    assert learn(FirstStage(pool, settings), out, minutes=2) == 12  # nothing left to do
    assert before == (out / CHECKPOINT).read_bytes()


def test_a_run_of_other_settings_is_refused(pool, tmp_path, settings):
    learn(FirstStage(pool, settings), tmp_path / "out", minutes=0)
    with pytest.raises(ValueError, match="other settings"):
        learn(FirstStage(pool, replace(settings, learning_rate=1.0)), tmp_path / "out", minutes=0)


def test_an_empty_pool_is_refused(tmp_path, settings):
    with pytest.raises(FileNotFoundError, match="no simulated blocks"):
        learn(FirstStage(tmp_path, settings), tmp_path / "out", minutes=1)


def test_a_setting_that_there_is_not_is_refused():
    assert changed_settings(FirstStageSettings(), {"views": {"patch_shape": [4, 8, 8]}}).views.patch_shape == (4, 8, 8)
    for changes in ({"depth": 3}, {"views": {"depth": 3}}):
        with pytest.raises(
            ValueError, match=r"depth is unknown; known are .*width|depth is unknown; known are .*steps"
        ):
            changed_settings(FirstStageSettings(), changes)


def test_learning_needs_torch_alone():
    """So that it runs on a machine that has nothing else."""
    program = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in {'nibabel', 'scipy', 'pydantic', 'yaml', 'skimage', 'nnunetv2'}:\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "import cmb_autoseg.starter.__main__\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
