import torch
from torch.nn import functional

from cmb_autoseg.trainers.patches.losses import DeepSupervisionLoss, DiceBCELoss


def example():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 2, 3, 4, 5, generator=generator, dtype=torch.float64)
    target = (torch.rand(2, 1, 3, 4, 5, generator=generator) > 0.8).double()
    return logits, target


def test_the_cross_entropy_is_the_softmax_cross_entropy_of_two_heads():
    logits, target = example()
    loss = DiceBCELoss(dice_weight=0)(logits, target)
    reference = functional.cross_entropy(logits, target[:, 0].long())
    assert torch.isclose(loss.double(), reference, atol=1e-6)


def test_the_foreground_weight_multiplies_microbleed_voxels_only():
    logits, target = example()
    per_voxel = functional.cross_entropy(logits, target[:, 0].long(), reduction="none")
    reference = (per_voxel * torch.where(target[:, 0] > 0, 7.0, 1.0)).mean()
    loss = DiceBCELoss(dice_weight=0, foreground_weight=7)(logits, target)
    assert torch.isclose(loss.double(), reference, atol=1e-6)


def test_dice_is_pooled_over_the_batch():
    logits, target = example()
    p = torch.softmax(logits, dim=1)[:, 1]
    reference = 1 - 2 * (p * target[:, 0]).sum() / (p.sum() + target.sum())
    assert torch.isclose(DiceBCELoss(bce_weight=0)(logits, target).double(), reference, atol=1e-5)


def test_a_perfect_prediction_of_nothing_costs_nothing():
    logits = torch.zeros(1, 2, 2, 2, 2)
    logits[:, 0] = 40
    assert DiceBCELoss()(logits, torch.zeros(1, 1, 2, 2, 2)) < 1e-3


def test_levels_are_weighted_by_halves():
    logits, target = example()
    loss = DiceBCELoss()
    levels = DeepSupervisionLoss(loss)([logits, -logits], [target, target])
    assert torch.isclose(levels, (loss(logits, target) + 0.5 * loss(-logits, target)) / 1.5)
