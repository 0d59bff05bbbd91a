import pytest

from cmb_autoseg.planners.topology import patch_divisors, plan_topology


@pytest.mark.parametrize(
    ("spacing", "kernels", "strides"),
    [
        ((1.0, 1.0, 1.0), [(3, 3, 3)] * 3, [(1, 1, 1), (2, 2, 2), (2, 2, 2)]),
        ((1.0, 0.5, 0.5), [(1, 3, 3), (3, 3, 3), (3, 3, 3)], [(1, 1, 1), (1, 2, 2), (2, 2, 2)]),
        ((4.0, 1.0, 1.0), [(1, 3, 3), (1, 3, 3), (3, 3, 3)], [(1, 1, 1), (1, 2, 2), (1, 2, 2)]),
    ],
)
def test_thick_slices_are_left_out_until_the_grid_is_even(spacing, kernels, strides):
    topology = plan_topology(spacing, (16, 64, 64), (8, 16, 32))
    assert list(topology.kernel_sizes) == kernels
    assert list(topology.strides) == strides


def test_levels_stop_where_the_patch_is_too_small():
    topology = plan_topology((1.0, 1.0, 1.0), (8, 8, 8), (8, 16, 32, 64))
    assert topology.features_per_stage == (8, 16)


def test_divisors_match_the_strides():
    assert patch_divisors((4.0, 1.0, 1.0), 4) == (2, 8, 8)
