"""Neighbours across sequences, counted by hand, and the pictures."""

import numpy as np
import pytest
import torch
from PIL import Image

from cmb_autoseg.pretraining.curves import draw_pretraining_curves
from cmb_autoseg.pretraining.neighbors import PatchPairs, draw_neighbors, draw_pairs, find_neighbors
from cmb_autoseg.pretraining.patches import PretrainingCase
from cmb_autoseg.records import Role

CHANNELS = (Role.SWI, Role.GRE_MAG, Role.T1)
PATCH = (4, 6, 8)


def case(name, present, seed):
    """(channel, z, y, x) noise in a box with a rim of zeros; absent sequences are zero."""
    image = np.zeros((3, 12, 20, 24), np.float32)
    image[:, 2:-2, 2:-2, 2:-2] = np.random.default_rng(seed).normal(size=(3, 8, 16, 20))
    image[[role not in present for role in CHANNELS]] = 0
    brain = np.argwhere(np.any(image != 0, axis=0)).astype(np.int16)
    return PretrainingCase(name, image, brain)


def present_in(cases):
    return lambda name: next((each.image != 0).any(axis=(1, 2, 3)) for each in cases if each.name == name)


def pairs_of(cases, n_places=12):
    return draw_pairs(cases, CHANNELS, present_in(cases), PATCH, np.random.default_rng(0), n_places)


def test_pairs_show_one_sequence_each_of_cases_that_have_both():
    cases = [case("a", (Role.SWI, Role.T1), 0), case("b", (Role.GRE_MAG,), 1), case("c", (Role.SWI, Role.T1), 2)]

    pairs = pairs_of(cases)

    assert pairs.roles == (Role.SWI, Role.T1)
    assert pairs.first.shape == pairs.second.shape == (12, 3, *PATCH)
    assert pairs.first[:, 1:].abs().sum() == 0
    assert pairs.second[:, :2].abs().sum() == 0
    assert (pairs.first[:, 0] != 0).flatten(1).any(1).all()


def test_the_same_place_is_shown_in_both_sequences():
    one = case("a", (Role.SWI, Role.T1), 0)
    one.image[2] = 2 * one.image[0]
    pairs = pairs_of([one])
    assert torch.equal(2 * pairs.first[:, 0], pairs.second[:, 2])


def test_half_of_the_places_are_dark_and_no_two_are_the_same():
    one = case("a", (Role.SWI, Role.T1), 0)
    pairs = pairs_of([one], 20)
    middles = pairs.first[:, 0, PATCH[0] // 2, PATCH[1] // 2, PATCH[2] // 2]
    assert middles[0] < np.quantile(one.image[0][one.image[0] != 0], 0.05)
    assert len(middles.unique()) == len(middles)


def test_without_two_sequences_there_are_no_pairs():
    assert pairs_of([case("a", (Role.SWI,), 0), case("b", (Role.T1,), 1)]) is None


def by_hand():
    """Three places whose features are the patches' own two voxels; the second sequence adds 10 to both."""
    first = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    second = torch.tensor([[11.0, 10.0], [9.0, 9.0], [10.0, 11.0]])
    return PatchPairs((Role.SWI, Role.T1), first, second, (0, 1))


def test_neighbours_are_ranked_by_the_cosine_around_each_sequences_mean():
    found = find_neighbors(by_hand(), lambda patches: patches)

    # The second sequence is centred on (10, 10): its places are those of the first, the last two swapped.
    assert found.order[:, 0].tolist() == [0, 2, 1]
    np.testing.assert_allclose(found.cosine[:, 0], 1)
    assert found.partner_rank[0] == 0
    assert found.order[1, found.partner_rank[1]] == 1
    assert found.cosine[1, found.partner_rank[1]] == pytest.approx(-np.sqrt(0.5))


def test_perfect_features_find_every_partner_and_features_of_nothing_none_but_by_chance():
    one = case("a", (Role.SWI, Role.T1), 0)
    one.image[2] = one.image[0]
    pairs = pairs_of([one])
    found = find_neighbors(pairs, lambda patches: patches.sum(1).flatten(1))
    assert (found.partner_rank == 0).all()
    blind = find_neighbors(pairs, lambda patches: torch.ones(len(patches), 4))
    assert np.isfinite(blind.cosine).all()


def test_pictures_are_the_same_bytes_twice_and_upright(tmp_path):
    one = case("a", (Role.SWI, Role.T1), 0)
    pairs = pairs_of([one])
    found = find_neighbors(pairs, lambda patches: patches.flatten(1))
    for name in ("one.png", "two.png"):
        draw_neighbors(pairs, found, found, tmp_path / name, (0, 1, 2), (2.0, 1.0, 1.0))
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_frames_stand_where_partners_are(tmp_path):
    one = case("a", (Role.SWI, Role.T1), 0)
    one.image[2] = one.image[0]
    pairs = pairs_of([one])
    hit = find_neighbors(pairs, lambda patches: patches.sum(1).flatten(1))
    missed = find_neighbors(pairs, lambda patches: patches.sum(1).flatten(1) * (-1 if patches[0, 0].any() else 1))
    green = []
    for found in (hit, missed):
        draw_neighbors(pairs, found, found, tmp_path / "n.png", (0, 1, 2), (1.0, 1.0, 1.0))
        pixels = np.asarray(Image.open(tmp_path / "n.png").convert("RGB")).astype(int)
        green.append(int((pixels == (50, 205, 50)).all(-1).sum()))
    assert green[0] > 1000
    assert green[1] == 0


def test_curves_have_a_panel_for_what_the_method_has(tmp_path):
    twins = [
        {"epoch": 0, "loss": 3.0, "on_diagonal": -0.5, "off_diagonal": 0.4, "effective_rank": 2.0},
        {"epoch": 1, "loss": 2.0, "on_diagonal": 0.5, "off_diagonal": 0.1, "effective_rank": 3.0},
    ]
    filling = [{key: row[key] for key in ("epoch", "loss", "effective_rank")} for row in twins]
    draw_pretraining_curves(twins, tmp_path / "twins.png", "ssl")
    draw_pretraining_curves(filling, tmp_path / "filling.png", "mae")
    widths = [Image.open(tmp_path / name).width for name in ("twins.png", "filling.png")]
    assert widths[0] / widths[1] == pytest.approx(1.5, rel=0.01)
