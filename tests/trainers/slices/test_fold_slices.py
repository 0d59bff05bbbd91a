import numpy as np
import pytest

from cmb_autoseg.preprocessing.slices import with_neighbors
from cmb_autoseg.trainers.slices.fold_slices import FoldSlices
from cmb_autoseg.trainers.slices.store import SliceStore


@pytest.fixture
def make_slices(raw, make_recipe):
    """Learns from the first two cases and watches the others."""

    def make(**changes):
        recipe = make_recipe(batch_size=3, **changes)
        pictures = recipe.slices.pictures
        cases = SliceStore(raw, raw.roles, (), pictures, pictures.size).open(raw.cases)
        return FoldSlices(recipe, recipe.slices, raw.roles, cases[:2], cases[2:])

    return make


def test_a_slice_is_shown_with_its_own_mask_and_boxes(make_slices):
    slices = make_slices()
    drawn = list(slices.draw(np.random.default_rng(0)))
    assert len(drawn) == 3
    for shown, change in drawn:
        assert shown.case in slices.training
        np.testing.assert_array_equal(shown.picture, with_neighbors(shown.case.data, shown.index, 1))
        np.testing.assert_array_equal(shown.mask, shown.case.mask[shown.index])
        assert len(shown.boxes) == (shown.case.boxes[:, 0] == shown.index).sum()
        assert change.size == shown.mask.shape


def test_the_same_generator_draws_the_same_slices_and_changes(make_slices):
    slices = make_slices(slices={"augmentation": {"rotation_degrees": 30}})
    one, two = (list(slices.draw(np.random.default_rng(7))) for _ in range(2))
    assert [(shown.case.name, shown.index) for shown, _ in one] == [(shown.case.name, shown.index) for shown, _ in two]
    for (_, first), (_, second) in zip(one, two, strict=True):
        np.testing.assert_array_equal(first.survival, second.survival)
        assert (first.matrix is None) == (second.matrix is None)


def test_every_validation_slice_is_watched_once_in_batches(make_slices):
    slices = make_slices(validation_steps=100)
    batches = list(slices.watched())
    assert {len(batch) for batch in batches[:-1]} == {3}
    seen = [(shown.case.name, shown.index) for batch in batches for shown in batch]
    assert sorted(seen) == [(case.name, index) for case in slices.validation for index in range(len(case))]
    assert sum(len(batch) for batch in make_slices(validation_steps=2).watched()) == 6
