import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from cmb_autoseg.preprocessing.slices import IGNORED
from cmb_autoseg.trainers.slices.store import SliceStore
from cmb_autoseg.trainers.slices.task import SliceTask, masked_bce


def test_the_loss_against_numbers_worked_out_by_hand():
    logits = torch.tensor([[0.0, 2.0], [-1.0, 9.0]])
    masks = torch.tensor([[1, 0], [1, IGNORED]], dtype=torch.uint8)
    terms = 3 * math.log(2), math.log(1 + math.exp(2)), 3 * math.log(1 + math.exp(1))
    assert float(masked_bce(logits, masks, 3.0)) == pytest.approx(sum(terms) / 3, rel=1e-6)
    assert float(masked_bce(logits, torch.full_like(masks, IGNORED), 1.0)) == 0


@pytest.fixture
def task(raw, make_recipe):
    recipe = make_recipe(validation_steps=100)
    store = SliceStore(raw, raw.roles, (), recipe.slices.pictures, recipe.slices.pictures.size)
    cases = store.open(raw.cases)
    return SliceTask(recipe, raw.roles, cases, cases, "cpu")


def test_batches_hold_neighbors_and_as_many_slices_with_as_without(task):
    batch = task.batch(np.random.default_rng(0))
    assert batch.images.shape == (4, 6, 48, 48)
    assert batch.masks.shape == (4, 48, 48)
    assert [bool((mask == 1).any()) for mask in batch.masks] == [True, True, False, False]
    again = task.batch(np.random.default_rng(0))
    assert torch.equal(batch.images, again.images)


class Oracle(nn.Module):
    """Marks what is dark in the first sequence of the middle slice, so that Dice can be counted without a network."""

    def forward(self, images):
        middle = images[:, 2:3]
        return torch.where((middle > 0) & (middle < 0.5), 5.0, -5.0)


def test_dice_is_pooled_over_every_pixel_of_the_validation_slices(task):
    task.network = Oracle()
    cases = task.slices.validation
    truth = np.concatenate([case.mask for case in cases]) == 1
    grey = np.concatenate([case.data[:, 0] for case in cases]).astype(np.float32)
    found = (grey > 0) & (grey < 0.5)
    expected = 2 * (truth & found).sum() / (truth.sum() + found.sum())
    assert 0 < expected < 1
    judged = task.validate()
    assert judged["validation_dice"] == pytest.approx(expected, rel=1e-9)
    assert judged["validation_loss"] > 0


def test_dice_without_a_lesion_is_not_defined(task):
    free = [case for case in task.slices.validation if case.name == "free"]
    recipe = SimpleNamespace(slices=task.settings, batch_size=4, validation_steps=9)
    alone = SliceTask(recipe, (0, 1), task.slices.training, free, "cpu")
    assert math.isnan(alone.validate()["validation_dice"])


def test_a_microbleed_that_is_no_target_is_neither_missed_nor_false(task):
    """The oracle marks it, since it is as dark as the others."""
    cases = [replace(case, mask=np.array(case.mask), boxes=np.array(case.boxes)) for case in task.slices.validation]
    for case in cases:
        case.mask[:, :24][case.mask[:, :24] == 1] = IGNORED
    task.slices.validation, task.network = cases, Oracle()
    masks = np.concatenate([case.mask for case in cases])
    grey = np.concatenate([case.data[:, 0] for case in cases]).astype(np.float32)
    found, truth = (grey > 0) & (grey < 0.5), masks == 1
    counted = found & (masks != IGNORED)
    assert truth.any()
    assert counted.sum() < found.sum()
    expected = 2 * (truth & found).sum() / (truth.sum() + counted.sum())
    assert task.validate()["validation_dice"] == pytest.approx(expected, rel=1e-9)
