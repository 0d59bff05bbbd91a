import math

import pytest
import torch

from cmb_autoseg.trainers.patches.semi_supervised import TeachingVoxels, teaching_voxels, unlabelled_loss


def row(*values):
    """A patch (1, 1, 1, x) of probabilities."""
    return torch.tensor(values, dtype=torch.float64)[None, None, None]


def test_each_microbleed_voxel_brings_its_share_of_the_hardest_background():
    #           sure, sure, hardest...              not sure, easy
    patch = row(0.95, 0.90, 0.099, 0.09, 0.08, 0.07, 0.50, 0.01, 0.00)
    voxels = teaching_voxels(patch, confidence=0.9, background_ratio=1.5, floor=0)
    assert voxels.mask.flatten().tolist() == [True, True, True, True, True, False, False, False, False]
    assert voxels.target.flatten().tolist() == [1, 1, 0, 0, 0, 0, 0, 0, 0]


def test_a_patch_without_sure_microbleed_teaches_the_floor_alone():
    patch = row(0.80, 0.02, 0.03, 0.01, 0.05)
    voxels = teaching_voxels(patch, confidence=0.9, background_ratio=10, floor=2)
    assert voxels.mask.flatten().tolist() == [False, False, True, False, True]
    assert not voxels.target.any()


def test_patches_do_not_lend_each_other_background():
    patches = torch.cat((row(0.95, 0.01, 0.02, 0.03), row(0.04, 0.05, 0.06, 0.07)))
    voxels = teaching_voxels(patches, confidence=0.9, background_ratio=2, floor=0)
    assert voxels.mask.flatten(1).tolist() == [[True, False, True, True], [False] * 4]


def test_no_more_background_teaches_than_is_sure():
    voxels = teaching_voxels(row(0.99, 0.3, 0.4, 0.05), confidence=0.9, background_ratio=10, floor=64)
    assert voxels.mask.flatten().tolist() == [True, False, False, True]


def test_the_loss_is_the_mean_over_the_voxels_that_teach():
    logits = torch.zeros(1, 2, 1, 1, 3, dtype=torch.float64)
    logits[0, :, 0, 0] = torch.tensor([[0.0, 1.0, 0.0], [2.0, 0.0, 50.0]])
    voxels = TeachingVoxels(row(1.0, 0.0, 0.0).float(), torch.tensor([True, True, False])[None, None, None])
    expected = (math.log1p(math.exp(-2)) + math.log1p(math.exp(-1))) / 2
    assert unlabelled_loss(logits, voxels).item() == pytest.approx(expected, rel=1e-6)


def test_where_nothing_teaches_the_loss_is_0_and_has_a_gradient():
    logits = torch.ones(1, 2, 1, 1, 3, requires_grad=True)
    loss = unlabelled_loss(logits, TeachingVoxels(torch.zeros(1, 1, 1, 3), torch.zeros(1, 1, 1, 3, dtype=torch.bool)))
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()
