"""The loop of every network that nnU-Net's own loop does not train, with a network of three layers."""

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from cmb_autoseg.errors import InputError
from cmb_autoseg.files import file_digest, read_json, read_tsv
from cmb_autoseg.interruption import Stopped
from cmb_autoseg.locking import own_folder
from cmb_autoseg.records import Role
from cmb_autoseg.trainers import loop
from cmb_autoseg.trainers.checkpoints import TrainingState
from cmb_autoseg.trainers.fold_run import FoldRun
from cmb_autoseg.trainers.fold_settings import FoldSettings
from cmb_autoseg.trainers.loop import Task, train_task
from cmb_autoseg.trainers.optimization import DivergenceWatch, descend, finite_mean, scheduled_rate
from cmb_autoseg.trainers.recipe import OptimizerSettings, Recipe, ScheduleSettings

RECIPE = Recipe.model_validate(
    {
        **{"name": "small", "description": "for tests", "epochs": 3, "steps_per_epoch": 4, "batch_size": 5},
        "optimizer": {"learning_rate": 0.01},
        "slices": {"network": "unet2d", "features": [2, 4]},
    }
)


class Regression(Task):
    """Learns a sum of 4 numbers, with dropout and batch normalization; its figure falls as its error rises."""

    figure: ClassVar[str] = "validation_closeness"
    figure_title: ClassVar[str] = "closeness"
    loss_title: ClassVar[str] = "squared error"

    def __init__(self):
        layers = nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 1)
        self.network = nn.Sequential(*layers)
        self.drawn = []

    def batch(self, rng):
        x = torch.from_numpy(rng.normal(size=(5, 4)).astype(np.float32))
        self.drawn.append(round(float(x[0, 0]), 4))
        return x, x.sum(dim=1, keepdim=True)

    def loss(self, batch):
        x, y = batch
        assert self.network.training
        return (self.network(x) - y).square().mean()

    def validate(self):
        assert not self.network.training
        assert not torch.is_grad_enabled()
        error = float((self.network(torch.eye(4)) - 1).square().mean())
        return {"validation_loss": error, self.figure: 1 / (1 + error)}


class Scripted(Regression):
    """Its figures are given, and what its weights were in each epoch is kept."""

    def __init__(self, figures):
        super().__init__()
        self.script, self.seen = list(figures), []

    def validate(self):
        self.seen.append({name: value.clone() for name, value in self.network.state_dict().items()})
        return {"validation_loss": 1.0, self.figure: self.script[len(self.seen) - 1]}


@pytest.fixture
def run(tmp_path):
    return run_in(tmp_path, "one")


def run_in(base, name, recipe=RECIPE, **settings):
    """Fold 2 of a model in a folder of its own."""
    plan = SimpleNamespace(channels=(Role.SWI,), dataset="Dataset501_Made", preset="adaptive")
    cases = SimpleNamespace(training=(1, 2, 3), validation=(4,))
    raw = SimpleNamespace(folders=SimpleNamespace(workspace=base / "workspace"))
    chosen = FoldSettings("cpu", **settings)
    shared = {
        **{"recipe": recipe.model_dump(mode="json"), "seed": chosen.seed, "plan": {"dataset": plan.dataset}},
        **{"folds": "sha256:f", "budget": 1.0, "encoder": None, "members": None},
    }
    model = base / name / plan.dataset / "CMBTrainer__small__3d"
    (model / "fold_2").mkdir(parents=True, exist_ok=True)
    return FoldRun(raw, plan, recipe, model, 2, cases, chosen, shared)


def with_schedule(base, epochs=8, **schedule):
    changes = {"epochs": epochs, "steps_per_epoch": 1, "schedule": ScheduleSettings(**schedule)}
    return run_in(base, "scheduled", RECIPE.model_copy(update=changes))


def final(run):
    return torch.load(run.folder / "checkpoint_final.pth", weights_only=True)


def latest(run):
    return run.folder / "checkpoint_latest.pth"


def stop_after(monkeypatch, n_steps):
    """Ask each training of this process to end after so many of its steps."""
    step = loop._Loop._step

    def counted(self, batch):
        step(self, batch)
        self.counted = getattr(self, "counted", 0) + 1
        if self.counted == n_steps:
            self.stop.number = 15

    monkeypatch.setattr(loop._Loop, "_step", counted)


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_training_leaves_a_model_folder(run):
    train_task(run, Regression)

    assert sorted(path.name for path in run.folder.iterdir() if not path.name.startswith(".")) == [
        *("checkpoint_final.pth", "progress.png", "progress.tsv", "tensorboard")
    ]
    assert read_json(run.model / "plans.json") == {
        **{"dataset_name": "Dataset501_Made", "plans_name": "small"},
        "cmb_autoseg": dict(run.shared),
    }
    assert read_json(run.model / "dataset.json")["numTraining"] == 4
    rows = read_tsv(run.folder / "progress.tsv")
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert {"learning_rate", "training_loss", "validation_loss", "validation_closeness"} < rows[0].keys()
    content = final(run)
    assert (content["fold"], content["settings"]) == (2, dict(run.shared))
    assert len(content["curves"]) == 3


def test_it_learns(tmp_path):
    run = run_in(tmp_path, "one", RECIPE.model_copy(update={"epochs": 30}))
    train_task(run, Regression)
    curves = final(run)["curves"]
    assert curves[-1]["validation_closeness"] > curves[0]["validation_closeness"]


@pytest.mark.parametrize("n_steps", [1, 3, 4, 5])
def test_stops_within_and_between_epochs_change_nothing(tmp_path, monkeypatch, n_steps):
    whole, stopped = run_in(tmp_path, "whole"), run_in(tmp_path, "stopped")
    train_task(whole, Regression)
    stop_after(monkeypatch, n_steps)
    tasks, n_stops = [Regression()], 0
    while not (stopped.folder / "checkpoint_final.pth").is_file():
        try:
            train_task(stopped, lambda: tasks.append(Regression()) or tasks[-1])
        except Stopped:
            n_stops += 1
            assert latest(stopped).is_file()
    assert n_stops == 12 // n_steps
    assert same(final(whole)["network_weights"], final(stopped)["network_weights"])
    assert final(whole)["curves"] == final(stopped)["curves"]
    assert not latest(stopped).exists()
    drawn = [value for task in tasks for value in task.drawn]
    assert len({*drawn}) == len(drawn) == 12, "no batch twice, none left out"


def test_a_killed_training_goes_on_from_its_last_checkpoint(tmp_path, monkeypatch):
    whole, killed = run_in(tmp_path, "whole"), run_in(tmp_path, "killed", checkpoint_steps=2)
    train_task(whole, Regression)
    step = loop._Loop._step

    def die(self, batch):
        if self.steps_done == 7:
            raise MemoryError
        step(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(loop._Loop, "_step", die)
        with pytest.raises(MemoryError):
            train_task(killed, Regression)
    again = Regression()
    train_task(killed, lambda: again)
    assert len(again.drawn) == 12 - 6
    assert same(final(whole)["network_weights"], final(killed)["network_weights"])


def test_seed_and_fold_decide_the_weights_and_nothing_outside(tmp_path):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one = run_in(tmp_path, "one")
    train_task(one, Regression)
    assert torch.equal(torch.random.get_rng_state(), before), "torch's own draws are left as they were"
    torch.rand(3)
    two, seeded = run_in(tmp_path, "two"), run_in(tmp_path, "seeded", seed=1)
    folded = replace(run_in(tmp_path, "folded"), fold=3)
    folded.folder.mkdir()
    for other in (two, seeded, folded):
        train_task(other, Regression)
    assert file_digest(one.folder / "checkpoint_final.pth") == file_digest(two.folder / "checkpoint_final.pth")
    assert not same(final(one)["network_weights"], final(seeded)["network_weights"])
    assert not same(final(one)["network_weights"], final(folded)["network_weights"])


def test_training_ends_early_without_a_better_figure_and_the_best_weights_stay(tmp_path):
    run = with_schedule(tmp_path, stop_after_epochs=3, keep="best")
    task = Scripted([0.1, 0.5, 0.4, 0.5, 0.2, 0.9, 0.9, 0.9])
    train_task(run, lambda: task)
    assert len(final(run)["curves"]) == 5, "the best, then three that are not better"
    assert same(final(run)["network_weights"], task.seen[1])


def test_without_a_choice_the_last_weights_stay(tmp_path):
    run, task = with_schedule(tmp_path, epochs=3), Scripted([0.9, 0.2, 0.1])
    train_task(run, lambda: task)
    assert same(final(run)["network_weights"], task.seen[2])


def test_the_best_weights_outlive_a_stop(tmp_path, monkeypatch):
    run = with_schedule(tmp_path, epochs=4, keep="best")
    stop_after(monkeypatch, 3)
    first = Scripted([0.1, 0.8, 0.3])
    with pytest.raises(Stopped):
        train_task(run, lambda: first)
    second = Scripted([0.3, 0.2])
    train_task(run, lambda: second)
    assert same(final(run)["network_weights"], first.seen[1])


@pytest.mark.parametrize("figures", [[math.nan, 0.2, math.nan, math.nan, math.nan], [0.2, math.nan, math.nan, 0.1]])
def test_an_undefined_figure_is_never_the_best(tmp_path, figures):
    run = with_schedule(tmp_path, epochs=len(figures), keep="best", stop_after_epochs=3)
    task = Scripted(figures)
    train_task(run, lambda: task)
    best = figures.index(0.2)
    assert same(final(run)["network_weights"], task.seen[best])
    assert len(task.seen) == min(best + 4, len(figures))


def test_where_every_figure_is_undefined_the_last_weights_stay(tmp_path):
    run = with_schedule(tmp_path, epochs=2, keep="best")
    task = Scripted([math.nan, math.nan])
    train_task(run, lambda: task)
    assert same(final(run)["network_weights"], task.seen[1])


# Learning rates

RATE = OptimizerSettings(learning_rate=1.0)


def rates(schedule, n_steps, figures=(), optimizer=RATE):
    return [scheduled_rate(optimizer, schedule, step, n_steps, figures) for step in range(n_steps)]


def test_a_constant_rate_rises_first():
    warm = OptimizerSettings(learning_rate=0.5, warmup_steps=3)
    assert rates(ScheduleSettings(), 6, optimizer=warm) == [0.125, 0.25, 0.375, 0.5, 0.5, 0.5]


def test_a_rate_falls_at_given_shares_of_all_steps():
    """As the single-shot detector's: at 100 and 120 of 150 thousand iterations, here of 15 steps."""
    schedule = ScheduleSettings(decay="steps", falls_at=(10 / 15, 12 / 15))
    assert rates(schedule, 15) == pytest.approx([1.0] * 10 + [0.1] * 2 + [0.01] * 3)


def test_a_rate_falls_where_the_figure_stays():
    schedule = ScheduleSettings(decay="plateau", patience_epochs=2, factor=0.5)
    figures = [0.1, 0.3, 0.3, 0.2, 0.2, 0.2, 0.4, 0.1, 0.1]
    found = [scheduled_rate(RATE, schedule, 0, 10, figures[:n]) for n in range(len(figures) + 1)]
    assert found == [1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125]


def test_undefined_figures_make_no_plateau_before_there_is_a_defined_one():
    schedule = ScheduleSettings(decay="plateau", patience_epochs=2)
    figures = [math.nan, math.nan, math.nan, 0.3, math.nan, math.nan]
    assert [scheduled_rate(RATE, schedule, 0, 10, figures[:n]) for n in range(7)] == pytest.approx([1.0] * 6 + [0.1])


def test_a_plateau_is_torchs():
    """Torch counts the epochs beyond its patience, so that its 2 are our 3."""
    figures = np.random.default_rng(0).random(60).round(1).tolist()
    schedule = ScheduleSettings(decay="plateau", patience_epochs=3, factor=0.5)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 1.0)
    torchs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, "max", factor=0.5, patience=2, threshold=0.0, min_lr=0.0, eps=0.0
    )
    for n, figure in enumerate(figures, start=1):
        torchs.step(figure)
        assert scheduled_rate(RATE, schedule, 0, 100, figures[:n]) == optimizer.param_groups[0]["lr"]


def test_the_loop_follows_the_schedule(tmp_path):
    run = with_schedule(tmp_path, epochs=6, decay="plateau", patience_epochs=2)
    train_task(run, lambda: Scripted([0.5, 0.5, 0.4, 0.3, 0.6, 0.6]))
    found = [row["learning_rate"] for row in final(run)["curves"]]
    assert found == pytest.approx([0.01, 0.01, 0.01, 0.001, 0.001, 0.001])


# What it does not go on from


@pytest.fixture
def broken_off(tmp_path, monkeypatch):
    run = run_in(tmp_path, "one")
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        with pytest.raises(Stopped):
            train_task(run, Regression)
    return run


def test_a_damaged_checkpoint_is_named_with_its_cure(broken_off):
    content = latest(broken_off).read_bytes()
    for damaged in (b"", b"no checkpoint", content[: len(content) // 2]):
        latest(broken_off).write_bytes(damaged)
        with pytest.raises(InputError, match=r"checkpoint_latest.pth: training cannot go on from it .*; delete it"):
            train_task(broken_off, Regression)
    latest(broken_off).unlink()
    train_task(broken_off, Regression)
    assert len(final(broken_off)["curves"]) == 3


def test_a_checkpoint_without_a_part_is_refused(broken_off):
    content = torch.load(latest(broken_off), weights_only=True)
    del content["losses"]
    torch.save(content, latest(broken_off))
    with pytest.raises(InputError, match="cannot go on from it"):
        train_task(broken_off, Regression)


def test_a_checkpoint_of_another_network_is_refused(broken_off):
    class Other(Regression):
        def __init__(self):
            super().__init__()
            self.network = nn.Linear(4, 1)

    with pytest.raises(InputError, match="cannot go on from it"):
        train_task(broken_off, Other)


@pytest.mark.parametrize("change", [{"seed": 1}, {"folds": "sha256:other"}, {"members": {"supervised": "sha256:m"}}])
def test_a_checkpoint_of_other_settings_is_refused(broken_off, change):
    other = replace(broken_off, shared={**broken_off.shared, **change})
    before = (broken_off.model / "plans.json").read_bytes()
    with pytest.raises(
        InputError, match="of another fold, plan, recipe, seed or deal of the cases to folds; delete it"
    ):
        train_task(other, Regression)
    assert (broken_off.model / "plans.json").read_bytes() == before


def test_a_checkpoint_of_another_fold_is_refused(broken_off):
    other = replace(broken_off, fold=1)
    other.folder.mkdir()
    latest(broken_off).rename(latest(other))
    with pytest.raises(InputError, match="of another fold"):
        train_task(other, Regression)


def corrected(run):
    """The same fold by another recipe."""
    recipe = RECIPE.model_copy(update={"epochs": 4})
    return replace(run, shared={**run.shared, "recipe": recipe.model_dump(mode="json")}, recipe=recipe)


@pytest.mark.parametrize("file", ["checkpoint_latest.pth", "checkpoint_final.pth"])
def test_folds_of_other_settings_do_not_share_a_folder(broken_off, file):
    (broken_off.model / "fold_0").mkdir()
    latest(broken_off).rename(broken_off.model / "fold_0" / file)
    other = corrected(broken_off)
    with pytest.raises(InputError, match="holds folds trained with another recipe or schedule"):
        train_task(other, Regression)


class Diverging(Regression):
    """Its loss is no number from a step on, and again one where it is told so."""

    def __init__(self, wrong):
        super().__init__()
        self.wrong, self.step = wrong, 0

    def loss(self, batch):
        factor = float("nan") if self.step in self.wrong else 1.0
        self.step += 1
        return super().loss(batch) * factor


@pytest.mark.parametrize("step", [0, 5, 11], ids=["first", "middle", "last"])
def test_a_training_whose_loss_is_no_number_ends_with_the_cure(run, step):
    with pytest.raises(
        InputError, match=rf"fold 2: .*not finite at step {step + 1}; lower .*learning_rate.*{run.model}"
    ):
        train_task(run, lambda: Diverging({step}))
    assert not (run.folder / "checkpoint_final.pth").exists()


def test_a_learning_rate_out_of_all_bounds_is_told(tmp_path):
    recipe = RECIPE.model_copy(update={"optimizer": OptimizerSettings(learning_rate=1e30)})
    run = run_in(tmp_path, "one", recipe)
    with pytest.raises(InputError, match="not finite at step 2"):
        train_task(run, Regression)
    assert not list(run.folder.glob("*.pth"))


def test_half_precision_may_skip_steps_while_its_scale_is_found(run):
    watch = DivergenceWatch(0, run.model, in_half_precision=True)
    for step in range(20):
        watch.see(False, step)
    watch.see(True, 20)
    for step in range(20):
        watch.see(False, step)
    with pytest.raises(InputError, match="step 42"):
        watch.see(False, 41)


def test_a_step_that_leads_nowhere_leaves_the_weights_as_they_are():
    task = Diverging({0})
    optimizer = torch.optim.Adam(task.network.parameters(), 0.1)
    before = [weights.clone() for weights in task.network.parameters()]
    for is_finite in (False, True):
        loss = task.loss(task.batch(np.random.default_rng(0)))
        assert descend(loss, task.network, optimizer, None) is is_finite
        equal = all(torch.equal(*pair) for pair in zip(before, task.network.parameters(), strict=True))
        assert equal is not is_finite
        optimizer.zero_grad()


def test_the_mean_of_losses_passes_over_steps_without_one():
    assert finite_mean([1.0, math.nan, 3.0, math.inf]) == 2
    assert math.isnan(finite_mean([math.nan]))


def test_a_folder_in_which_nothing_came_of_a_training_takes_other_settings(broken_off):
    latest(broken_off).unlink()
    other = corrected(broken_off)
    with own_folder(broken_off.folder, "this fold"):
        train_task(other, Regression)
    assert len(final(other)["curves"]) == 4
    assert read_json(other.model / "plans.json")["cmb_autoseg"]["recipe"]["epochs"] == 4


def test_a_fold_that_another_process_trains_counts_before_its_first_checkpoint(broken_off):
    latest(broken_off).unlink()
    with own_folder(broken_off.model / "fold_0", "the training of fold 0"):
        (broken_off.model / "fold_0" / "progress.tsv").touch()
        with pytest.raises(InputError, match="holds folds trained with another recipe or schedule"):
            train_task(corrected(broken_off), Regression)


def test_what_goes_on_keeps_the_best_weights_and_the_counters_of_steps_on_the_cpu(run):
    """A device without memory stands for a GPU: what is loaded to it has no values."""

    def state_of(settings):
        network = nn.Linear(4, 1)
        optimizer = torch.optim.Adam(network.parameters())
        network(torch.ones(2, 4)).sum().backward()
        optimizer.step()
        return TrainingState(replace(run, settings=settings), network, optimizer, None)

    before = state_of(run.settings)
    before.best = before.weights()
    before.save()
    after = state_of(FoldSettings("meta"))
    after.go_on()
    assert same(after.best, before.best)
    assert same(after.network.state_dict(), before.network.state_dict())
    for own, theirs in zip(after.optimizer.state.values(), before.optimizer.state.values(), strict=True):
        assert same(own, theirs)
        assert own["step"].device.type == "cpu"


@pytest.mark.parametrize(("device", "forked"), [("cpu", []), ("cuda", [3])])
def test_the_generator_of_the_device_is_put_back(run, monkeypatch, device, forked):
    seen = []

    def fork(devices):
        seen.append(devices)
        raise InterruptedError

    monkeypatch.setattr("torch.cuda.current_device", lambda: 3)
    monkeypatch.setattr("torch.random.fork_rng", fork)
    with pytest.raises(InterruptedError):
        train_task(replace(run, settings=FoldSettings(device)), Regression)
    assert seen == [forked]
