import numpy as np
import pytest
import torch

from cmb_autoseg.pretraining.patches import CasePatches, PretrainingCase
from cmb_autoseg.pretraining.views import PairMaker, SequenceSplit, ViewMaker, draw_places
from cmb_autoseg.trainers.patches.augmentation import Flip, Intensity, SpatialWarp

SUSCEPTIBILITY = (0, 1, 3)
SHAPE, SPACING = (8, 16, 16), (2.0, 1.0, 1.0)


def draws(split, present, n=400):
    rng = np.random.default_rng(0)
    return [split.draw(rng, np.array(present)) for _ in range(n)]


def test_two_views_share_no_sequence_and_each_shows_a_susceptibility_sequence():
    views = draws(SequenceSplit(SUSCEPTIBILITY, dropout=0), [True] * 5)
    for first, second in views:
        assert not (first & second).any()
        assert (first | second).all()
        assert first[list(SUSCEPTIBILITY)].any()
        assert second[list(SUSCEPTIBILITY)].any()
    in_first = np.mean([first for first, _ in views], axis=0)
    assert np.all(np.abs(in_first - 0.5) < 0.1)


def test_dropout_takes_sequences_within_a_view_but_never_its_last_susceptibility_sequence():
    views = [view for pair in draws(SequenceSplit(SUSCEPTIBILITY, dropout=0.9), [True] * 5) for view in pair]
    assert all(view[list(SUSCEPTIBILITY)].any() for view in views)
    assert np.mean([view[2] for view in views]) == pytest.approx(0.05, abs=0.03)  # Half of the views, a tenth stays.


def test_a_single_susceptibility_sequence_is_in_both_views_and_an_absent_one_in_none():
    for first, second in draws(SequenceSplit(SUSCEPTIBILITY, dropout=0.5), [False, True, True, False, False], 50):
        assert first[1]
        assert second[1]
        assert not first[[0, 3, 4]].any()
        assert not second[[0, 3, 4]].any()


def a_case():
    rng = np.random.default_rng(1)
    image = np.zeros((2, 12, 24, 24), np.float32)
    image[:, 2:10, 4:20, 4:20] = rng.normal(size=(8, 16, 16)) + 5
    return PretrainingCase("one", image, np.argwhere(image[0])[::9])


def maker(common, probability=1.0, places=7):
    views = ViewMaker(SpatialWarp(probability), Flip((1, 2)), Intensity(0.0), SHAPE, SPACING)
    return PairMaker(views, SequenceSplit((0, 1), dropout=0), common, (1, 2, 2), places)


def test_with_a_common_geometry_the_voxels_of_the_views_correspond():
    patches, rng = CasePatches([a_case()], SHAPE, 1.0), np.random.default_rng(0)
    for _ in range(5):
        first, second, _ = maker(common=True)(rng, patches, patches.draw(rng))
        # Both sequences are the same here, and each view shows one of them.
        assert torch.equal(first.sum(dim=0), second.sum(dim=0))
        assert not torch.equal(first, second)


def test_otherwise_each_view_has_a_geometry_of_its_own():
    patches, rng = CasePatches([a_case()], SHAPE, 1.0), np.random.default_rng(0)
    first, second, _ = maker(common=False)(rng, patches, patches.draw(rng))
    assert first.shape == second.shape == (2, *SHAPE)
    assert not torch.allclose(first.sum(dim=0), second.sum(dim=0))


def test_without_warp_a_view_is_the_patch_itself():
    case = a_case()
    patches, rng = CasePatches([case], SHAPE, 1.0), np.random.default_rng(3)
    views = ViewMaker(SpatialWarp(0.5), Flip(()), Intensity(0.0), SHAPE, SPACING)
    plain, warped = (ViewMaker(SpatialWarp(p), Flip(()), Intensity(0.0), SHAPE, SPACING) for p in (0.0, 1.0))
    keep, draw = np.array([True, True]), patches.draw(rng)
    one, other = plain.draw(rng, keep), warped.draw(rng, keep)
    source = patches.crop(draw, views.margin(one, other))
    z, y, x = draw.start
    expected = torch.from_numpy(case.image[:, z : z + 8, y : y + 16, x : x + 16])
    assert torch.equal(views.geometry(source, one), expected)


def test_places_are_different_cells_with_brain():
    brain = np.zeros(SHAPE, dtype=bool)
    brain[3, 4:8, 6] = True
    cells = draw_places(np.random.default_rng(0), brain, (2, 2, 2), 2)
    assert sorted(map(tuple, cells)) == [(1, 2, 3), (1, 3, 3)]
    assert len(draw_places(np.random.default_rng(0), brain, (2, 2, 2), 5)) == 5
    anywhere = draw_places(np.random.default_rng(0), np.zeros(SHAPE, dtype=bool), (2, 2, 2), 9)
    assert len({tuple(cell) for cell in anywhere}) == 9
    assert (anywhere < (4, 8, 8)).all()
