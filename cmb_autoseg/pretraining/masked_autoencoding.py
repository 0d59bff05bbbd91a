"""Masked autoencoding: blocks of a patch are blanked and filled in from what is left.

After He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022, with a convolutional encoder, which
sees blanks as 0 instead of leaving them out, and a U-Net's decoder.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cmb_autoseg.errors import InputError
from cmb_autoseg.networks.residual_unet import ResidualUNet, UNetDecoder
from cmb_autoseg.records import Topology

__all__ = ["BlockMask", "build_decoder", "squared_error"]


@dataclass(frozen=True)
class BlockMask:
    """Blanks a share of the blocks of every sequence, each sequence's own."""

    ratio: float = 0.6
    block: int = 8
    """Voxels along the longest side of the patch; in proportion fewer along shorter ones."""

    def block_shape(self, patch_shape: Sequence[int]) -> tuple[int, ...]:
        """Voxels (z, y, x) of a block."""
        return tuple(max(1, round(self.block * side / max(patch_shape))) for side in patch_shape)

    def n_blocks(self, patch_shape: Sequence[int]) -> tuple[int, ...]:
        """Blocks (z, y, x) that cover a patch."""
        shape = self.block_shape(patch_shape)
        return tuple(math.ceil(side / step) for side, step in zip(patch_shape, shape, strict=True))

    def n_blanked(self, patch_shape: Sequence[int]) -> int:
        """How many of them are blanked."""
        return round(self.ratio * math.prod(self.n_blocks(patch_shape)))

    def refuse_misfit(self, patch_shape: Sequence[int]) -> None:
        """Refuse to learn from a patch of which nothing or everything would be blanked.

        Raises:
            InputError: names ratio, block and patch.
        """
        total = math.prod(self.n_blocks(patch_shape))
        n_blanked = self.n_blanked(patch_shape)
        if not 0 < n_blanked < total:
            shape = " x ".join(map(str, patch_shape))
            raise InputError(
                f"pretraining.masking: ratio {self.ratio} and block {self.block} blank {n_blanked} of {total} blocks "
                f"of the plan's patch of {shape} voxels, expected 1 to {total - 1}; choose a smaller "
                "block or a ratio nearer 0.5 in the recipe"
            )

    def draw(self, rng: np.random.Generator, n_channels: int, patch_shape: Sequence[int]) -> NDArray[np.bool_]:
        """The blanked voxels, (channel, z, y, x): the same number of blocks in every channel."""
        shape = self.block_shape(patch_shape)
        n_blocks = self.n_blocks(patch_shape)
        total = math.prod(n_blocks)
        blanked = np.zeros((n_channels, total), dtype=bool)
        for channel in blanked:
            channel[rng.permutation(total)[: self.n_blanked(patch_shape)]] = True
        voxels = blanked.reshape(n_channels, *n_blocks)
        for axis, step in enumerate(shape, start=1):
            voxels = voxels.repeat(step, axis=axis)
        return np.asarray(voxels[(slice(None), *(slice(side) for side in patch_shape))])

    def apply(self, image: Tensor, blanked: NDArray[np.bool_]) -> tuple[Tensor, Tensor]:
        """What the network sees, and which voxels it is asked for: the blanked ones that are not 0.

        These are the brain and its rim: linear resampling carries grey values less than one of the scan's voxels
        beyond the brain's mask.

        Args:
            image: (channel, z, y, x), 0 farther from the brain and in sequences that are left out.
            blanked: what `draw` gave.
        """
        hidden = torch.from_numpy(blanked)
        return image.masked_fill(hidden, 0), hidden & (image != 0)


def squared_error(prediction: Tensor, image: Tensor, asked: Tensor) -> Tensor:
    """Sum of squared errors over the voxels that were asked for; all three are (batch, channel, z, y, x)."""
    return (prediction - image).square().masked_fill(~asked, 0).sum()


def build_decoder(n_channels: int, topology: Topology, seed: int) -> nn.Module:
    """A U-Net's decoder that gives one grey value a sequence; it is thrown away after pretraining."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        decoder = UNetDecoder(
            topology.features_per_stage, topology.kernel_sizes, topology.strides, n_channels, deep_supervision=False
        )
        decoder.apply(ResidualUNet.initialize)
    for head in decoder.heads:
        nn.init.zeros_(head.bias)  # type: ignore[arg-type]
    return decoder
