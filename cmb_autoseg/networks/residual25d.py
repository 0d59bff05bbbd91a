"""A residual encoder-decoder of 28 convolutions that sees neighboring slices and segments the middle one.

After the 2.5D system of `docs/concepts/systems/slices.md`: three levels, 28 layers, six residual blocks, batch
normalization, bilinear upsampling. The publication lists no layers; this is a design that has these numbers:

- a stem: 1 convolution of 3x3,
- six residual blocks, one at each of the two upper levels on the way down, two at the lowest, one at each upper level
  on the way up: 24 convolutions, three of 3x3 and one of 1x1 on the skip in each,
- two upsamplings, each followed by a convolution that brings the features to the upper level's number: 2 of 1x1,
- a head: 1 of 1x1.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["BACKGROUND_LOGIT", "Residual25d"]

BACKGROUND_LOGIT = 5.0
"""First logit of background over microbleed: a prior of 0.7 %, so that training does not begin by unlearning a brain
full of microbleeds."""


def _conv(n_in: int, n_out: int, kernel: int) -> nn.Sequential:
    """Convolution with batch normalization, whose shift makes a bias of its own idle."""
    return nn.Sequential(nn.Conv2d(n_in, n_out, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(n_out))


class ResidualBlock(nn.Module):
    """Three 3x3 convolutions beside a 1x1 one, added before the last activation."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.conv1 = _conv(n_in, n_out, 3)
        self.conv2 = _conv(n_out, n_out, 3)
        self.conv3 = _conv(n_out, n_out, 3)
        self.skip = _conv(n_in, n_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.relu(self.conv2(functional.relu(self.conv1(x))))
        return functional.relu(self.conv3(inner) + self.skip(x))


class Residual25d(nn.Module):
    """See the module.

    Args:
        n_channels: sequences times slices.
        features: of each level, finest first; three for the published depth.
    """

    def __init__(self, n_channels: int, features: Sequence[int]) -> None:
        super().__init__()
        self.stem = _conv(n_channels, features[0], 3)
        self.down = nn.ModuleList(
            ResidualBlock(n_in, n_out) for n_in, n_out in zip((features[0], *features[:-2]), features[:-1], strict=True)
        )
        self.bottom = nn.Sequential(
            ResidualBlock(features[-2], features[-1]), ResidualBlock(features[-1], features[-1])
        )
        lower, upper = features[:0:-1], features[-2::-1]
        self.narrow = nn.ModuleList(_conv(n_in, n_out, 1) for n_in, n_out in zip(lower, upper, strict=True))
        self.up = nn.ModuleList(ResidualBlock(2 * n_out, n_out) for n_out in upper)
        self.head = nn.Conv2d(features[0], 1, 1)
        nn.init.constant_(self.head.bias, -BACKGROUND_LOGIT)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, 1, h, w) of pictures (batch, channel, h, w); h and w are multiples of 2 a level."""
        x = functional.relu(self.stem(x))
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
            x = functional.max_pool2d(x, 2)
        x = self.bottom(x)
        for narrow, block, skip in zip(self.narrow, self.up, reversed(skips), strict=True):
            x = functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = block(torch.cat([functional.relu(narrow(x)), skip], dim=1))
        logits: Tensor = self.head(x)
        return logits
