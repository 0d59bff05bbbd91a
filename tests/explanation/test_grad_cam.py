"""Grad-CAM on networks small enough to be followed by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from cmb_autoseg.explanation import grad_cam, level_modules, mean_logit_difference
from cmb_autoseg.networks import ResidualUNet

SHAPE = (4, 6, 5)


class TwoLayers(nn.Module):
    """A layer of three features at every second voxel, and logits by a second layer."""

    def __init__(self, seed=0):
        super().__init__()
        self.layer = nn.Conv3d(2, 3, 2, stride=(2, 2, 1), padding="valid")
        self.head = nn.ConvTranspose3d(3, 2, (2, 2, 2), stride=(2, 2, 1))
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)

    def forward(self, x):
        return self.head(torch.tanh(self.layer(x)))


class OnePlace(nn.Module):
    """Sees one voxel and calls the whole patch a microbleed by it."""

    def __init__(self, place):
        super().__init__()
        self.layer, self.place = nn.Identity(), place

    def forward(self, x):
        seen = self.layer(x)[(slice(None), slice(0, 1), *self.place)][:, :, None, None, None]
        microbleed = seen.expand(-1, 1, *x.shape[2:])
        return torch.cat([torch.zeros_like(microbleed), microbleed], dim=1)


def region(*places):
    inside = torch.zeros(1, *SHAPE)
    for place in places:
        inside[(0, *place)] = 1
    return inside


def patch(seed=1, batch=1, channels=2):
    return torch.randn(batch, channels, *SHAPE, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def features_and_gradients(network, x, inside):
    """By finite differences of the score in the layer's output, which owes nothing to autograd."""
    features = network.layer(x).detach().double()
    network = network.double()

    def score(values):
        logits = network.head(torch.tanh(values))
        difference = logits[0, 1] - logits[0, 0]
        return float(difference[inside[0] > 0].mean())

    gradients = np.zeros(features.shape)
    for place in np.ndindex(*features.shape):
        ends = []
        for sign in (1, -1):
            moved = features.clone()
            moved[place] += sign * 1e-5
            ends.append(score(moved))
        gradients[place] = (ends[0] - ends[1]) / 2e-5
    return features.numpy(), gradients


def interpolated(coarse):
    return torch.nn.functional.interpolate(torch.from_numpy(coarse)[None, None], SHAPE, mode="trilinear")[0, 0].numpy()


def test_the_score_is_the_mean_log_odds_over_the_region():
    logits = torch.zeros(1, 2, *SHAPE)
    logits[0, 1, 0, 0, 0], logits[0, 0, 0, 0, 0] = 3.0, 1.0
    logits[0, 1, 1, 2, 3] = 4.0
    logits[0, 1, 3, 3, 3] = 100.0

    assert mean_logit_difference(logits, region((0, 0, 0), (1, 2, 3))).item() == (2.0 + 4.0) / 2


def test_gradcam_weighs_features_by_their_mean_gradient():
    x, inside = patch(), region((1, 2, 2), (3, 0, 4), (0, 5, 1))
    found = grad_cam(network := TwoLayers(), network.layer, x, inside, "gradcam")[0].numpy()

    features, gradients = features_and_gradients(network.double(), x.double(), inside)
    weights = gradients[0].mean(axis=(1, 2, 3))
    expected = interpolated(np.maximum(np.einsum("c,czyx->zyx", weights, features[0]), 0))

    assert expected.max() > 0
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_hirescam_weighs_every_place_by_its_own_gradient():
    x, inside = patch(), region((1, 2, 2), (3, 0, 4), (0, 5, 1))
    found = grad_cam(network := TwoLayers(), network.layer, x, inside)[0].numpy()

    features, gradients = features_and_gradients(network.double(), x.double(), inside)
    expected = interpolated(np.maximum((gradients[0] * features[0]).sum(axis=0), 0))

    assert expected.max() > 0
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_patches_of_a_batch_do_not_mix():
    network, x = TwoLayers(), patch(batch=3)
    inside = torch.cat([region((0, 0, 0)), region((1, 2, 2)), region((3, 5, 4))])

    together = grad_cam(network, network.layer, x, inside)

    for index in range(3):
        alone = grad_cam(network, network.layer, x[index : index + 1], inside[index : index + 1])
        torch.testing.assert_close(together[index], alone[0])


def test_the_map_is_where_the_output_comes_from():
    """And not where the region is."""
    place = (2, 4, 1)
    network, x = OnePlace(place), patch(channels=1).abs()

    found = grad_cam(network, network.layer, x, region((0, 0, 4)))[0]

    assert found[place] == pytest.approx(x[(0, 0, *place)].item())
    assert np.count_nonzero(found) == 1


def test_what_speaks_against_a_microbleed_is_no_part_of_the_map():
    network, x = OnePlace((2, 4, 1)), -patch(channels=1).abs()

    assert not grad_cam(network, network.layer, x, region((0, 0, 4))).any()


def test_levels_are_counted_from_input_to_output():
    network = ResidualUNet(
        input_channels=1,
        num_classes=2,
        n_stages=3,
        features_per_stage=(2, 4, 8),
        kernel_sizes=[(3, 3, 3)] * 3,
        strides=[(1, 1, 1), (2, 2, 2), (2, 2, 2)],
        n_blocks_per_stage=(1, 1, 1),
    ).eval()
    sizes = {}
    for name, module in level_modules(network):
        module.register_forward_hook(lambda _, __, output, name=name: sizes.update({name: tuple(output.shape[1:])}))
    network(torch.zeros(1, 1, 8, 8, 8))

    assert sizes == {
        "encoder 0": (2, 8, 8, 8),
        "encoder 1": (4, 4, 4, 4),
        "encoder 2": (8, 2, 2, 2),
        "decoder 1": (4, 4, 4, 4),
        "decoder 0": (2, 8, 8, 8),
    }


def test_a_network_without_levels_is_named():
    with pytest.raises(ValueError, match="TwoLayers has no"):
        level_modules(TwoLayers())
