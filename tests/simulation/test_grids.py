import torch

from cmb_autoseg.simulation.grids import Grid, resample_linear, smooth_field

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
