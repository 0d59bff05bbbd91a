import pytest
import torch

from cmb_autoseg.networks.layer_table import layer_table
from cmb_autoseg.networks.residual25d import Residual25d, ResidualBlock

FULL = (32, 64, 128)


def test_the_published_numbers_of_levels_layers_and_blocks():
    """Three levels, 28 layers, six residual blocks, batch normalization."""
    network = Residual25d(3, FULL)
    rows = layer_table(network, (3, 384, 384))
    convolutions = [row for row in rows if row.kind == "Conv2d"]
    assert len(convolutions) == 28
    assert sum(isinstance(module, ResidualBlock) for module in network.modules()) == 6
    assert {row.output[1] for row in convolutions} == {384, 192, 96}
    assert sum(row.kind == "BatchNorm2d" for row in rows) == 27  # after every convolution but the head
    assert not any(row.kind.startswith("ConvTranspose") for row in rows)


def test_layer_table_of_the_full_network():
    rows = [row for row in layer_table(Residual25d(3, FULL), (3, 384, 384)) if row.kind == "Conv2d"]
    block = [3, 3, 3, 1]
    assert [row.kernel[0] for row in rows] == [3, *block, *block, *block, *block, 1, *block, 1, *block, 1]
    filters = [32] * 5 + [64] * 4 + [128] * 8 + [64] * 5 + [32] * 5 + [1]
    assert [row.filters for row in rows] == filters
    assert [row.output[0] for row in rows] == filters
    n_in = [3, *[32] * 4, 32, 64, 64, 32, 64, 128, 128, 64, *[128] * 4, 128, 128, 64, 64, 128, 64, 64, 32, 32, 64, 32]
    bias = [0] * 27 + [1]
    assert [row.parameters for row in rows] == [
        row.filters * (i * row.kernel[0] ** 2 + b) for row, i, b in zip(rows, n_in, bias, strict=True)
    ]
    assert sum(parameter.numel() for parameter in Residual25d(3, FULL).parameters()) == 1_168_001


def test_a_block_adds_its_input():
    block = ResidualBlock(4, 4).eval()
    torch.nn.init.zeros_(block.conv3[0].weight)
    torch.nn.init.dirac_(block.skip[0].weight)
    x = torch.rand(2, 4, 6, 6)
    torch.testing.assert_close(block(x), x / (1 + block.skip[1].eps) ** 0.5)


def test_the_full_network_takes_a_step():
    network = Residual25d(9, FULL)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    before = network.stem[0].weight.detach().clone()
    logits = network(torch.rand(1, 9, 96, 96))
    assert logits.shape == (1, 1, 96, 96)
    logits.square().mean().backward()
    optimizer.step()
    assert (network.stem[0].weight != before).any()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("features", [(4, 6), (4, 6, 8, 10)])
def test_other_numbers_of_levels(features):
    assert Residual25d(2, features)(torch.rand(2, 2, 16, 24)).shape == (2, 1, 16, 24)


def test_it_begins_with_background():
    assert torch.sigmoid(Residual25d(3, (8, 8, 8)).eval()(torch.rand(1, 3, 32, 32))).mean() < 0.05
