import numpy as np
import pytest
import torch

from cmb_autoseg.simulation.grids import Grid, box_blur, resample_linear, smooth_field

CPU = torch.device("cpu")


def test_spline_of_equal_coefficients_is_flat_and_linear_maps_resample_exactly():
    assert torch.allclose(smooth_field(torch.full((5, 4, 6), 3.0), (11, 7, 9)), torch.tensor(3.0))
    source, target = (
        Grid((6, 5, 4), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0)),
        Grid((7, 4, 3), (0.7, 1.1, 1.3), (1.0, 2.0, 0.5)),
    )

    def ramp(grid):
        x, y, z = grid.axes_mm(CPU)
        return (2 * x)[:, None, None] - y[None, :, None] + (0.5 * z)[None, None]

    assert torch.allclose(resample_linear(ramp(source), source, target), ramp(target))


def test_box_blur_is_the_mean_of_the_cube_that_is_there():
    volume = torch.from_numpy(np.random.default_rng(0).normal(size=(9, 6, 7))).float()

    blurred = box_blur(volume, 3)

    assert blurred.shape == volume.shape
    assert blurred[4, 3, 2] == pytest.approx(float(volume[3:6, 2:5, 1:4].mean()), abs=1e-5)
    assert blurred[0, 5, 0] == pytest.approx(float(volume[:2, 4:, :2].mean()), abs=1e-5)
