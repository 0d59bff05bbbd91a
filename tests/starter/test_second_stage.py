"""Candidates of a first stage, and what the second one is shown of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cmb_autoseg.starter.blocks import block_files, read_blocks
from cmb_autoseg.starter.learning.candidates import find_candidates, read_candidates
from cmb_autoseg.starter.learning.loop import learn
from cmb_autoseg.starter.learning.second_stage import SecondStage

CORNER = (4, 36, 12)
"""(z, y, x) of blocks of 12 x 40 x 40 voxels."""


class DarkAndACorner(torch.nn.Module):
    """Takes for a microbleed what is dark, and one place beside."""

    def forward(self, image):
        dark = 2 * (-3 - image[:, :2].mean(dim=1)).clamp(min=0)
        dark[:, *CORNER] = 6.0
        return [torch.stack([torch.full_like(dark, 5.0), dark], dim=1)]


@pytest.fixture
def found(pool, tmp_path, settings):
    folder = tmp_path / "candidates"
    settings = replace(settings, views=replace(settings.views, head_share=0.0, width=0.0))
    assert find_candidates([DarkAndACorner()], settings, pool, folder, views=1) > 0
    return folder


def test_candidates_lie_where_the_network_is_surest(pool, found, settings):
    for path in block_files(pool):
        for block, places in zip(read_blocks(path), read_candidates(found / path.name), strict=True):
            assert len(places.right)
            assert (np.abs(places.right.numpy() - [19.5, 19.5, 5.5]) * block.spacing_mm <= 2.5).all()
            (wrong,) = places.wrong.numpy()
            np.testing.assert_allclose(wrong, CORNER[::-1], atol=1e-5)


def test_people_whose_candidates_are_known_are_left_as_they_are(pool, found, settings):
    assert find_candidates([DarkAndACorner()], settings, pool, found) == 0


def test_cubes_show_a_place_in_their_middle_and_are_told_rightly(pool, found, second_settings):
    batches = SecondStage(pool, found, second_settings).batches(0)
    cubes, right = (torch.cat(parts) for parts in zip(*(next(batches) for _ in range(20)), strict=True))
    assert cubes.shape == (80, 4, 16, 16, 16)
    assert 0.2 < right.mean() < 0.6
    middles = cubes[:, :2, 5:11, 5:11, 5:11].amin(dim=(1, 2, 3, 4))
    assert middles[right == 1].mean() < middles[right == 0].mean() - 2


def test_it_learns_to_tell_them(pool, found, second_settings, tmp_path):
    task = SecondStage(pool, found, replace(second_settings, steps=60, learning_rate=1e-2))
    assert learn(task, tmp_path / "out", minutes=2) == 60
    weights = torch.load(tmp_path / "out" / "checkpoint.pt", weights_only=True)["average"]
    network = task.network()
    network.load_state_dict(weights)
    network.eval()
    cubes, right = next(task.batches(1000))
    with torch.no_grad():
        logits = network(cubes)
    assert ((logits > 0).float() == right).float().mean() >= 0.75
