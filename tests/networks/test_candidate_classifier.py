import torch
from torch import nn

from cmb_autoseg.networks.candidate_classifier import CandidateClassifier


def test_layers_and_shape():
    network = CandidateClassifier(3, (16, 32, 64))
    layers = [
        (layer.in_channels, layer.out_channels, layer.kernel_size[0], layer.stride[0])
        for layer in network.modules()
        if isinstance(layer, nn.Conv3d)
    ]
    assert layers == [(3, 16, 3, 2), (16, 16, 3, 1), (16, 32, 3, 2), (32, 32, 3, 1), (32, 64, 3, 2), (64, 64, 3, 1)]
    by_hand = sum(n_in * n_out * 27 + 2 * n_out for n_in, n_out, _, _ in layers) + 64 + 1
    assert sum(p.numel() for p in network.parameters()) == by_hand == 216_081
    assert network(torch.zeros(2, 3, 32, 32, 32)).shape == (2,)


def test_the_middle_is_seen_by_itself():
    """The head's second half of weights hangs on the middle cells alone: two along even sides, one along odd ones."""
    for side, middle in ((32, slice(1, 3)), (24, slice(1, 2))):
        network = CandidateClassifier(1, (2, 3, 4), sees_middle=True).eval()
        cells = torch.rand(1, 4, side // 8, side // 8, side // 8)
        network.levels = nn.Sequential(Constant(cells))
        with torch.no_grad():
            network.head.weight[:, :4] = 0
            network.head.weight[:, 4:] = 1
            network.head.bias[:] = 0
            logit = network(torch.zeros(1, 1, side, side, side))
        torch.testing.assert_close(logit, cells[:, :, middle, middle, middle].mean(dim=(2, 3, 4)).sum(dim=1))


class Constant(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x):
        return self.value
