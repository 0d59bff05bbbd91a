import torch
from torch import nn

from cmb_autoseg.networks.layer_table import LayerRow, layer_table


def test_rows_come_in_the_order_of_the_pass_and_leave_the_network_as_it_was():
    network = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.MaxPool2d(2), nn.Dropout(0.5)).train()
    assert layer_table(network, (2, 8, 6)) == [
        LayerRow("0", "Conv2d", 4, (3, 3), (1, 1), 4 * (2 * 9 + 1), (4, 8, 6)),
        LayerRow("1", "MaxPool2d", None, (2, 2), (2, 2), 0, (4, 4, 3)),
        LayerRow("2", "Dropout", None, None, None, 0, (4, 4, 3)),
    ]
    assert network.training
    assert not any(module._forward_hooks for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.is_grad_enabled()
