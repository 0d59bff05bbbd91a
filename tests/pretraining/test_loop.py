import csv

import pytest
import torch

from cmb_autoseg.errors import InputError
from cmb_autoseg.interruption import Stopped, StopRequest
from cmb_autoseg.networks import ResidualUNet
from cmb_autoseg.pretraining import loop
from cmb_autoseg.pretraining.loop import CHECKPOINT, CURVE_COLUMNS, cosine_rate, pretrain, steps_done
from cmb_autoseg.pretraining.setup import build_encoder
from cmb_autoseg.trainers.recipe import AugmentationSettings


def learned(setup, cases, folder, **options):
    encoder = build_encoder(len(setup.channels), setup.topology, 3)
    rows = pretrain(encoder, cases, setup, folder, "cpu", 3, **options)
    return encoder.state_dict(), rows


def assert_same(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def stop_after(n_steps):
    request = StopRequest()
    seen = []

    def on_step(note):
        seen.append(note)
        if len(seen) == n_steps:
            request.number = 15

    return {"stop": request, "on_step": on_step}


@pytest.mark.parametrize("method", ["barlow_twins", "masked_autoencoding"])
def test_a_run_that_was_stopped_ends_with_the_weights_of_one_that_was_not(make_setup, cases, tmp_path, method):
    setup = make_setup(method)
    expected, rows = learned(setup, cases, tmp_path / "whole")
    folder = tmp_path / "parts"
    for n_steps, done in ((2, 2), (2, 4)):
        with pytest.raises(Stopped):
            learned(setup, cases, folder, **stop_after(n_steps))
        assert steps_done(folder) == done
    found, rows_of_parts = learned(setup, cases, folder)
    assert_same(found, expected)
    assert rows_of_parts == rows
    first = build_encoder(3, setup.topology, 3).state_dict()
    assert not torch.equal(found["stem.0.weight"], first["stem.0.weight"])


def test_a_kill_costs_at_most_the_steps_since_the_last_checkpoint(make_setup, cases, tmp_path):
    setup = make_setup(steps_per_epoch=6, epochs=1)

    class KilledError(Exception):
        pass

    def on_step(note):
        if steps_done(tmp_path) == 4:
            raise KilledError

    with pytest.raises(KilledError):
        learned(setup, cases, tmp_path, checkpoint_steps=2, on_step=on_step)
    assert_same(learned(setup, cases, tmp_path)[0], learned(setup, cases, tmp_path / "whole")[0])


def test_a_finished_run_gives_its_weights_without_another_step(make_setup, cases, tmp_path):
    setup = make_setup(epochs=1)
    expected, rows = learned(setup, cases, tmp_path)
    notes = []
    found, again = learned(setup, cases, tmp_path, on_step=notes.append)
    assert not notes
    assert again == rows
    assert_same(found, expected)


def test_fewer_patches_at_a_time_learn_the_same_and_may_go_on_for_each_other(make_setup, cases, tmp_path):
    expected, _ = learned(make_setup(), cases, tmp_path / "whole")
    with pytest.raises(Stopped):
        learned(make_setup(), cases, tmp_path / "small", **stop_after(2))
    found, _ = learned(make_setup(micro_batch_size=3), cases, tmp_path / "small")
    assert all(torch.allclose(found[name], expected[name], atol=1e-5) for name in expected)


def test_a_checkpoint_of_other_settings_is_refused(make_setup, cases, tmp_path):
    learned(make_setup(epochs=1), cases, tmp_path)
    with pytest.raises(InputError, match=rf"{CHECKPOINT}: of another recipe.*delete it"):
        learned(make_setup(epochs=1, learning_rate=1e-3), cases, tmp_path)
    with pytest.raises(InputError, match="of another recipe"):
        learned(make_setup(epochs=1), cases[:-1], tmp_path)


def test_a_damaged_checkpoint_is_refused(make_setup, cases, tmp_path):
    (tmp_path / CHECKPOINT).write_bytes(b"nothing")
    assert steps_done(tmp_path) == 0
    with pytest.raises(InputError, match=r"cannot go on from it \(UnpicklingError\); delete it"):
        learned(make_setup(), cases, tmp_path)


@pytest.mark.parametrize(
    ("method", "missing"), [("barlow_twins", ()), ("masked_autoencoding", ("on_diagonal", "off_diagonal"))]
)
def test_curves_have_a_row_before_the_first_step_and_one_an_epoch(make_setup, cases, tmp_path, method, missing):
    _, rows = learned(make_setup(method), cases, tmp_path)
    with (tmp_path / "progress.tsv").open() as stream:
        written = list(csv.DictReader(stream, delimiter="\t"))
    assert list(written[0]) == list(CURVE_COLUMNS)
    assert [row["epoch"] for row in written] == ["0", "1", "2"]
    for name in CURVE_COLUMNS:
        assert (written[1][name] == "n/a") == (name in missing) == (name not in rows[1])


def test_the_first_row_is_of_random_weights(make_setup, cases, tmp_path):
    slow, fast = ({"learning_rate": rate, "warmup_steps": 0, "epochs": 1} for rate in (1e-12, 1e-2))
    _, still = learned(make_setup(**slow), cases, tmp_path / "still")
    _, moved = learned(make_setup(**fast), cases, tmp_path / "moved")
    figures = ("loss", "on_diagonal", "off_diagonal", "effective_rank")
    assert [moved[0][name] for name in figures] == [still[0][name] for name in figures]
    assert still[1]["effective_rank"] == pytest.approx(still[0]["effective_rank"], rel=1e-4)
    assert moved[1]["effective_rank"] != pytest.approx(moved[0]["effective_rank"], rel=1e-4)


def test_what_is_common_to_two_sequences_is_learned(make_setup, cases, tmp_path):
    plain = AugmentationSettings(warp_probability=0, elastic_mm=0, flip=(), intensity_probability=0)
    setup = make_setup(
        epochs=3, steps_per_epoch=8, batch_size=8, learning_rate=5e-3, channel_dropout=0, augmentation=plain
    )
    _, rows = learned(setup, cases, tmp_path)
    assert rows[-1]["on_diagonal"] > rows[0]["on_diagonal"] + 0.1
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert rows[-1]["effective_rank"] > 2


def test_the_learning_rate_rises_linearly_and_falls_to_zero(make_setup):
    settings = make_setup(epochs=10, steps_per_epoch=10, warmup_steps=20, learning_rate=1.0).settings
    rates = [cosine_rate(settings, step) for step in range(100)]
    assert rates[0] == pytest.approx(1 / 21)
    assert rates[19] == pytest.approx(20 / 21)
    assert rates[20] == 1
    assert rates[60] == pytest.approx(0.5)
    assert 0 < rates[99] < 0.001
    short = make_setup(epochs=1, steps_per_epoch=4, warmup_steps=500, learning_rate=1.0).settings
    assert max(cosine_rate(short, step) for step in range(4)) == 1


def test_a_level_that_the_network_lacks_is_refused(make_setup, cases, tmp_path):
    setup = make_setup(places="voxels")
    twins = setup.settings.barlow_twins.model_copy(update={"voxel_level": 3})
    settings = setup.settings.model_copy(update={"barlow_twins": twins})
    with pytest.raises(InputError, match="voxel_level: found 3, expected 0 to 2"):
        learned(type(setup)(**{**vars(setup), "settings": settings}), cases, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_loss_that_is_no_number_ends_it(make_setup, cases, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "cosine_rate", lambda settings, step: float("nan"))
    with pytest.raises(InputError, match="loss of step 2 is no finite number"):
        learned(make_setup(), cases, tmp_path)


def test_the_encoder_starts_as_that_of_the_segmenter(make_setup):
    topology = make_setup().topology
    state = torch.get_rng_state()
    encoder = build_encoder(3, topology, 5)
    assert torch.equal(torch.get_rng_state(), state)
    segmenter = ResidualUNet(3, 2, 3, **topology.model_dump())
    assert encoder.state_dict().keys() == segmenter.encoder.state_dict().keys()
    weight = encoder.stages[2][0].conv2.weight
    # He: gain^2 / fan-in, for a leaky ReLU of slope 0.01.
    assert float(weight.detach().var()) == pytest.approx(2 / 1.0001 / (8 * 27), rel=0.15)
    assert not torch.equal(build_encoder(3, topology, 6).stem[0].weight, encoder.stem[0].weight)
