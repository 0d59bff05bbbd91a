import numpy as np
import pytest
import torch

from cmb_autoseg.pretraining.effective_rank import effective_rank


def with_singular_values(values, n=12, d=6):
    """A matrix of zero column means with these singular values."""
    rng = np.random.default_rng(0)
    left, _ = np.linalg.qr(np.column_stack((np.ones(n), rng.normal(size=(n, len(values))))))
    right, _ = np.linalg.qr(rng.normal(size=(d, d)))
    return torch.from_numpy(left[:, 1:] @ np.diag(values) @ right[: len(values)])


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_equal_singular_values_count(rank):
    assert effective_rank(with_singular_values([3.0] * rank)) == pytest.approx(rank)


def test_unequal_singular_values_by_hand():
    # Shares 3/4 and 1/4: exp(3/4 log 4/3 + 1/4 log 4).
    assert effective_rank(with_singular_values([3.0, 1.0])) == pytest.approx((4 / 3) ** 0.75 * 4**0.25)


def test_a_common_offset_is_no_direction():
    embedding = with_singular_values([2.0, 2.0])
    assert effective_rank(embedding + 100) == pytest.approx(2)


def test_a_collapsed_embedding_has_none():
    assert effective_rank(torch.full((9, 4), 0.3)) == 0
