"""The plain 2D U-Net with leaky ReLU of the end-to-end system of `docs/concepts/systems/slices.md`.

Four encoder blocks of two 3x3 convolutions, each with batch normalization and leaky ReLU of slope 0.05, then
max-pooling and dropout of 0.05; a bottleneck; transposed 3x3 convolutions of stride 2 with skip connections by
concatenation.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cmb_autoseg.networks.residual25d import BACKGROUND_LOGIT

__all__ = ["DROPOUT", "SLOPE", "UNet2d"]

SLOPE = 0.05
"""Of the leaky ReLU."""
DROPOUT = 0.05


def _double_conv(n_in: int, n_out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (n_in, n_out):
        layers += [nn.Conv2d(channels, n_out, 3, padding=1), nn.BatchNorm2d(n_out), nn.LeakyReLU(SLOPE, inplace=True)]
    return nn.Sequential(*layers)


class UNet2d(nn.Module):
    """See the module.

    Args:
        n_channels: of the pictures.
        features: of each encoder block, finest first, and last of the bottleneck.
    """

    def __init__(self, n_channels: int, features: Sequence[int]) -> None:
        super().__init__()
        blocks, bottleneck = features[:-1], features[-1]
        self.down = nn.ModuleList(
            _double_conv(n_in, n_out) for n_in, n_out in zip((n_channels, *blocks[:-1]), blocks, strict=True)
        )
        self.pool = nn.ModuleList(nn.Sequential(nn.MaxPool2d(2), nn.Dropout(DROPOUT)) for _ in blocks)
        self.bottleneck = _double_conv(blocks[-1], bottleneck)
        lower, upper = features[:0:-1], features[-2::-1]
        self.rise = nn.ModuleList(
            nn.ConvTranspose2d(n_in, n_out, 3, stride=2, padding=1, output_padding=1)
            for n_in, n_out in zip(lower, upper, strict=True)
        )
        self.up = nn.ModuleList(_double_conv(2 * n_out, n_out) for n_out in upper)
        self.head = nn.Conv2d(features[0], 1, 1)
        nn.init.constant_(self.head.bias, -BACKGROUND_LOGIT)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, 1, h, w) of pictures (batch, channel, h, w); h and w are multiples of 2 an encoder block."""
        skips = []
        for block, pool in zip(self.down, self.pool, strict=True):
            x = block(x)
            skips.append(x)
            x = pool(x)
        x = self.bottleneck(x)
        for rise, block, skip in zip(self.rise, self.up, reversed(skips), strict=True):
            x = block(torch.cat([rise(x), skip], dim=1))
        logits: Tensor = self.head(x)
        return logits
