from types import SimpleNamespace

import numpy as np
import pytest

from cmb_autoseg.preprocessing.slices import IGNORED
from cmb_autoseg.trainers.slices.sampling import SlicePool, validation_slices


class Pictures(SimpleNamespace):
    def __len__(self):
        return len(self.mask)


def case(n_slices, positive=(), ignored=()):
    mask = np.zeros((n_slices, 4, 4), np.uint8)
    mask[list(positive), 0, 0], mask[list(ignored), 1, 1] = 1, IGNORED
    return Pictures(mask=mask, positive=np.array(positive, np.intp))


def test_slices_with_ignored_lesions_alone_are_neither():
    pool = SlicePool.of([case(4, positive=[1], ignored=[1, 2]), case(2)])
    assert pool.positive == ((0, 1),)
    assert pool.negative == ((0, 0), (0, 3), (1, 0), (1, 1))


@pytest.mark.parametrize(("n", "share", "expected"), [(8, 0.5, {4}), (5, 0.5, {2, 3}), (4, 0.0, {0}), (4, 1.0, {4})])
def test_one_slice_with_a_lesion_for_each_without(n, share, expected):
    pool = SlicePool.of([case(50, positive=[3, 4])])
    rng = np.random.default_rng(0)
    drawn = [sum(at in pool.positive for at in pool.draw(rng, n, share)) for _ in range(40)]
    assert set(drawn) == expected
    assert np.mean(drawn) == pytest.approx(share * n, abs=0.2)


def test_all_slices_alike_without_a_share():
    pool = SlicePool.of([case(50, positive=[3, 4])])
    drawn = pool.draw(np.random.default_rng(0), 4000, None)
    assert np.mean([at in pool.positive for at in drawn]) == pytest.approx(0.04, abs=0.01)


def test_without_slices_of_one_kind_the_others_are_drawn():
    assert len(SlicePool.of([case(3, positive=[0, 1, 2])]).draw(np.random.default_rng(0), 5, 0.5)) == 5


def test_all_validation_slices_or_an_even_choice():
    pool = SlicePool.of([case(40, positive=range(0, 40, 10)), case(10)])
    assert len(validation_slices(pool, 50)) == len(validation_slices(pool, 500)) == 50
    some = validation_slices(pool, 20)
    assert len(some) == len(set(some)) == 20
    assert sum(at in pool.positive for at in some) == 4
    assert some[-1] == pool.negative[-1]
    few = validation_slices(pool, 4)
    assert sum(at in pool.positive for at in few) == 2
