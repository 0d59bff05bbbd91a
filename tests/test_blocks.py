import numpy as np
import pytest

from cmb_autoseg.blocks import block_factors, block_mean


def test_blocks_are_about_as_long_as_wanted():
    assert block_factors((0.5, 1.5, 5.0), 4.0) == (8, 3, 1)


def test_whole_blocks_are_means():
    data = np.arange(16, dtype=np.float32).reshape(4, 2, 2)

    assert block_mean(data, (2, 2, 2)).ravel().tolist() == [3.5, 11.5]
    assert block_mean(data, (1, 1, 1)).tolist() == data.tolist()


@pytest.mark.parametrize(("rest", "wanted"), [("completed", [0.5, 2.5, 4.0]), ("left out", [0.5, 2.5])])
def test_the_last_block_is_completed_with_the_border_or_left_out(rest, wanted):
    data = np.arange(5, dtype=np.float32).reshape(5, 1, 1)

    assert block_mean(data, (2, 1, 1), rest).ravel().tolist() == wanted


def test_axes_shorter_than_a_block():
    data = np.array([1.0, 2.0]).reshape(1, 1, 2)

    assert block_mean(data, (1, 1, 4)).ravel().tolist() == [1.75]
    assert block_mean(data, (1, 1, 4), "left out").ravel().tolist() == [1.0, 2.0]


def test_shares_of_masks_are_exact():
    rng = np.random.default_rng(0)
    mask = rng.random((35, 25, 12)) > 0.5
    blocks = mask.reshape(7, 5, 5, 5, 4, 3)

    wanted = blocks.sum(axis=(1, 3, 5)) / 75

    assert np.array_equal(block_mean(mask, (5, 5, 3)), wanted.astype(np.float32))
    assert np.array_equal(block_mean(np.ones((35, 25, 12), bool), (5, 5, 3)), np.ones((7, 5, 4)))
