"""Folds that learn from unlabelled cases, from a share of the labelled subjects, or from a part of the sequences."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from cmb_autoseg.cli import finalize, predict, train
from cmb_autoseg.files import read_json, read_tsv, write_json
from cmb_autoseg.pipeline.training import TrainSettings
from cmb_autoseg.pipeline.training import train as train_folds
from cmb_autoseg.raw_dataset import read_raw_dataset
from cmb_autoseg.trainers.patches.cmb_trainer import CMBTrainer
from cmb_autoseg.trainers.recipe import read_recipe
from cmb_autoseg.workspace import Workspace

DATASET = "Dataset501_Elsewhere"
SEMI = "semi_supervised: {method: METHOD, ramp_up_steps: 2, confidence: 0.5, ema_decay: 0.5}\n"


@dataclass(frozen=True)
class Untrained:
    """A planned dataset, whose only unlabelled case is of p5, and a recipe of two epochs of two steps."""

    workspace: Path
    recipe: str

    @property
    def folds(self):
        return read_json(self.workspace / "raw" / DATASET / "splits_final.json")

    def fold_that_judges(self, subject, does=True):
        judges = [any(name.startswith(f"{subject}_") for name in fold["val"]) for fold in self.folds]
        return judges.index(does)

    def write(self, name, addition):
        path = self.workspace.parent / f"{name}.yaml"
        path.write_text(self.recipe.replace("name: tiny", f"name: {name}") + addition)
        return path

    def train(self, fold, addition="", name="tiny", *options):
        where = ["-d", "501", "--workspace", str(self.workspace), "-device", "cpu", "-f", *str(fold).split()]
        return train.main([*where, "-r", str(self.write(name, addition)), *options])

    def model(self, name="tiny"):
        return self.workspace / "results" / DATASET / f"CMBTrainer__{name}__3d"

    def fold(self, fold, name="tiny"):
        return self.model(name) / f"fold_{fold}"

    def checkpoint(self, fold, name, which="final"):
        return torch.load(self.fold(fold, name) / f"checkpoint_{which}.pth", weights_only=True)


@pytest.fixture
def untrained(trained, tmp_path):
    for kind in ("raw", "preprocessed"):
        shutil.copytree(trained.workspace / kind, tmp_path / "workspace" / kind)
    return Untrained(tmp_path / "workspace", trained.recipe.read_text())


@pytest.mark.parametrize("method", ["fixmatch", "mean_teacher"])
def test_unlabelled_cases_teach_and_a_stop_changes_nothing(trained, untrained, monkeypatch, method):
    fold, addition = untrained.fold_that_judges("p5", does=False), SEMI.replace("METHOD", method)
    assert untrained.train(fold, addition, "whole") == 0
    step = CMBTrainer.train_step

    def stopped_at_once(self, batch):
        if self.steps_done in (0, 2):
            self.stop.number = 15
        return step(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(CMBTrainer, "train_step", stopped_at_once)
        assert [untrained.train(fold, addition, "stopped") for _ in range(3)] == [143, 143, 0]
    whole, stopped = (untrained.checkpoint(fold, name) for name in ("whole", "stopped"))
    for part in ("network_weights", "teacher_state"):
        assert whole[part].keys() == stopped[part].keys()
        assert all(torch.equal(whole[part][key], stopped[part][key]) for key in whole[part])
    assert bool(whole["teacher_state"]) == (method == "mean_teacher")
    average = whole["teacher_state"] or whole["network_weights"]
    assert all(torch.equal(whole["network_weights"][key], average[key]) for key in average)
    assert whole["curves"] == stopped["curves"]
    without = torch.load(trained.model / f"fold_{fold}" / "checkpoint_final.pth", weights_only=True)["network_weights"]
    assert not all(torch.equal(whole["network_weights"][key], without[key]) for key in without)
    epochs = read_tsv(untrained.fold(fold, "whole") / "progress.tsv")
    assert all(float(row["unlabelled_loss"]) > 0 and float(row["teaching_voxels"]) > 0 for row in epochs)
    record = read_json(untrained.fold(fold, "whole") / "fold.json")
    assert record["unlabelled_cases"] == ["p5_2"]
    assert "unlabelled_loss" not in read_tsv(trained.model / "fold_0" / "progress.tsv")[0]
    assert "Elsewhere/p5" in record["training_subjects"]


@pytest.mark.parametrize("method", ["fixmatch", "mean_teacher"])
def test_curves_judge_the_network_that_is_delivered(untrained, monkeypatch, method):
    judged = []
    validate = nnUNetTrainer.validation_step

    def watched(self, batch):
        state = self.network.state_dict()
        judged.append({name: value.clone() for name, value in state.items()})
        return validate(self, batch)

    monkeypatch.setattr(nnUNetTrainer, "validation_step", watched)
    fold = untrained.fold_that_judges("p5", does=False)
    assert untrained.train(fold, SEMI.replace("METHOD", method), "judged") == 0
    delivered = untrained.checkpoint(fold, "judged")["network_weights"]
    assert all(torch.equal(judged[-1][name], delivered[name]) for name in delivered)


def test_a_fold_without_unlabelled_cases_that_it_may_see_is_refused(untrained, capsys):
    fold = untrained.fold_that_judges("p5")
    assert untrained.train(fold, SEMI.replace("METHOD", "fixmatch"), "semi") == 2
    error = capsys.readouterr().err
    assert f"{DATASET} has none that fold {fold} may see; add a cohort without labels" in error
    assert not (untrained.workspace / "results").exists()


def test_a_budget_trains_on_a_share_of_the_subjects_and_the_folds_share_it(untrained, capsys):
    folders = Workspace(untrained.workspace).dataset("501")
    recipe = read_recipe(str(untrained.write("few", "")))
    _, (record,) = train_folds(folders, recipe, [0], TrainSettings("cpu", budget=0.5))
    assert record.budget == 0.5
    subjects = {name.partition("_")[0] for name in record.training_cases}
    everyone = {name.partition("_")[0] for name in untrained.folds[0]["train"]}
    assert subjects < everyone
    assert len(subjects) == int(len(everyone) / 2 + 0.5)
    lesions = {case.name: case.n_lesions for case in read_raw_dataset(folders).cases}
    assert any(lesions[name] for name in record.training_cases)
    assert record.training_subjects == tuple(sorted(f"Elsewhere/{subject}" for subject in subjects))
    assert untrained.train(1, "", "few") == 2
    assert "another share of the labelled subjects" in capsys.readouterr().err


def test_a_model_of_one_sequence_leaves_out_cases_without_it_and_is_predicted_from_it_alone(trained, untrained, capsys):
    assert untrained.train("0 1 2 3 4", "sequences: [gre_mag]\n", "magnitude") == 0
    records = [read_json(untrained.fold(fold, "magnitude") / "fold.json") for fold in range(5)]
    judged = {name for record in records for name in record["validation_cases"]}
    assert judged == {name for fold in untrained.folds for name in fold["val"]} - {"p4_1"}
    assert not any("p4_1" in record["training_cases"] for record in records)
    where = ["-d", "501", "--workspace", str(untrained.workspace), "-device", "cpu"]
    assert finalize.main([*where, "-r", "magnitude"]) == 0
    assert read_json(untrained.model("magnitude") / "model.json")["channels"] == ["gre_mag"]
    record = records[2] | {
        "training_subjects": [*records[2]["training_subjects"], records[2]["validation_subjects"][0]]
    }
    write_json(untrained.fold(2, "magnitude") / "fold.json", record)
    assert finalize.main([*where, "-r", "magnitude"]) == 2
    assert f"fold_2: has learned from {record['validation_subjects'][0]}, on whom" in capsys.readouterr().err
    card, out = trained.cohort / "card.yaml", untrained.workspace.parent / "predicted"
    assert predict.main(["-i", str(card), "-o", str(out), "-m", str(untrained.model("magnitude")), "-f", "0"]) == 1
    (failure,) = read_tsv(out / "failures.tsv")
    assert failure["case"] == "p4_1"
    assert read_json(out / "p2_1.json")["sequences_used"] == ["gre_mag"]


@pytest.mark.parametrize(
    ("sequences", "message"),
    [
        ("[qsm]", "sequences: found qsm, but the plan of Dataset501_Elsewhere has swi, gre_mag; name some of these"),
        ("[]", "sequences: found none, in which no microbleed shows; name at least one of swi, gre_mag"),
    ],
)
def test_sequences_that_the_plan_does_not_have_are_refused(untrained, capsys, sequences, message):
    assert untrained.train(0, f"sequences: {sequences}\n", "odd") == 2
    assert message in capsys.readouterr().err
    assert not (untrained.workspace / "results").exists()


def test_models_of_before_there_were_encoders_and_budgets_go_on(trained, untrained, monkeypatch):
    """Their settings lack the keys, and so do their recipes."""
    shutil.copytree(trained.model, untrained.model(), ignore=shutil.ignore_patterns("fold_[1-4]"))
    step = CMBTrainer.train_step

    def stopped(self, batch):
        self.stop.number = 15
        return step(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(CMBTrainer, "train_step", stopped)
        assert untrained.train(1) == 143

    def as_before(settings):
        new = ("sequences", "pretraining", "transfer", "semi_supervised")
        recipe = {key: value for key, value in settings["recipe"].items() if key not in new}
        return {"recipe": recipe, **{key: settings[key] for key in ("seed", "plan", "folds")}}

    plans = read_json(untrained.model() / "plans.json")
    write_json(untrained.model() / "plans.json", {**plans, "cmb_autoseg": as_before(plans["cmb_autoseg"])})
    path = untrained.fold(1) / "checkpoint_latest.pth"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["settings"], (checkpoint["draws"], _) = as_before(checkpoint["settings"]), checkpoint["draws"]
    for key in ("teacher_state", "step_lessons", "encoder"):
        del checkpoint[key]
    torch.save(checkpoint, path)
    assert untrained.train("0 1") == 0
    expected = torch.load(trained.model / "fold_1" / "checkpoint_final.pth", weights_only=True)["network_weights"]
    found = untrained.checkpoint(1, "tiny")["network_weights"]
    assert all(torch.equal(found[key], expected[key]) for key in expected)
