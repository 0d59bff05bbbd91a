"""Trained seeds as a model folder like any other."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cmb_autoseg.geometry import Volume
from cmb_autoseg.inference.loading import load_ensemble
from cmb_autoseg.inference.model_folder import intended_use
from cmb_autoseg.inference.model_list import describe_model
from cmb_autoseg.records import Role
from cmb_autoseg.starter.learning.candidates import find_candidates, trained_networks
from cmb_autoseg.starter.learning.first_stage import FirstStage
from cmb_autoseg.starter.learning.loop import CHECKPOINT, learn
from cmb_autoseg.starter.learning.second_stage import SecondStage
from cmb_autoseg.starter.packing import FIRST_NAME, learned_from, write_first_stage, write_model
from cmb_autoseg.trainers.starting_model import find_starting_model


@pytest.fixture
def trained(pool, tmp_path, settings):
    folders = []
    for seed in (1, 2):
        folders.append(tmp_path / f"seed_{seed}")
        learn(FirstStage(pool, replace(settings, seed=seed)), folders[-1], minutes=2)
    return folders


@pytest.fixture
def second(trained, pool, tmp_path, second_settings):
    networks_settings, networks = trained_networks(trained)
    find_candidates(networks, networks_settings, pool, tmp_path / "candidates")
    folders = []
    for seed in (1, 2):
        folders.append(tmp_path / f"second_{seed}")
        task = SecondStage(pool, tmp_path / "candidates", replace(second_settings, seed=seed))
        learn(task, folders[-1], minutes=2)
    return folders


@pytest.fixture
def scan():
    data = np.random.default_rng(0).normal(10, 1, size=(32, 32, 8)).astype(np.float32)
    return {Role.SWI: Volume(data, np.diag([0.75, 0.75, 1.5, 1.0]))}


def test_what_blocks_hold_is_measured(pool):
    learned = learned_from(pool)
    assert (learned.n_people, learned.n_blocks, learned.n_lesions) == (2, 6, 6)
    seen = learned.training_range
    assert seen.spacing_mm_min == seen.spacing_mm_max == (1.5, 0.75, 0.75)
    assert seen.brain_volume_ml == (1200, 2280)  # of stripped scans, and of others
    assert seen.field_strength_t == (3.0,)
    assert seen.snr is not None
    assert 18 < seen.snr[0] < seen.snr[1] < 22  # one over 0.05


def test_each_seed_is_a_fold_of_averaged_weights(trained, pool, tmp_path, scan):
    folder = write_first_stage(tmp_path / "model", trained, learned_from(pool))
    ensemble = load_ensemble(folder, None, "cpu")
    assert ensemble.folds == (0, 1)
    for fold, training in enumerate(trained):
        average = torch.load(training / CHECKPOINT, weights_only=True)["average"]
        kept = ensemble.checkpoint(fold)["network_weights"]
        assert all(torch.equal(average[name], kept[name]) for name in average)
    probability = ensemble.probability(scan).data
    assert probability.shape == (32, 32, 8)
    assert 0 < probability.max() < 1


def test_the_second_stage_looks_at_what_the_first_one_finds(trained, second, pool, tmp_path, scan):
    folder = write_model(tmp_path / "model", trained, second, learned_from(pool))
    ensemble = load_ensemble(folder, None, "cpu")
    assert ensemble.folds == (0, 1)
    assert ensemble.settings.first == ensemble.first.plans["cmb_autoseg"]["recipe"]["name"] == FIRST_NAME
    assert ensemble.settings.window_mm == 12.0
    for fold, training in enumerate(second):
        average = torch.load(training / CHECKPOINT, weights_only=True)["average"]
        kept = ensemble.networks[fold].state_dict()
        assert all(torch.equal(average[name], kept[name]) for name in average)
    first, joined = ensemble.first.probability(scan).data, ensemble.probability(scan).data
    assert first.max() >= ensemble.settings.threshold
    assert joined.shape == first.shape
    assert not np.array_equal(joined, first)


def test_of_two_stages_the_first_one_is_begun_with(trained, second, pool, tmp_path):
    folder = write_model(tmp_path / "model", trained, second, learned_from(pool))
    assert find_starting_model(str(folder)) == folder / "first_stage"
    with pytest.raises(ValueError, match="2 trainings of the first stage and 1 of the second"):
        write_model(tmp_path / "other", trained, second[:1], learned_from(pool))


def test_the_model_says_what_it_has_learned_from(trained, second, pool, tmp_path):
    folder = write_model(tmp_path / "model", trained, second, learned_from(pool))
    facts = describe_model(folder)
    assert facts["sequence_sets"] == [["swi", "gre_mag"]]
    assert facts["learned_from"] == {"subjects": 2, "cases": 6, "lesions": 6}
    assert facts["licence"] == "Apache-2.0"
    assert not facts["finalized"]
    assert "simulated data alone" in intended_use(folder)


def test_other_settings_or_half_a_training_are_refused(trained, pool, tmp_path, settings):
    learned = learned_from(pool)
    other, half = tmp_path / "other", tmp_path / "half"
    learn(FirstStage(pool, replace(settings, learning_rate=1.0)), other, minutes=2)
    learn(FirstStage(pool, settings), half, minutes=0)
    with pytest.raises(ValueError, match="different settings"):
        write_first_stage(tmp_path / "model", [trained[0], other], learned)
    with pytest.raises(ValueError, match=r"has 0 of 12 steps"):
        write_first_stage(tmp_path / "model", [half], learned)
    assert not (tmp_path / "model").exists()
