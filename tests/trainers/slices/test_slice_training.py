"""Networks of slices on a few scans: they learn them, and an interruption changes nothing."""

from dataclasses import replace

import pytest
import torch

from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import read_volume
from cmb_autoseg.inference.loading import load_ensemble
from cmb_autoseg.interruption import Stopped
from cmb_autoseg.lesions import find_components
from cmb_autoseg.records import Role
from cmb_autoseg.trainers import loop
from cmb_autoseg.trainers.fold_cases import fold_cases
from cmb_autoseg.trainers.slices import run as slices_run
from cmb_autoseg.trainers.slices.run import train_slices


def volumes_of(case):
    return {role: read_volume(case.image(channel)) for channel, role in enumerate(case.sequences)}


def lesion_f1(ensemble, cases):
    """At probability 0.5; a lesion is found where any of its voxels is."""
    found = n_true = right = n_predicted = 0
    for case in cases:
        predicted = find_components(ensemble.probability(volumes_of(case)).data >= 0.5)
        truth = find_components(read_volume(case.label, dtype="uint8").data > 0)
        both = (predicted.labels > 0) & (truth.labels > 0)
        found, n_true = found + len(set(truth.labels[both])), n_true + len(truth)
        right, n_predicted = right + len(set(predicted.labels[both])), n_predicted + len(predicted)
    sensitivity, precision = found / n_true, right / max(n_predicted, 1)
    return 2 * sensitivity * precision / max(sensitivity + precision, 1e-9)


@pytest.mark.parametrize("network", ["residual25d", "unet2d"])
def test_a_small_network_learns_a_few_scans_by_heart(make_recipe, make_run, network):
    schedule = {"epochs": 5, "steps_per_epoch": 24, "schedule": {"keep": "best"}}
    pictures = {"size": [48, 48], "neighbors": int(network == "residual25d"), "normalization": "white_matter_peak"}
    run = make_run(make_recipe(network, slices={"pictures": pictures}, **schedule))
    train_slices(run)
    assert lesion_f1(load_ensemble(run.model, (0,), "cpu"), run.raw.cases) >= 0.9


def test_an_interrupted_training_ends_with_the_same_weights(make_recipe, make_run, monkeypatch):
    recipe = make_recipe(
        "unet2d",
        slices={"augmentation": {"rotation_degrees": 20, "flip": ["coronal"], "intensity": [0.8, 1.2]}},
        schedule={"decay": "plateau", "patience_epochs": 1, "keep": "best"},
    )
    whole, halves = make_run(recipe, "whole"), make_run(recipe, "halves", checkpoint_steps=1)
    train_slices(whole)
    step = loop._Loop._step
    steps = []

    def counted(self, batch):
        step(self, batch)
        steps.append(1)
        if len(steps) in (2, 5):
            self.stop.number = 15

    monkeypatch.setattr(loop._Loop, "_step", counted)
    for _ in range(2):
        with pytest.raises(Stopped):
            train_slices(halves)
    train_slices(halves)
    one, other = (torch.load(run.folder / "checkpoint_final.pth", weights_only=True) for run in (whole, halves))
    assert one["curves"] == other["curves"]
    for name, tensor in one["network_weights"].items():
        assert torch.equal(tensor, other["network_weights"][name]), name


@pytest.fixture
def ensemble(make_recipe, make_run):
    run = make_run(make_recipe("unet2d", epochs=1, steps_per_epoch=1))
    train_slices(run)
    return run, load_ensemble(run.model, None, "cpu")


def test_a_missing_sequence_is_a_blank_channel_and_blank_slices_are_zero(ensemble):
    run, model = ensemble
    swi = volumes_of(run.raw.cases[0])[Role.SWI]
    swi.data[..., :2] = 0
    probability = model.probability({Role.SWI: swi}).data
    assert probability.shape == swi.shape
    assert not probability[..., :2].any()
    assert probability[..., 4].any()
    assert model.n_parameters == sum(p.numel() for p in model._networks[0].parameters())


def test_two_folds_average_their_logits(ensemble):
    run, model = ensemble
    volumes = volumes_of(run.raw.cases[0])
    both = load_ensemble(run.model, (0,), "cpu")
    other = load_ensemble(run.model, (0,), "cpu")._networks[0]
    with torch.no_grad():
        other.head.bias += 2.0
    both._networks.append(other)
    images = torch.rand(2, 2, 48, 48)
    with torch.inference_mode():
        torch.testing.assert_close(both._logits(images), model._logits(images) + 1.0)
    assert (both.probability(volumes).data > model.probability(volumes).data).any()


def test_damaged_weights_are_told(ensemble):
    run, _ = ensemble
    path = run.folder / "checkpoint_final.pth"
    content = torch.load(path, weights_only=True)
    content["network_weights"].pop("head.bias")
    torch.save(content, path)
    with pytest.raises(InputError, match="do not fit together"):
        load_ensemble(run.model, None, "cpu")


def test_cases_without_a_target_are_refused(make_recipe, make_run):
    run = make_run(make_recipe(slices={"lesion_diameter_mm": [8.0, 9.0]}))
    with pytest.raises(InputError, match=r"no lesion of 8-9 mm in its 4 training cases; widen slices.les"):
        train_slices(run)


@pytest.mark.parametrize("schedule", [{"keep": "best"}, {"decay": "plateau"}, {"stop_after_epochs": 2}, {}])
def test_what_decides_are_cases_that_neither_teach_nor_judge(make_recipe, make_run, monkeypatch, schedule):
    run = make_run(make_recipe(schedule=schedule))
    folds = [{"train": ["a", "b", "free"], "val": ["c"]}]
    run = replace(run, cases=fold_cases(run.raw, run.plan, folds, 0, run.recipe, 1.0, 0))
    tasks = []
    monkeypatch.setattr(slices_run, "train_task", lambda _, build: tasks.append(build()))
    train_slices(run)
    slices = tasks[0].slices
    drawn_from, watched = ({case.name for case in cases} for cases in (slices.training, slices.validation))
    if schedule:
        assert len(watched) == 1
        assert watched < {"a", "b"}
        assert drawn_from == {"a", "b", "free"} - watched
    else:
        assert (drawn_from, watched) == ({"a", "b", "free"}, {"c"})
