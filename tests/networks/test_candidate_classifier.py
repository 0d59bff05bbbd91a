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
