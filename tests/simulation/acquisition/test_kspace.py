import math
from dataclasses import replace

import pytest
import torch

from cmb_autoseg.simulation.acquisition.kspace import (
    acquired_matrix,
    partial_fourier,
    resize_kspace,
    to_image,
    to_kspace,
)
from cmb_autoseg.simulation.protocols import PROTOCOLS


def test_acquired_matrix_covers_the_same_field_of_view(isotropic):
    assert acquired_matrix(isotropic) == (16, 16, 16)
    assert acquired_matrix(replace(isotropic, acquired_mm=(2.0, 1.6, 1.0))) == (8, 10, 16)
    assert acquired_matrix(PROTOCOLS["valdo_1"])[2] == PROTOCOLS["valdo_1"].matrix[2]


@pytest.mark.parametrize(
    ("share", "left"),
    [(1.0, [0, 1, 2, 3, -4, -3, -2, -1]), (0.75, [0, 1, 2, 3, 0, 0, -2, -1]), (0.625, [0, 1, 2, 3, 0, 0, 0, -1])],
)
def test_partial_fourier_drops_the_most_negative_frequencies(share, left):
    frequencies = torch.tensor([0, 1, 2, 3, -4, -3, -2, -1])
    assert partial_fourier(frequencies.reshape(1, 8), share, 1).tolist() == [left]
    assert frequencies.tolist() == [0, 1, 2, 3, -4, -3, -2, -1]


def test_kspace_is_cropped_about_its_middle_and_filled_at_its_edges():
    frequencies = torch.tensor([0, 1, 2, 3, -4, -3, -2, -1])
    assert resize_kspace(frequencies, 5, 0).tolist() == [0, 1, 2, -2, -1]
    assert resize_kspace(frequencies, 4, 0).tolist() == [0, 1, -2, -1]
    assert resize_kspace(torch.tensor([0, 1, -2, -1]), 7, 0).tolist() == [0, 1, 0, 0, 0, -2, -1]


def test_zero_filling_interpolates_a_wave_exactly():
    def wave(n):
        return torch.cos(2 * math.pi * 2 * torch.arange(n, dtype=torch.float64) / n + 0.3).to(torch.complex128)

    filled = to_image(resize_kspace(to_kspace(wave(12), 0), 30, 0), 0)

    assert (filled - wave(30)).abs().max() < 1e-12
