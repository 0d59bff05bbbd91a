"""Votes on hand-made maps of few voxels, counted by hand."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest

from cmb_autoseg.trainers.mixture.votes import lesion_votes, vote_map

SHAPE = (24, 8, 3)


def maps_of(*members):
    """One map a member, from `{(first, last): probability}` of lesions along a line of voxels."""
    found = []
    for lesions in members:
        own = np.zeros(SHAPE, dtype=np.float32)
        for (first, last), probability in lesions.items():
            own[first : last + 1, 3, 1] = probability
        found.append(own)
    return found


def test_a_lesion_has_the_votes_of_all_who_share_a_voxel_with_it():
    maps = maps_of({(2, 4): 0.9, (12, 13): 0.8}, {(4, 6): 0.7}, {(12, 12): 0.6, (20, 20): 0.9})
    line = lesion_votes(maps, [0.5, 0.3, 0.2], 0.5)[:, 3, 1]
    expected = np.zeros(24)
    expected[2:7] = 0.8  # of the first two, which share voxel 4
    expected[12:14] = 0.7
    expected[20] = 0.2
    assert line == pytest.approx(expected)


def test_lesions_that_touch_without_a_common_voxel_have_only_their_own_votes():
    line = lesion_votes(maps_of({(2, 4): 0.9}, {(5, 6): 0.9}), [0.6, 0.4], 0.5)[:, 3, 1]
    assert line[[2, 4]] == pytest.approx([0.6, 0.6])
    assert line[[5, 6]] == pytest.approx([0.4, 0.4])


def test_corners_connect_a_lesion():
    first, second = np.zeros((2, *SHAPE), dtype=np.float32)
    first[2, 2, 0] = first[3, 3, 1] = 0.9
    second[3, 3, 1] = 0.9
    assert lesion_votes([first, second], [0.5, 0.5], 0.5)[2, 2, 0] == 1


def test_of_three_in_a_row_the_middle_one_has_all_votes_and_the_outer_ones_two():
    line = lesion_votes(maps_of({(2, 4): 0.9}, {(4, 8): 0.9}, {(8, 10): 0.9}), [1 / 3] * 3, 0.5)[:, 3, 1]
    assert line[[2, 3, 9, 10]] == pytest.approx([2 / 3] * 4)
    assert line[[4, 6, 8]] == pytest.approx([1, 1, 1])


def test_the_map_by_hand():
    # Weights 0.6 and 0.4 give the shares 0.4, 0.6 and 1, so 0.5 to 1 is cut at 0.7 and 0.8.
    maps = maps_of({(2, 4): 0.9, (12, 12): 0.5, (20, 20): 0.3}, {(4, 6): 0.7, (16, 16): 1.0})
    line = vote_map(maps, [0.6, 0.4], 0.5)[:, 3, 1]
    assert line[4] == pytest.approx(0.5 + 0.5 * (0.6 + 0.4 * (0.6 * 0.9 + 0.4 * 0.7)))
    assert line[2] == pytest.approx(0.5 + 0.5 * (0.6 + 0.4 * (0.6 * 0.9)))
    assert line[12] == pytest.approx(0.5 + 0.5 * (0.4 + 0.2 * (0.6 * 0.5)))
    assert line[16] == pytest.approx(0.5 + 0.5 * (0.0 + 0.4 * 0.4))
    assert line[20] == pytest.approx(0.6 * 0.3)
    assert line[[0, 23]] == pytest.approx([0, 0])


def test_more_votes_win_over_any_probability():
    rng = np.random.default_rng(0)
    weights = [0.5, 0.3, 0.2]
    maps = [rng.random((12, 12, 4), dtype=np.float32) ** 2 for _ in weights]
    votes, value = lesion_votes(maps, weights, 0.5).ravel(), vote_map(maps, weights, 0.5).ravel()
    assert value.min() >= 0
    assert value.max() <= 1
    shares = np.unique(votes.round(9))
    assert len(shares) > 2
    for low, high in pairwise(shares):
        assert value[votes.round(9) == low].max() < value[votes.round(9) == high].min()


def test_a_member_of_no_weight_has_no_vote():
    maps = maps_of({(2, 4): 0.9}, {(4, 8): 0.9})
    assert np.array_equal(vote_map(maps, [1, 0], 0.5), vote_map(maps[:1], [1], 0.5))


def test_the_order_of_the_members_plays_no_part():
    rng = np.random.default_rng(1)
    maps = [rng.random((9, 9, 4), dtype=np.float32) for _ in range(3)]
    weights = [0.5, 0.3, 0.2]
    turned = vote_map(maps[::-1], weights[::-1], 0.5)
    assert vote_map(maps, weights, 0.5) == pytest.approx(turned, abs=1e-6)


def test_lesions_begin_at_the_common_threshold():
    maps = maps_of({(2, 4): 0.25}, {(4, 6): 0.2, (12, 12): 0.19})
    line = vote_map(maps, [0.5, 0.5], 0.2)[:, 3, 1]
    assert line[4] == pytest.approx(0.5 + 0.5 * (0.5 + 0.5 * 0.225))
    assert line[12] == pytest.approx(0.5 * (0.5 * 0.19) / 0.2)


def test_memory_hangs_on_the_maps_and_hardly_on_what_votes():
    shape = (64, 64, 40)
    maps = [np.random.default_rng(seed).random(shape, dtype=np.float32) ** 20 for seed in range(2)]
    tracemalloc.start()
    try:
        vote_map(maps, (0.5, 0.5), 0.5)
        assert tracemalloc.get_traced_memory()[1] < 20 * maps[0].size
    finally:
        tracemalloc.stop()
