"""What a single-shot detector sees a picture with: VGG-16, ResNet-34 or MobileNetV2, as maps from fine to coarse.

The first map has the stride 8; of VGG-16 it is conv4_3. Modules are in the order of torchvision's networks, so that
its files of weights fit.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import nn
from torchvision.models.mobilenetv2 import MobileNetV2
from torchvision.models.resnet import BasicBlock

from cmb_autoseg.networks.ssd.layers import Named, convolution, named, scaled

__all__ = ["BACKBONES", "Backbone", "BackboneName"]

BackboneName = Literal["vgg16", "resnet34", "mobilenet"]
VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Filters of each block's convolutions (Simonyan and Zisserman 2015, configuration D)."""
RESNET34 = ((64, 3), (128, 4), (256, 6), (512, 3))
"""Filters and number of blocks of each layer (He et al. 2016)."""
MOBILENET_MAPS = (7, 14, 19)
"""Where MobileNetV2's features end that have strides 8, 16 and 32."""


@dataclass(frozen=True)
class Backbone:
    """The part of the detector that has learned from other pictures before, if any."""

    maps: tuple[nn.Module, ...]
    """Each takes what the one before gives."""
    channels: tuple[int, ...]
    """Of each map."""
    coarser: int
    """How many of SSD's coarser maps it has of its own."""
    pretrained: tuple[nn.Module, ...]
    """Those parts for which files of weights exist, in the files' order."""


def vgg16(n_in: int, width: float, norm: bool) -> Backbone:
    """Up to conv4_3, then to fc7: fully connected layers made convolutions, the first one dilated (SSD, section 3)."""
    blocks: list[Named] = []
    for number, filters in enumerate(VGG16, 1):
        layers: Named = []
        for place, n_filters in enumerate(filters, 1):
            n_out = scaled(n_filters, width)
            layers += convolution(f"conv{number}_{place}", n_in, n_out, norm=norm)
            n_in = n_out
        blocks.append(layers)
    # Rounding up keeps 38 rows of 300, as published.
    pools: list[Named] = [[(f"pool{n}", nn.MaxPool2d(2, ceil_mode=n == 3))] for n in (1, 2, 3, 4)]
    first = named([*blocks[0], *pools[0], *blocks[1], *pools[1], *blocks[2], *pools[2], *blocks[3]])
    middle, n_out = scaled(512, width), scaled(1024, width)
    fc = [
        ("pool5", nn.MaxPool2d(3, stride=1, padding=1)),
        *convolution("fc6", middle, n_out, padding=6, dilation=6, norm=norm),
        *convolution("fc7", n_out, n_out, kernel=1, padding=0, norm=norm),
    ]
    second = named([*pools[3], *blocks[4], *fc])
    return Backbone((first, second), (middle, n_out), 0, (first, second[: 1 + len(blocks[4])]))


def resnet34(n_in: int, width: float, norm: bool) -> Backbone:  # noqa: ARG001
    """Layers 2, 3 and 4; always with batch normalization."""
    n_out = scaled(RESNET34[0][0], width)
    stem: Named = [
        ("conv1", nn.Conv2d(n_in, n_out, 7, 2, 3, bias=False)),
        ("bn1", nn.BatchNorm2d(n_out)),
        ("relu", nn.ReLU(inplace=True)),
        ("maxpool", nn.MaxPool2d(3, 2, 1)),
    ]
    layers: Named = []
    channels = []
    for number, (filters, n_blocks) in enumerate(RESNET34, 1):
        before, n_out = n_out, scaled(filters, width)
        layers.append((f"layer{number}", _residual_layer(before, n_out, n_blocks, stride=1 if number == 1 else 2)))
        channels.append(n_out)
    maps = (named([*stem, *layers[:2]]), layers[2][1], layers[3][1])
    return Backbone(maps, tuple(channels[1:]), 1, maps)


def _residual_layer(n_in: int, n_out: int, n_blocks: int, stride: int) -> nn.Sequential:
    shortcut = None
    if stride != 1 or n_in != n_out:
        shortcut = nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out))
    rest = [BasicBlock(n_out, n_out) for _ in range(n_blocks - 1)]
    return nn.Sequential(BasicBlock(n_in, n_out, stride, shortcut), *rest)


def mobilenet(n_in: int, width: float, norm: bool) -> Backbone:  # noqa: ARG001
    """The features of MobileNetV2 (Sandler et al. 2018) with strides 8, 16 and 32; always with batch normalization."""
    features: nn.Sequential = MobileNetV2(width_mult=width).features
    stem = features[0][0]  # type: ignore[index]
    features[0][0] = nn.Conv2d(n_in, stem.out_channels, 3, 2, 1, bias=False)  # type: ignore[operator]
    bounds = (0, *MOBILENET_MAPS)
    maps = tuple(features[low:high] for low, high in pairwise(bounds))
    return Backbone(maps, tuple(_channels(part) for part in maps), 1, maps)


def _channels(features: nn.Module) -> int:
    """Of what a part gives: those of its last batch normalization."""
    return [module for module in features.modules() if isinstance(module, nn.BatchNorm2d)][-1].num_features


BACKBONES: Mapping[BackboneName, Callable[[int, float, bool], Backbone]] = {
    "vgg16": vgg16,
    "resnet34": resnet34,
    "mobilenet": mobilenet,
}
"""By name: channels of the picture, share of the published width, batch normalization."""
