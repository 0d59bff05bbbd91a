"""Inflated ResNet-18 weights against the 2D network; the file is made here, since torchvision is not needed."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from cmb_autoseg.errors import InputError
from cmb_autoseg.networks.residual_unet import ResidualEncoder
from cmb_autoseg.pretraining.imagenet import _overlaps, inflate_resnet18, read_resnet18

FEATURES = (64, 128, 256, 512)
TENSORS_OF_RESNET18 = 60
"""Convolutions and scales: 62 parameters without the two of the classifier."""


def resnet18(blocks=2):
    """A random state dict with torchvision's names and shapes."""
    rng = torch.Generator().manual_seed(0)
    state = {}

    def conv(name, *shape):
        state[f"{name}.weight"] = torch.randn(shape, generator=rng) / np.sqrt(np.prod(shape[1:]))

    def norm(name, n):
        state[f"{name}.weight"], state[f"{name}.bias"] = torch.rand(2, n, generator=rng)
        state[f"{name}.running_mean"], state[f"{name}.running_var"] = torch.zeros(n), torch.ones(n)
        state[f"{name}.num_batches_tracked"] = torch.tensor(0)

    conv("conv1", 64, 3, 7, 7)
    norm("bn1", 64)
    n_in = 64
    for layer, n_out in enumerate(FEATURES, 1):
        for block in range(blocks):
            name = f"layer{layer}.{block}"
            conv(f"{name}.conv1", n_out, n_in, 3, 3)
            norm(f"{name}.bn1", n_out)
            conv(f"{name}.conv2", n_out, n_out, 3, 3)
            norm(f"{name}.bn2", n_out)
            if n_in != n_out:
                conv(f"{name}.downsample.0", n_out, n_in, 1, 1)
                norm(f"{name}.downsample.1", n_out)
            n_in = n_out
    state["fc.weight"], state["fc.bias"] = torch.zeros(1000, 512), torch.zeros(1000)
    return state


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("imagenet") / "resnet18.pth"
    torch.save(resnet18(), path)
    return read_resnet18(path)


def encoder(n_channels=2, features=FEATURES, n_blocks=2, stem=(1, 3, 3)):
    levels = len(features)
    kernels = [stem] + [(3, 3, 3)] * (levels - 1)
    strides = [(1, 1, 1), (1, 2, 2)] + [(2, 2, 2)] * (levels - 2)
    torch.manual_seed(1)
    return ResidualEncoder(n_channels, features, kernels, strides[:levels], [n_blocks] * levels)


def test_all_tensors_come_from_the_file(weights):
    target = encoder()
    done = inflate_resnet18(target, weights)
    assert len(done.from_file) == len(target.state_dict()) == TENSORS_OF_RESNET18
    assert done.random == ()


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_slice_repeated_along_z_gives_what_the_2d_convolution_gives(weights, level):
    target = encoder()
    inflate_resnet18(target, weights)
    kernel_3d = target.stages[level][0].conv2.weight
    kernel_2d = weights[f"layer{level + 1}.0.conv2.weight"]
    image = torch.randn(1, FEATURES[level], 10, 12, generator=torch.Generator().manual_seed(2))

    flat = functional.conv2d(image, kernel_2d, padding=1)
    deep = functional.conv3d(image[:, :, None].repeat(1, 1, 5, 1, 1), kernel_3d, padding=(0, 1, 1))

    for plane in deep.unbind(2):
        torch.testing.assert_close(plane, flat, rtol=1e-4, atol=1e-4)


def test_a_whole_block_answers_as_the_2d_block_where_the_norms_agree(weights):
    """Second block of level 1, without stride and projection, on a volume that is the same in every slice."""
    target = encoder()
    inflate_resnet18(target, weights)
    block, name = target.stages[1][1], "layer2.1"
    image = torch.randn(1, 128, 12, 12, generator=torch.Generator().manual_seed(2))

    def norm(x, which):
        return functional.instance_norm(
            x, weight=weights[f"{name}.{which}.weight"], bias=weights[f"{name}.{which}.bias"]
        )

    act = nn.LeakyReLU()
    out = act(norm(functional.conv2d(image, weights[f"{name}.conv1.weight"], padding=1), "bn1"))
    expected = act(norm(functional.conv2d(out, weights[f"{name}.conv2.weight"], padding=1), "bn2") + image)

    # Circular along z, so that the rim of the volume is like its inside.
    for conv in (block.conv1, block.conv2):
        conv.padding = (0, 1, 1)

    def forward(x):
        wrapped = torch.cat((x[:, :, -1:], x, x[:, :, :1]), dim=2)
        inner = block.activation(block.norm1(block.conv1(wrapped)))
        inner = torch.cat((inner[:, :, -1:], inner, inner[:, :, :1]), dim=2)
        return block.activation(block.norm2(block.conv2(inner)) + block.skip(x))

    deep = forward(image[:, :, None].repeat(1, 1, 4, 1, 1))
    torch.testing.assert_close(deep[:, :, 2], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("n_channels", [1, 2, 4])
def test_the_stem_answers_a_grey_plane_as_the_2d_stem_does_in_any_number_of_channels(weights, n_channels):
    target = encoder(n_channels)
    inflate_resnet18(target, weights)
    grey = torch.ones(1, 1, 9, 9)

    flat = functional.conv2d(grey.expand(1, 3, 9, 9), weights["conv1.weight"])[:, :, 0, 0]
    deep = functional.conv3d(grey[:, :, None].expand(1, n_channels, 1, 9, 9), target.stem[0].weight)[:, :, 0, 0, 0]

    torch.testing.assert_close(deep, flat, rtol=1e-4, atol=1e-5)


def test_the_stem_keeps_the_place_of_an_edge(weights):
    """Resized by area: each of 3 cells takes a third of the 7 columns."""
    target = encoder(1)
    weights = {**weights, "conv1.weight": torch.zeros(64, 3, 7, 7)}
    weights["conv1.weight"][:, :, :, 0] = 1
    inflate_resnet18(target, weights)
    kernel = target.stem[0].weight[0, 0, 0].detach()
    assert float(kernel.sum()) == pytest.approx(21)
    assert torch.all(kernel[:, 1:] == 0)


def test_overlaps_are_counted_by_hand():
    np.testing.assert_allclose(_overlaps(3, 2), [[1, 0], [0.5, 0.5], [0, 1]])
    np.testing.assert_allclose(_overlaps(7, 3).sum(axis=1), 1)
    np.testing.assert_allclose(_overlaps(7, 3).sum(axis=0), 7 / 3)
    np.testing.assert_allclose(_overlaps(3, 3), np.eye(3))


def test_further_blocks_and_a_deep_stem_keep_what_the_file_lacks(weights):
    target = encoder(features=(64, 128), n_blocks=3, stem=(3, 3, 3))
    before = target.stages[0][2].conv1.weight.clone()
    done = inflate_resnet18(target, weights)
    assert {name.rpartition(".")[0].rpartition(".")[0] for name in done.random} == {"stages.0.2", "stages.1.2"}
    assert torch.equal(target.stages[0][2].conv1.weight, before)
    assert torch.equal(target.stem[0].weight[:, :, 0], target.stem[0].weight[:, :, 2])


@pytest.mark.parametrize("features", [(32, 64), (64, 128, 256, 512, 512)])
def test_other_features_and_further_levels_are_refused(weights, features):
    with pytest.raises(InputError, match=r"network\.features: found .*set features: \[64, 128, 256, 512\]"):
        inflate_resnet18(encoder(features=features), weights)


def test_other_files_are_refused_with_where_the_right_one_is_from(tmp_path):
    def refused(message, content=None):
        path = tmp_path / "weights.pth"
        if content is not None:
            torch.save(content, path)
        with pytest.raises(InputError, match=message) as found:
            read_resnet18(path)
        assert "IMAGENET1K_V1" in str(found.value)
        assert "\n" not in str(found.value)

    refused("no such file")
    refused("ResNet-34, not", resnet18(blocks=3))
    refused("ResNet-50 or a deeper one", {**resnet18(), "layer1.0.conv3.weight": torch.zeros(256, 64, 1, 1)})
    refused("has no conv1.weight", {name: value for name, value in resnet18().items() if name != "conv1.weight"})
    refused(r"conv1.weight is of shape \(64, 1, 7, 7\)", {**resnet18(), "conv1.weight": torch.zeros(64, 1, 7, 7)})
    refused("no plain list of tensors", {"state_dict": resnet18()})
    refused("no plain list of tensors", [1])
    (tmp_path / "weights.pth").write_bytes(b"no weights")
    refused("damaged, or no file of weights alone")
    (tmp_path / "weights.pth").write_bytes(b"")
    refused("damaged")
