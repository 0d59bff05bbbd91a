import pytest
import torch

from cmb_autoseg.networks import ResidualUNet
from cmb_autoseg.planners.patch import network_values
from cmb_autoseg.planners.topology import plan_topology

PATCH = (8, 32, 32)


def build(deep_supervision=False, features=(4, 8, 16)):
    topology = plan_topology((2.0, 1.0, 1.0), PATCH, features)
    net = ResidualUNet(2, 2, len(topology.strides), **topology.model_dump(), deep_supervision=deep_supervision)
    return net, topology


def test_logits_have_the_patch_shape_and_deep_supervision_adds_coarser_ones():
    net, topology = build()
    x = torch.randn(1, 2, *PATCH)
    assert net(x).shape == (1, 2, *PATCH)
    net.decoder.deep_supervision = True
    outputs = net(x)
    assert [tuple(o.shape[2:]) for o in outputs] == [PATCH, (8, 16, 16)]
    assert len(outputs) == len(topology.strides) - 1


def test_state_dict_does_not_depend_on_deep_supervision():
    assert build(True)[0].state_dict().keys() == build(False)[0].state_dict().keys()


def test_the_first_level_of_a_thick_slice_grid_is_in_plane_only():
    net, _ = build()
    first = [net.encoder.stem[0], net.encoder.stages[0][0].conv1, net.decoder.blocks[-1][0]]
    assert [conv.kernel_size for conv in first] == [(1, 3, 3)] * 3
    assert net.decoder.ups[-1].stride == (1, 2, 2)
    # A spike in one slice moves the first stage's other slices only through the normalisation.
    x = torch.zeros(1, 2, *PATCH)
    spiked = x.clone()
    spiked[0, 0, 4, 16, 16] = 1
    change = (net.encoder.stem[0](spiked) - net.encoder.stem[0](x)).abs().sum(dim=(0, 1, 3, 4))
    assert [bool(value > 0) for value in change] == [index == 4 for index in range(8)]


def test_the_planner_counts_the_values_that_the_network_makes():
    net, topology = build()
    counted = 0

    def add(module, _, output):
        nonlocal counted
        counted += output.numel()

    for module in net.modules():
        if isinstance(module, torch.nn.Conv3d | torch.nn.ConvTranspose3d) and module.kernel_size != (1, 1, 1):
            module.register_forward_hook(add)
    net.decoder.deep_supervision = True
    outputs = net(torch.randn(1, 2, *PATCH))
    counted += sum(o.numel() for o in outputs)
    assert net.compute_conv_feature_map_size(PATCH) == network_values(topology, PATCH) == counted


def test_lists_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match="n_stages is 2"):
        ResidualUNet(1, 2, 2, (4,), ((3, 3, 3),), ((1, 1, 1),), (2,))
