import torch

from cmb_autoseg.networks.layer_table import layer_table
from cmb_autoseg.networks.unet2d import UNet2d

FULL = (16, 32, 64, 128, 256)


def test_layer_table_against_the_publication():
    """Four encoder blocks of two 3x3 convolutions, filters 16 to 128, a bottleneck, transposed 3x3 of stride 2."""
    rows = layer_table(UNet2d(1, FULL), (1, 256, 256))
    expected = []
    n_in, side = 1, 256
    for n_out in FULL:
        expected += [("Conv2d", n_out, (3, 3), n_in, side), ("Conv2d", n_out, (3, 3), n_out, side)]
        n_in, side = n_out, side // 2
    side *= 2
    for n_out in FULL[-2::-1]:
        side *= 2
        expected.append(("ConvTranspose2d", n_out, (3, 3), 2 * n_out, side))
        expected += [("Conv2d", n_out, (3, 3), 2 * n_out, side), ("Conv2d", n_out, (3, 3), n_out, side)]
    expected.append(("Conv2d", 1, (1, 1), 16, 256))
    found = [row for row in rows if row.kind in ("Conv2d", "ConvTranspose2d")]
    assert [(row.kind, row.filters, row.kernel, row.output[1]) for row in found] == [
        (kind, filters, kernel, side) for kind, filters, kernel, _, side in expected
    ]
    assert [row.parameters for row in found] == [
        filters * (n_in * kernel[0] * kernel[1] + 1) for _, filters, kernel, n_in, _ in expected
    ]
    assert [row.stride for row in found if row.kind == "ConvTranspose2d"] == [(2, 2)] * 4


def test_normalization_activation_pooling_and_dropout():
    network = UNet2d(1, FULL)
    kinds = [row.kind for row in layer_table(network, (1, 64, 64))]
    assert kinds[:8] == ["Conv2d", "BatchNorm2d", "LeakyReLU"] * 2 + ["MaxPool2d", "Dropout"]
    assert (kinds.count("LeakyReLU"), kinds.count("MaxPool2d"), kinds.count("Dropout")) == (18, 4, 4)
    assert {module.negative_slope for module in network.modules() if isinstance(module, torch.nn.LeakyReLU)} == {0.05}
    assert {module.p for module in network.modules() if isinstance(module, torch.nn.Dropout)} == {0.05}


def test_skips_are_concatenated():
    """Without what comes from below, each decoder block still sees its encoder block."""
    network = UNet2d(1, (4, 8)).eval()
    torch.nn.init.zeros_(network.rise[0].weight)
    torch.nn.init.zeros_(network.rise[0].bias)
    first, second = torch.rand(2, 1, 1, 16, 16)
    assert (network(first) != network(second)).any()


def test_the_full_network_takes_a_step():
    network = UNet2d(3, FULL)
    logits = network(torch.rand(2, 3, 64, 64))
    assert logits.shape == (2, 1, 64, 64)
    logits.square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
