"""A training that was stopped goes on where it stopped, and two runs of a command give the same bytes."""

import importlib.machinery
import os
import shutil
import signal
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from cmb_autoseg.cli import finalize, plan_preprocess, predict, train
from cmb_autoseg.files import file_digest
from cmb_autoseg.trainers.patches import cmb_trainer


@dataclass(frozen=True)
class Untrained:
    """A planned dataset without results, and the arguments that train its first fold."""

    workspace: Path
    arguments: list[str]

    @property
    def fold(self):
        return self.workspace / "results" / "Dataset501_Elsewhere" / "CMBTrainer__tiny__3d" / "fold_0"


@pytest.fixture
def untrained(trained, tmp_path):
    workspace = tmp_path / "workspace"
    for kind in ("raw", "preprocessed"):
        shutil.copytree(trained.workspace / kind, workspace / kind)
    where = ["-d", "501", "--workspace", str(workspace), "-device", "cpu"]
    return Untrained(workspace, [*where, "-r", str(trained.recipe), "-f", "0"])


def weights(fold):
    return torch.load(fold / "checkpoint_final.pth", weights_only=True)["network_weights"]


def test_a_training_that_broke_off_goes_on_and_ends_as_an_undisturbed_one(trained, untrained, monkeypatch):
    step = cmb_trainer.CMBTrainer.train_step

    def broken(self, batch):
        if self.current_epoch == 1:
            raise KeyboardInterrupt
        return step(self, batch)

    monkeypatch.setattr(cmb_trainer.CMBTrainer, "train_step", broken)
    assert train.main(untrained.arguments) == 130
    monkeypatch.undo()
    assert (untrained.fold / "checkpoint_latest.pth").is_file()
    assert not (untrained.fold / "checkpoint_final.pth").exists()
    assert train.main(untrained.arguments) == 0
    expected, found = weights(trained.model / "fold_0"), weights(untrained.fold)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert not list(untrained.fold.glob(".tmp*"))
    assert not (untrained.fold / "checkpoint_latest.pth").exists()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_training_that_is_asked_to_end_goes_on_from_that_very_step(trained, untrained, monkeypatch, name):
    step = cmb_trainer.CMBTrainer.train_step
    taken = []

    def signalled(self, batch):
        taken.append((self.current_epoch, len(self._losses)))
        result = step(self, batch)
        if len(taken) == 1:
            os.kill(os.getpid(), getattr(signal, name))
        return result

    monkeypatch.setattr(cmb_trainer.CMBTrainer, "train_step", signalled)
    assert train.main(untrained.arguments) == 128 + getattr(signal, name)
    stopped = torch.load(untrained.fold / "checkpoint_latest.pth", weights_only=True)
    assert (stopped["current_epoch"], len(stopped["step_losses"])) == (0, 1)
    assert train.main(untrained.arguments) == 0
    assert taken == [(0, 0), (0, 1), (1, 0), (1, 1)]
    expected, found = weights(trained.model / "fold_0"), weights(untrained.fold)
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    texts = [path.read_text() for path in (untrained.workspace / "logs").iterdir()]
    (resumed,) = [text for text in texts if "goes on after step 1, in epoch 1" in text]
    assert "seed 0" in resumed
    assert "fold 0, epoch 1: learning rate" in resumed
    events = (untrained.fold / "tensorboard").iterdir()
    assert any(b"validation_dice" in path.read_bytes() for path in events)


def test_a_checkpoint_that_cannot_be_read_is_named_with_its_cure(untrained, capsys):
    untrained.fold.mkdir(parents=True)
    (untrained.fold / "checkpoint_latest.pth").write_bytes(b"PK\x03\x04 half")
    assert train.main(untrained.arguments) == 2
    assert "checkpoint_latest.pth: training cannot go on from it" in capsys.readouterr().err
    assert [path.name for path in untrained.fold.iterdir()] == ["checkpoint_latest.pth"]


def deal_anew(workspace):
    """Other folds for the same cases, as after deleting the file of the folds."""
    (workspace / "raw" / "Dataset501_Elsewhere" / "splits_final.json").unlink()
    arguments = ["-d", "501", "--workspace", str(workspace), "-device", "cpu", "--seed", "9"]
    assert plan_preprocess.main(arguments) == 0


def test_a_training_does_not_go_on_with_other_folds(untrained, monkeypatch, capsys):
    step = cmb_trainer.CMBTrainer.train_step

    def signalled(self, batch):
        os.kill(os.getpid(), signal.SIGTERM)
        return step(self, batch)

    monkeypatch.setattr(cmb_trainer.CMBTrainer, "train_step", signalled)
    assert train.main(untrained.arguments) == 143
    monkeypatch.undo()
    deal_anew(untrained.workspace)
    capsys.readouterr()
    assert train.main(untrained.arguments) == 2
    assert "folds trained with another deal of the cases to folds" in capsys.readouterr().err
    for name in ("plans.json", "dataset.json"):
        (untrained.fold.parent / name).unlink()
    assert train.main(untrained.arguments) == 2
    assert "checkpoint_latest.pth: of another fold, plan, recipe, seed or deal" in capsys.readouterr().err


def test_folds_of_another_deal_are_not_finalized(trained, tmp_path, capsys):
    workspace = tmp_path / "workspace"
    shutil.copytree(trained.workspace, workspace)
    deal_anew(workspace)
    capsys.readouterr()
    where = ["-d", "501", "--workspace", str(workspace), "-device", "cpu"]
    assert finalize.main([*where, "-r", "tiny"]) == 2
    assert "trained on another deal of the cases than" in capsys.readouterr().err
    assert train.main([*where, "-r", str(trained.recipe), "-f", "1"]) == 2
    assert "another deal of the cases to folds" in capsys.readouterr().err


@pytest.mark.parametrize(("value", "expected"), [("1", "wandb is not installed; pip install wandb"), ("yes", "'yes'")])
def test_a_switch_for_wandb_that_cannot_work_is_refused(untrained, capsys, monkeypatch, value, expected):
    monkeypatch.setenv("nnUNet_wandb_enabled", value)
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert train.main(untrained.arguments) == 2
    assert expected in capsys.readouterr().err
    assert not (untrained.workspace / "results").exists()


def test_nnunets_switch_sends_the_scalars_to_wandb(untrained, monkeypatch):
    class Run:
        step, config, summary, sent = 0, {}, {}, []

        def log(self, values, step):
            self.sent.append((step, *values))

    wandb = types.ModuleType("wandb")
    wandb.__spec__ = importlib.machinery.ModuleSpec("wandb", None)
    wandb.init = lambda **settings: Run()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setattr("nnunetv2.training.logging.nnunet_logger.wandb", wandb)
    monkeypatch.setenv("nnUNet_wandb_enabled", "1")
    assert train.main(untrained.arguments) == 0
    assert (0, "training_loss") in Run.sent
    assert (1, "validation_dice") in Run.sent


def digests(folder):
    """Digest of every file but logs and `run.json`, which say when and where a run was."""
    return {
        str(path.relative_to(folder)): file_digest(path)
        for path in folder.rglob("*")
        if path.is_file() and path.name != "run.json" and "logs" not in path.parts
    }


def test_converting_and_planning_twice_gives_the_same_bytes(trained, tmp_path):
    where = ["-d", "501", "--workspace", str(tmp_path), "-device", "cpu"]
    assert plan_preprocess.main([*where, "-c", str(trained.cohort / "card.yaml")]) == 0
    for kind in ("raw", "preprocessed"):
        assert digests(tmp_path / kind) == digests(trained.workspace / kind)


def test_predicting_twice_gives_the_same_bytes(trained, tmp_path):
    for name in ("one", "two"):
        arguments = ["-i", str(trained.cohort / "card.yaml"), "-o", str(tmp_path / name), "-m", str(trained.model)]
        assert predict.main([*arguments, "-device", "cpu"]) == 0
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
