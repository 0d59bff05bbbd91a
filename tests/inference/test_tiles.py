from itertools import pairwise

import numpy as np
import pytest

from cmb_autoseg._nnunet import nnunet_environment
from cmb_autoseg.inference.tiles import fitted_windows, gaussian_weights, nnunet_windows, pad_to


def covered(windows, shape):
    count = np.zeros(shape, int)
    for place in windows.places:
        assert all(n >= 0 and n + side <= length for n, side, length in zip(place, windows.size, shape, strict=True))
        count[tuple(slice(n, n + side) for n, side in zip(place, windows.size, strict=True))] += 1
    return count


@pytest.mark.parametrize("step", [0.3, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("shape", [(24, 56, 48), (49, 168, 138), (25, 57, 144), (24, 100, 49)])
def test_windows_are_nnunets(shape, step):
    patch = (24, 56, 48)
    with nnunet_environment():
        from nnunetv2.inference.sliding_window_prediction import compute_steps_for_sliding_window

        steps = compute_steps_for_sliding_window(shape, patch, step)

    found = nnunet_windows(np.ones(shape, bool), patch, step)

    assert found.size == patch
    assert list(found.places) == [(a, b, c) for a in steps[0] for b in steps[1] for c in steps[2]]


def test_weights_are_nnunets():
    size = (12, 30, 17)
    with nnunet_environment():
        import torch
        from nnunetv2.inference.sliding_window_prediction import compute_gaussian

        theirs = compute_gaussian(size, device=torch.device("cpu"), dtype=torch.float64).numpy()

    ours = gaussian_weights(size)

    assert ours.max() == 1
    assert ours.min() > 0
    np.testing.assert_allclose(ours, theirs, atol=2e-3)


@pytest.mark.parametrize("length", range(48, 200, 7))
def test_fitted_windows_cover_all_with_little_to_spare(length):
    patch, shape = (24, 56, 48), (49, 60, length)
    found = fitted_windows(np.ones(shape, bool), patch, (2, 8, 8))
    count = covered(found, shape)
    assert count.min() >= 1
    for side, trained, unit in zip(found.size, patch, (2, 8, 8), strict=True):
        assert side % unit == 0
        assert 0.8 * trained <= side <= 1.25 * trained
    # Neighbors have a sixteenth of the patch in common.
    starts = sorted({place[2] for place in found.places})
    assert all(a + found.size[2] - b >= 3 for a, b in pairwise(starts))
    assert len(found.places) <= len(nnunet_windows(np.ones(shape, bool), patch, 0.875).places) * 1.5


def test_a_brain_of_the_patchs_size_is_one_window():
    found = fitted_windows(np.ones((24, 56, 48), bool), (24, 56, 48), (2, 8, 8))
    assert found.size == (24, 56, 48)
    assert found.places == ((0, 0, 0),)


def test_air_is_not_looked_at_but_a_voxel_around_the_brain_is():
    brain = np.zeros((20, 40, 40), bool)
    brain[:, :20, :20] = True
    places = nnunet_windows(brain, (20, 10, 10), 1.0).places
    assert sorted({(b, c) for _, b, c in places}) == [(b, c) for b in (0, 10, 20) for c in (0, 10, 20)]


def test_padding_is_spread_as_nnunet_spreads_it():
    values = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    padded, inner = pad_to(values, (6, 4, 8))
    assert padded.shape == (2, 6, 4, 8)
    assert inner == (slice(1, 4), slice(0, 4), slice(1, 6))
    np.testing.assert_array_equal(padded[(slice(None), *inner)], values)
    assert padded.sum() == values.sum()
    assert pad_to(values, (1, 1, 1))[0] is values
