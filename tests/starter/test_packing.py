"""Trained seeds as a model folder like any other."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cmb_autoseg.files import read_json, write_json
from cmb_autoseg.geometry import Volume
from cmb_autoseg.inference import sliding_window
from cmb_autoseg.inference.loading import load_ensemble
from cmb_autoseg.inference.model_folder import intended_use
from cmb_autoseg.inference.model_list import describe_model
from cmb_autoseg.inference.sliding_window import foreground_logits
from cmb_autoseg.records import Role
from cmb_autoseg.starter.calibration import Calibration
from cmb_autoseg.starter.learning import CHECKPOINT, learn
from cmb_autoseg.starter.packing import learned_from, write_model


@pytest.fixture
def trained(pool, tmp_path, settings):
    folders = []
    for seed in (1, 2):
        folders.append(tmp_path / f"seed_{seed}")
        learn(pool, folders[-1], replace(settings, seed=seed), minutes=2)
    return [folder / CHECKPOINT for folder in folders]


def test_what_blocks_hold_is_measured(pool):
    learned = learned_from(pool)
    assert (learned.n_people, learned.n_blocks, learned.n_lesions) == (2, 6, 6)
    seen = learned.training_range
    assert seen.spacing_mm_min == seen.spacing_mm_max == (1.5, 0.75, 0.75)
    assert seen.brain_volume_ml == (1200, 2280)  # of stripped scans, and of others
    assert seen.field_strength_t == (3.0,)
    assert seen.snr is not None
    assert 18 < seen.snr[0] < seen.snr[1] < 22  # one over 0.05


def test_each_seed_is_a_fold_of_averaged_weights(trained, pool, tmp_path):
    folder = write_model(tmp_path / "model", trained, learned_from(pool))
    ensemble = load_ensemble(folder, None, "cpu")
    assert ensemble.folds == (0, 1)
    assert ensemble.plans["cmb_autoseg"]["recipe"]["inference"]["mirror"] == ["sagittal", "coronal"]
    for fold, path in enumerate(trained):
        average = torch.load(path, weights_only=True)["average"]
        kept = ensemble.checkpoint(fold)["network_weights"]
        assert all(torch.equal(average[name], kept[name]) for name in average)
    data = np.random.default_rng(0).normal(size=(32, 32, 8)).astype(np.float32)
    volume = Volume(data, np.diag([0.75, 0.75, 1.5, 1.0]))
    probability = ensemble.probability({Role.SWI: volume}).data
    assert probability.shape == data.shape
    assert 0 < probability.max() < 1


@pytest.mark.parametrize(
    ("sets", "fewer"),
    [
        ([["swi"], ["swi", "gre_mag"], ["qsm"], ["swi", "qsm"], ["swi", "gre_mag", "qsm"]], ((0,), (0, 1))),
        ([], ((0,), (1,), (0, 1))),  # channel dropout has left all of them alone
    ],
)
def test_where_it_is_unsure_it_looks_at_the_magnitudes_that_it_has_learned_alone(
    trained, pool, tmp_path, monkeypatch, sets, fewer
):
    folder = write_model(tmp_path / "model", trained, learned_from(pool))
    plans = read_json(folder / "plans.json")
    plans["cmb_autoseg"]["plan"]["training_range"]["sequence_sets"] = sets
    write_json(folder / "plans.json", plans)
    shown = []

    def watched(data, brain, engine, n_folds, how):
        shown.append(how.fewer)
        return foreground_logits(data, brain, engine, n_folds, how)

    monkeypatch.setattr(sliding_window, "foreground_logits", watched)
    ensemble = load_ensemble(folder, None, "cpu")
    data = np.random.default_rng(0).normal(size=(32, 32, 8)).astype(np.float32)
    volume = Volume(data, np.diag([0.75, 0.75, 1.5, 1.0]))
    ensemble.probability(dict.fromkeys((Role.SWI, Role.GRE_MAG, Role.QSM), volume))
    ensemble.probability({Role.SWI: volume})
    assert shown == [fewer, ()]


def test_logits_are_calibrated_where_it_is_asked_for(trained, pool, tmp_path):
    heads = []
    for name, calibration in (("plain", None), ("calibrated", Calibration(0.5, -1.0))):
        folder = write_model(tmp_path / name, trained, learned_from(pool), calibration)
        heads.append(load_ensemble(folder, None, "cpu").checkpoint(1)["network_weights"]["decoder.heads.0.bias"])
    torch.testing.assert_close(heads[1], 0.5 * heads[0] + torch.tensor([0.0, -1.0]))


def test_the_model_says_what_it_has_learned_from(trained, pool, tmp_path):
    folder = write_model(tmp_path / "model", trained, learned_from(pool))
    facts = describe_model(folder)
    assert facts["sequence_sets"] == [["swi", "gre_mag"]]
    assert facts["learned_from"] == {"subjects": 2, "cases": 6, "lesions": 6}
    assert facts["licence"] == "Apache-2.0"
    assert not facts["finalized"]
    assert "simulated data alone" in intended_use(folder)


def test_other_settings_or_half_a_training_are_refused(trained, pool, tmp_path, settings):
    learned = learned_from(pool)
    other = tmp_path / "other"
    learn(pool, other, replace(settings, learning_rate=1.0), minutes=2)
    with pytest.raises(ValueError, match="differ in more than the seed"):
        write_model(tmp_path / "model", [trained[0], other / CHECKPOINT], learned)
    with pytest.raises(ValueError, match="two of the folders are of one seed"):
        write_model(tmp_path / "model", [trained[0], trained[0]], learned)
    half = tmp_path / "half"
    learn(pool, half, settings, minutes=0)
    with pytest.raises(ValueError, match=r"has 0 of 12 steps"):
        write_model(tmp_path / "model", [half / CHECKPOINT], learned)
