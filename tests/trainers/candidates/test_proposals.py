"""Peaks of hand-made maps, the voxels they speak for, and the map after the second look."""

import numpy as np
import pytest

from cmb_autoseg.evaluation.matching.candidates import find_candidates
from cmb_autoseg.evaluation.matching.protocols import LesionRule
from cmb_autoseg.geometry import Volume
from cmb_autoseg.trainers.candidates.candidates import propose
from cmb_autoseg.trainers.candidates.fusion import FAINT, fuse, fused_map


def line(*values):
    """A map that is one row of voxels along i."""
    return Volume(np.array(values, dtype=np.float32).reshape(-1, 1, 1), np.eye(4))


def test_two_peaks_of_one_component_are_two_candidates_and_share_its_voxels():
    found = propose(line(0, 0.1, 0.8, 0.3, 0.06, 0.3, 0.5, 0.1, 0, 0.04), 0.05, 60)
    assert found.peaks.tolist() == [[2, 0, 0], [6, 0, 0]]
    assert found.confidence.tolist() == pytest.approx([0.8, 0.5])
    assert found.owners.ravel().tolist() == [0, 1, 1, 1, 2, 2, 2, 2, 0, 0]


def test_a_plateau_is_looked_at_in_its_middle():
    """A network that is sure, and a box that is filled with its score, have no single highest voxel."""
    data = np.zeros((20, 20, 9), dtype=np.float32)
    data[4:11, 6:9, 2:5] = 1.0
    data[7, 7, 3] = np.float32(1 - 1e-4)
    found = propose(Volume(data, np.eye(4)), 0.05, 60)
    assert found.peaks.tolist() == [[7, 7, 3]]
    assert found.confidence.tolist() == [1.0]


def test_only_the_highest_stay_and_the_others_voxels_belong_to_nobody():
    found = propose(line(0.3, 0, 0.9, 0, 0.6), 0.05, 2)
    assert found.confidence.tolist() == pytest.approx([0.9, 0.6])
    assert found.owners.ravel().tolist() == [0, 0, 1, 0, 2]


def test_an_empty_map_proposes_nothing():
    found = propose(line(0, 0.04, 0), 0.05, 60)
    assert len(found) == 0
    assert found.peaks.shape == (0, 3)
    assert not found.owners.any()


def test_a_noisy_map_is_shared_out_completely():
    rng = np.random.default_rng(0)
    noise = Volume(rng.random((12, 10, 8)).astype(np.float32), np.diag([1.0, 1.0, 3.0, 1.0]))
    found = propose(noise, 0.3, 1000)
    assert ((found.owners > 0) == (noise.data >= 0.3)).all()
    for number, (peak, confidence) in enumerate(zip(found.peaks, found.confidence, strict=True), start=1):
        assert found.owners[tuple(peak)] == number
        assert 0.99 * confidence <= noise.data[tuple(peak)] <= confidence + 1e-7


@pytest.mark.parametrize(("fusion", "expected"), [("product", 0.16), ("geometric_mean", 0.4), ("second", 0.2)])
def test_two_opinions_become_one(fusion, expected):
    assert fuse(np.array([0.8]), np.array([0.2]), fusion) == pytest.approx([expected])


def test_each_candidate_is_as_high_as_it_was_fused_and_keeps_its_shape():
    first = line(0.02, 0.1, 0.8, 0.4, 0, 0.2, 0.5, 0.25, 0)
    found = propose(first, 0.05, 60)
    joined = fused_map(first.data, found, np.array([0.2, 0.9]), 0.05).ravel()
    assert joined[1:4].tolist() == pytest.approx([0.025, 0.2, 0.1])
    assert joined[5:8].tolist() == pytest.approx([0.36, 0.9, 0.45])
    assert joined[0] == pytest.approx(0.02 * FAINT / 0.05)
    assert joined[4] == 0


def test_a_vetoed_candidate_vanishes_with_its_halo():
    """Voxels below half of the peak are no part of a blob, but would stay as a ring if they were left."""
    first = line(0.06, 0.2, 0.4, 0.9, 0.4, 0.2, 0.06)
    joined = fused_map(first.data, propose(first, 0.05, 60), np.array([0.0]), 0.05)
    assert not joined.any()


def test_a_slope_goes_with_the_peak_that_it_climbs_to():
    # Voxel 3 (0.42) is nearer to the faint candidate's blob, and would be a peak of its own if it stayed with that one.
    first = line(0.9, 0.44, 0.43, 0.42, 0.08, 0.2, 0.2)
    found = propose(first, 0.05, 60)
    assert found.owners.ravel()[[0, 1, 2, 3, 5, 6]].tolist() == [1, 1, 1, 1, 2, 2]
    joined = fused_map(first.data, found, np.array([0.0, 0.2]), 0.05)
    assert joined.ravel()[:4].tolist() == [0, 0, 0, 0]


def test_no_voxel_outdoes_the_peak_that_it_belongs_to():
    first, fused = line(0.9, 0.44, 0.43, 0.42, 0.08, 0.2, 0.2), np.array([0.1, 0.99])
    joined = fused_map(first.data, propose(first, 0.05, 60), fused, 0.05).ravel()
    assert joined[:4].max() == pytest.approx(0.1)
    assert joined[5:].max() == pytest.approx(0.99)


def test_a_vetoed_neighbor_leaves_nothing_behind():
    """A wide bump, vetoed, whose slope reaches a narrow one, confirmed: what is left is the narrow one's own shape."""
    away = np.indices((24, 16, 12), dtype=float) - np.array([8, 8, 6]).reshape(3, 1, 1, 1)
    wide = 0.9 * np.exp(-(away**2).sum(axis=0) / 20)
    away[0] -= 7
    narrow = 0.6 * np.exp(-(away**2).sum(axis=0) / 4)
    first = Volume(np.maximum(wide, narrow).astype(np.float32), np.eye(4))
    found = propose(first, 0.05, 60)
    joined = first.with_data(fused_map(first.data, found, np.array([0.001, 0.6]), 0.05))
    assert np.array_equal(joined.data >= 0.1, narrow >= 0.1)
    assert find_candidates(joined, LesionRule(), 0.02).confidence.tolist() == pytest.approx([0.6])


def test_what_is_below_the_threshold_keeps_its_order_below_every_operating_point():
    first = line(0.0, 0.01, 0.03, 0.0499, 0.9)
    joined = fused_map(first.data, propose(first, 0.05, 60), np.array([0.9]), 0.05).ravel()
    assert joined[0] < joined[1] < joined[2] < joined[3] < FAINT < 0.02


def test_candidates_that_were_too_many_become_zero():
    first = line(0.3, 0, 0.9, 0, 0.6)
    joined = fused_map(first.data, propose(first, 0.05, 2), np.array([0.5, 0.4]), 0.05).ravel()
    assert joined.tolist() == pytest.approx([0, 0, 0.5, 0, 0.4])
