"""Learning from blocks with dots that are easy to see."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from cmb_autoseg.errors import InputError
from cmb_autoseg.starter import learning
from cmb_autoseg.starter.learning import CHECKPOINT, LOG, learn
from cmb_autoseg.starter.settings import LearningSettings, read_settings


def losses(folder):
    lines = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
    assert "torch" in lines[0]["run"]
    return [line["loss"] for line in lines if "loss" in line]


def test_the_loss_falls_and_the_average_follows(pool, tmp_path, monkeypatch, settings):
    monkeypatch.setattr(learning, "LOG_EVERY", 10)
    settings = replace(settings, steps=80, learning_rate=1e-2)
    assert learn(pool, tmp_path / "out", settings, minutes=2) == 80

    early, *_, late = losses(tmp_path / "out")
    assert late < 0.8 * early
    content = torch.load(tmp_path / "out" / CHECKPOINT, weights_only=True)
    assert read_settings(content["settings"]) == settings
    names = [name for name in content["network"] if name.endswith("weight")]
    assert any(not torch.equal(content["network"][name], content["average"][name]) for name in names)


def test_a_run_goes_on_where_the_last_one_stopped(pool, tmp_path, settings):
    out = tmp_path / "out"
    assert learn(pool, out, settings, minutes=0) == 0
    assert learn(pool, out, settings, minutes=2) == 12
    before = (out / CHECKPOINT).read_bytes()
    assert learn(pool, out, settings, minutes=2) == 12  # nothing left to do
    assert before == (out / CHECKPOINT).read_bytes()


def test_runs_of_one_seed_are_equal(pool, tmp_path, settings):
    """Although views are drawn by a thread of their own, which learns of hard places meanwhile."""
    settings = replace(settings, steps=40, hard_share=0.5, learning_rate=1e-2)
    ends = []
    for name in ("first", "second"):
        learn(pool, tmp_path / name, settings, minutes=2)
        ends.append(torch.load(tmp_path / name / CHECKPOINT, weights_only=True)["network"])
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_what_was_met_of_late_is_not_shown_yet(pool, settings):
    source = learning._Source(pool, settings, 0)
    for step in range(6):
        source.add_hard(step, None, np.zeros(3))
    assert [place[0] for place in source._hard_at(6)] == [0, 1, 2]


def test_each_run_logs_itself_and_its_last_steps(pool, tmp_path, settings):
    learn(pool, tmp_path / "out", settings, minutes=2)
    run, last = [json.loads(line) for line in (tmp_path / "out" / LOG).read_text().splitlines()]
    assert run["run"]["seed"] == 0
    assert (run["run"]["steps"], run["run"]["people"], last["step"]) == (12, 2, 12)
    assert last["loss"] > 0


def test_a_run_of_other_settings_is_refused(pool, tmp_path, settings):
    learn(pool, tmp_path / "out", settings, minutes=0)
    with pytest.raises(ValueError, match="other settings"):
        learn(pool, tmp_path / "out", replace(settings, learning_rate=1.0), minutes=0)


def test_an_empty_pool_is_refused(tmp_path, settings):
    with pytest.raises(InputError, match="no simulated blocks"):
        learn(tmp_path, tmp_path / "out", settings, minutes=1)


def test_the_topology_is_what_the_planner_would_choose():
    from cmb_autoseg.planners.topology import plan_topology

    settings = LearningSettings()
    planned = plan_topology(settings.views.spacing_mm, settings.views.patch_shape, settings.features)
    assert planned.kernel_sizes == settings.kernel_sizes
    assert planned.strides == settings.strides
    assert set(planned.n_blocks_per_stage) == {settings.blocks_per_stage}


def test_what_was_falsely_found_is_shown_again_at_its_place(pool, tmp_path, settings):
    """A network that takes one corner of the view for a microbleed sends that corner's place in the block."""
    settings = replace(settings, views=replace(settings.views, scaling=0.0))
    source = learning._Source(pool, settings, 0)
    source._turn()
    item = source._item(0)
    logits = torch.zeros(1, 2, 4, 16, 16)
    logits[0, 1] = -10.0
    logits[0, 1, 0, 2, 3] = 10.0
    learning._remember_hard(source, 0, [item], logits, torch.zeros(1, 1, 4, 16, 16), settings)

    ((_, block, place),) = source._hard
    assert block is item.block
    z, y, x = (0, 2, 3)
    y, x = (15 - y if 1 in item.draw.flips else y), (15 - x if 2 in item.draw.flips else x)
    expected = item.draw.centre + np.array([x - 7.5, y - 7.5, z - 1.5])
    np.testing.assert_allclose(place, expected, atol=1e-6)


def test_a_microbleed_that_was_missed_is_shown_again(pool, settings):
    """Of two marked places the one that is found a voxel away is not."""
    settings = replace(settings, views=replace(settings.views, scaling=0.0))
    source = learning._Source(pool, settings, 0)
    source._turn()
    item = source._item(0)
    target, logits = torch.zeros(1, 1, 4, 16, 16), torch.zeros(1, 2, 4, 16, 16)
    target[0, 0, 1, 3, 4] = target[0, 0, 2, 12, 12] = 1
    logits[0, 1] = -3.0
    logits[0, 1, 2, 12, 13] = 10.0
    learning._remember_hard(source, 0, [item], logits, target, settings)

    ((_, _, place),) = source._hard
    z, y, x = (1, 3, 4)
    y, x = (15 - y if 1 in item.draw.flips else y), (15 - x if 2 in item.draw.flips else x)
    expected = item.draw.centre + np.array([x - 7.5, y - 7.5, z - 1.5])
    np.testing.assert_allclose(place, expected, atol=1e-6)


def test_patches_about_lesions_become_fewer(pool, settings, monkeypatch):
    settings = replace(settings, steps=100, batch_size=4, last_lesion_share=0.0, hard_share=0.0)
    shares = []
    draw = learning.draw_view
    monkeypatch.setattr(
        learning,
        "draw_view",
        lambda rng, block, views, about: (shares.append(views.lesion_share), draw(rng, block, views))[1],
    )
    for step in (0, 50, 98):
        items = iter(learning._Source(pool, settings, step))
        for _ in range(8):
            next(items)
    first = settings.views.lesion_share
    expected = np.repeat([0.0, 0.01, 0.5, 0.51, 0.98, 0.99], 4)
    np.testing.assert_allclose(shares, first * (1 - expected), atol=1e-9)


def test_learning_needs_torch_alone():
    """So that it runs on a machine that has nothing else."""
    program = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in {'nibabel', 'scipy', 'pydantic', 'yaml', 'skimage', 'nnunetv2'}:\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "import cmb_autoseg.starter.__main__, cmb_autoseg.starter.learning\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
