import math

import pytest
import torch

from cmb_autoseg.errors import InputError
from cmb_autoseg.networks.residual_unet import ResidualUNet
from cmb_autoseg.planners.patch import CPU_PATCH_VOXELS, choose_patch, network_parameters, network_values
from cmb_autoseg.planners.topology import plan_topology

GRIDS = {
    "fine": ((1.0, 0.5, 0.5), (130, 330, 280)),
    "middle": ((2.0, 0.9, 0.9), (65, 185, 155)),
    "thick": ((4.0, 1.0, 1.0), (33, 165, 140)),
    "cube": ((1.0, 1.0, 1.0), (140, 170, 140)),
    "very large": ((0.35, 0.35, 0.35), (400, 400, 320)),
    "very small": ((5.0, 2.0, 2.0), (6, 24, 24)),
    "thin slab": ((6.0, 0.4, 0.4), (10, 400, 350)),
    "one slice": ((5.0, 1.0, 1.0), (1, 160, 140)),
    "needle": ((1.0, 1.0, 1.0), (3, 3, 200)),
}
TARGETS_GB = (0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8, 11, 16, 24, 40)


@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize("grid", GRIDS)
def test_more_memory_never_gives_less_of_anything(grid, device):
    spacing, brain = GRIDS[grid]
    chosen = [choose_patch(spacing, brain, device, gb, s0=False) for gb in TARGETS_GB]
    for less, more, gb in zip(chosen, chosen[1:], TARGETS_GB[1:], strict=False):
        assert all(a <= b for a, b in zip(less.patch, more.patch, strict=True))
        assert less.topology.features_per_stage[0] <= more.topology.features_per_stage[0]
        assert len(less.topology.strides) <= len(more.topology.strides)
        assert less.batch <= more.batch
        assert more.memory_gb <= gb
    assert chosen[0].memory_gb <= TARGETS_GB[0]


@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize("grid", GRIDS)
def test_a_patch_is_no_larger_than_the_brain_and_every_level_pools_evenly(grid, device):
    spacing, brain = GRIDS[grid]
    for gb in (0.5, 8, 40):
        chosen = choose_patch(spacing, brain, device, gb, s0=False)
        strides = chosen.topology.strides
        divisors = [math.prod(stride[axis] for stride in strides) for axis in range(3)]
        for side, divisor, n, size in zip(chosen.patch, divisors, brain, spacing, strict=True):
            assert side % divisor == 0
            assert side <= n + divisor / 2  # the last step is at least half brain
            assert side * size <= 144 + 1e-6
            assert divisor == 1 or side // divisor >= 4
        if device == "cpu":
            assert (
                math.prod(chosen.patch) <= CPU_PATCH_VOXELS
                or min(n * s for n, s in zip(chosen.patch, spacing, strict=True)) < 27
            )


@pytest.mark.parametrize("grid", GRIDS)
def test_the_real_network_takes_every_planned_patch(grid):
    spacing, brain = GRIDS[grid]
    for device, gb in (("cpu", 2), ("cuda", 0.5), ("cuda", 8)):
        chosen = choose_patch(spacing, brain, device, gb, s0=False)
        topology = chosen.topology
        slim = topology.with_features((1,) * 6)  # the same levels, for the sake of time
        net = ResidualUNet(1, 2, len(slim.strides), **slim.model_dump(), deep_supervision=True)
        with torch.no_grad():
            outputs = net(torch.zeros(1, 1, *chosen.patch))
        assert outputs[0].shape == (1, 2, *chosen.patch)
        assert len(outputs) == len(slim.strides) - 1
        with torch.device("meta"):
            net = ResidualUNet(2, 2, len(topology.strides), **topology.model_dump())
        assert net.compute_conv_feature_map_size(chosen.patch) == network_values(topology, chosen.patch)
        assert sum(weight.numel() for weight in net.parameters()) == network_parameters(topology, n_channels=2)


def test_a_small_patch_trains():
    """Instance normalization refuses a deepest level of one voxel."""
    topology = choose_patch((5.0, 2.0, 2.0), (6, 24, 24), "cpu", 0.05, s0=False).topology.with_features((2, 3, 4))
    net = ResidualUNet(1, 2, len(topology.strides), **topology.model_dump(), deep_supervision=True)
    sum(output.sum() for output in net(torch.randn(1, 1, 6, 24, 24))).backward()
    assert all(torch.isfinite(weight.grad).all() for weight in net.parameters())


@pytest.mark.parametrize("s0", [False, True])
@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_too_little_memory_names_what_is_enough(device, s0):
    spacing, brain = GRIDS["cube"]
    with pytest.raises(InputError, match=r"-gpu_memory_target 0\.001.*give at least") as caught:
        choose_patch(spacing, brain, device, 0.001, s0)
    assert "\n" not in str(caught.value)
    least = float(str(caught.value).split()[-1])
    assert choose_patch(spacing, brain, device, least, s0).memory_gb <= least
    with pytest.raises(InputError):
        choose_patch(spacing, brain, device, least - 0.001, s0)


def test_eight_gigabytes_give_enough_around_a_lesion_on_every_usual_grid():
    for grid in ("fine", "middle", "thick", "cube"):
        spacing, brain = GRIDS[grid]
        chosen = choose_patch(spacing, brain, "cuda", 8.0, s0=False)
        assert min(n * size for n, size in zip(chosen.patch, spacing, strict=True)) >= 40
        assert chosen.topology.features_per_stage[0] == 32
        assert chosen.memory_gb > 0.6 * 8 or grid == "thick"  # there the patch is the whole brain, nearly


def test_few_slices_do_not_keep_the_network_from_pooling_in_plane():
    topology = plan_topology((5.0, 1.0, 1.0), (1, 128, 128), (8, 8, 8, 8, 8, 8))
    assert topology.strides == ((1, 1, 1), *((1, 2, 2),) * 5)
    assert all(kernel[1:] == (3, 3) for kernel in topology.kernel_sizes)


def test_an_axis_that_one_level_convolves_is_convolved_by_all_deeper_ones():
    # The last level pools slices alone, since 7 voxels in-plane are not halved.
    topology = plan_topology((1.0, 0.6565, 0.6565), (64, 112, 112), (8, 8, 8, 8, 8, 8))
    assert topology.strides[-1] == (2, 1, 1)
    assert topology.kernel_sizes == ((1, 3, 3), *((3, 3, 3),) * 5)


@pytest.mark.parametrize(
    ("grid", "patch", "in_plane_levels", "memory_gb"),
    [("fine", (56, 128, 112), 1, 7.5), ("middle", (56, 128, 112), 1, 7.5), ("thick", (32, 128, 128), 2, 5.5)],
)
def test_the_plans_that_the_documentation_shows(grid, patch, in_plane_levels, memory_gb):
    """The table of docs/concepts/planning.md."""
    spacing, brain = GRIDS[grid]
    chosen = choose_patch(spacing, brain, "cuda", 8.0, s0=False)
    assert chosen.patch == patch
    assert len(chosen.topology.strides) == 6
    assert sum(kernel[0] == 1 for kernel in chosen.topology.kernel_sizes) == in_plane_levels
    assert round(chosen.memory_gb, 1) == memory_gb
