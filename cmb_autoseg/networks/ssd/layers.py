"""Layers of a single-shot detector, by their published names."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["ChannelNorm", "convolution", "extra_maps", "named", "scaled"]

Named = list[tuple[str, nn.Module]]
EXTRAS = {
    300: ((256, 512, 3, 2, 1), (128, 256, 3, 2, 1), (128, 256, 3, 1, 0), (128, 256, 3, 1, 0)),
    512: ((256, 512, 3, 2, 1), (128, 256, 3, 2, 1), (128, 256, 3, 2, 1), (128, 256, 3, 2, 1), (128, 256, 4, 1, 1)),
}
"""Of each map behind the backbone: filters of the 1x1 and of the second convolution, its kernel, stride and padding."""
FIRST_EXTRA = 6
"""Number in the layers' names, as in the published code: conv6_1, conv6_2, conv7_1 and so on."""


def scaled(n_channels: int, width: float) -> int:
    """A published number of channels at a share of its width: a multiple of 8, at least 8."""
    return n_channels if width == 1 else max(8, round(n_channels * width / 8) * 8)


def convolution(
    name: str,
    n_in: int,
    n_out: int,
    kernel: int = 3,
    stride: int = 1,
    padding: int = 1,
    dilation: int = 1,
    norm: bool = False,
) -> Named:
    """Convolution, batch normalization where wanted, ReLU."""
    layers: Named = [(name, nn.Conv2d(n_in, n_out, kernel, stride, padding, dilation, bias=not norm))]
    if norm:
        layers.append((f"{name}_norm", nn.BatchNorm2d(n_out)))
    return [*layers, (f"{name}_relu", nn.ReLU(inplace=True))]


def named(layers: Sequence[tuple[str, nn.Module]]) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))


def extra_maps(size: int, n_in: int, width: float, skip: int = 0) -> tuple[list[nn.Module], list[int]]:
    """The layers that make the coarser maps, one module a map, and their numbers of channels.

    They have no batch normalization: the last map has a single place.

    Args:
        size: of the picture, 300 or 512.
        n_in: channels of the backbone's last map.
        width: share of the published number of channels.
        skip: maps that the backbone has of its own.
    """
    modules: list[nn.Module] = []
    channels = []
    for number, (squeezed, n_out, kernel, stride, padding) in enumerate(EXTRAS[size][skip:], FIRST_EXTRA + skip):
        middle, n_out = scaled(squeezed, width), scaled(n_out, width)
        first = convolution(f"conv{number}_1", n_in, middle, kernel=1, padding=0)
        modules.append(named([*first, *convolution(f"conv{number}_2", middle, n_out, kernel, stride, padding)]))
        channels.append(n_out)
        n_in = n_out
    return modules, channels


class ChannelNorm(nn.Module):
    """Each place's features on unit length over the channels, times a learned factor a channel (Liu et al. 2016)."""

    def __init__(self, n_channels: int, scale: float = 20.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((n_channels,), scale))

    def forward(self, features: Tensor) -> Tensor:
        return self.scale[:, None, None] * functional.normalize(features)
