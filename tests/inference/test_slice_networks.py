import numpy as np
import torch

from cmb_autoseg.inference.slice_networks import shown_slices
from cmb_autoseg.preprocessing.slices import SliceFrame, SliceInput, with_neighbors


def test_slices_that_show_anything_come_in_batches_with_their_neighbors():
    data = np.random.default_rng(0).random((7, 2, 4, 5), dtype=np.float32)
    data[[0, 3]] = 0
    made = SliceInput(data, SliceFrame((4, 5), (0, 0), (4, 5), (4, 5)))
    batches = list(shown_slices(made, 1, "cpu", 2))
    assert [indices.tolist() for indices, _ in batches] == [[1, 2], [4, 5], [6]]
    for indices, pictures in batches:
        assert pictures.is_contiguous(memory_format=torch.channels_last)
        expected = np.stack([with_neighbors(data, index, 1) for index in indices.tolist()])
        np.testing.assert_array_equal(pictures.numpy(), expected)


def test_an_empty_scan_has_no_batch():
    made = SliceInput(np.zeros((3, 1, 4, 4), np.float32), SliceFrame((4, 4), (0, 0), (4, 4), (4, 4)))
    assert not list(shown_slices(made, 0, "cpu", 2))
