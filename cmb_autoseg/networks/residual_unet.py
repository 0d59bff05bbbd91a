"""A 3D ResNet-18-like encoder with a U-Net decoder.

Encoder after He et al. 2016 (two basic blocks a stage), with instance normalisation and leaky ReLU
as in nnU-Net (Isensee et al. 2021). Strides and kernels come from the plan, so that thick-slice
scans start with in-plane stages.

nnU-Net resolves the class by its dotted path and expects the attributes `decoder.deep_supervision`
and `compute_conv_feature_map_size`; state-dict keys do not depend on deep supervision.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["ResidualEncoder", "ResidualUNet"]

Shape = Sequence[int]
BACKGROUND_LOGIT = 4.0
"""First logit of background over microbleed: a prior of 2 %, so that training does not begin by
unlearning a brain full of microbleeds."""


def _same_padding(kernel: Shape) -> list[int]:
    return [size // 2 for size in kernel]


def _conv(n_in: int, n_out: int, kernel: Shape, stride: Shape = (1, 1, 1)) -> nn.Conv3d:
    return nn.Conv3d(n_in, n_out, tuple(kernel), tuple(stride), _same_padding(kernel), bias=False)  # type: ignore[arg-type]


def _norm(n_channels: int) -> nn.Module:
    return nn.InstanceNorm3d(n_channels, affine=True)


class ConvBlock(nn.Sequential):
    """Convolution, instance normalisation, leaky ReLU."""

    def __init__(self, n_in: int, n_out: int, kernel: Shape) -> None:
        super().__init__(_conv(n_in, n_out, kernel), _norm(n_out), nn.LeakyReLU(inplace=True))


class BasicBlock(nn.Module):
    """Two convolutions with a skip connection (ResNet-18's block); strided blocks project the skip."""

    def __init__(self, n_in: int, n_out: int, kernel: Shape, stride: Shape) -> None:
        super().__init__()
        self.conv1 = _conv(n_in, n_out, kernel, stride)
        self.norm1 = _norm(n_out)
        self.conv2 = _conv(n_out, n_out, kernel)
        self.norm2 = _norm(n_out)
        self.activation = nn.LeakyReLU(inplace=True)
        strided = any(step > 1 for step in stride)
        # Average pooling before the projection keeps one-voxel lesions in the skip (ResNet-D).
        pool: nn.Module = nn.AvgPool3d(tuple(stride), tuple(stride)) if strided else nn.Identity()  # type: ignore[arg-type]
        project: nn.Module = (
            nn.Sequential(_conv(n_in, n_out, (1, 1, 1)), _norm(n_out)) if n_in != n_out else nn.Identity()
        )
        self.skip = nn.Sequential(pool, project)

    def forward(self, x: Tensor) -> Tensor:
        out = self.activation(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(out))
        result: Tensor = self.activation(out + self.skip(x))
        return result


class ResidualEncoder(nn.Module):
    """Stem and residual stages.

    `forward` maps (batch, channel, z, y, x) to one feature map a stage, finest first.
    """

    def __init__(
        self,
        input_channels: int,
        features_per_stage: Sequence[int],
        kernel_sizes: Sequence[Shape],
        strides: Sequence[Shape],
        n_blocks_per_stage: Sequence[int],
    ) -> None:
        super().__init__()
        self.features_per_stage = tuple(features_per_stage)
        self.stem = ConvBlock(input_channels, features_per_stage[0], kernel_sizes[0])
        stages = []
        n_in = features_per_stage[0]
        for n_out, kernel, stride, n_blocks in zip(
            features_per_stage, kernel_sizes, strides, n_blocks_per_stage, strict=True
        ):
            blocks = [BasicBlock(n_in, n_out, kernel, stride)]
            blocks += [BasicBlock(n_out, n_out, kernel, (1, 1, 1)) for _ in range(n_blocks - 1)]
            stages.append(nn.Sequential(*blocks))
            n_in = n_out
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class Head(nn.Conv3d):
    """Features to logits; starts with background far more likely than a microbleed (Lin et al. 2017)."""

    def __init__(self, n_in: int, num_classes: int) -> None:
        super().__init__(n_in, num_classes, 1)


class UNetDecoder(nn.Module):
    """Transposed convolutions, skip concatenation, one convolution block a level, a head a level."""

    def __init__(
        self,
        features_per_stage: Sequence[int],
        kernel_sizes: Sequence[Shape],
        strides: Sequence[Shape],
        num_classes: int,
        deep_supervision: bool,
    ) -> None:
        super().__init__()
        self.deep_supervision = deep_supervision
        ups, blocks, heads = [], [], []
        for stage in range(len(features_per_stage) - 1, 0, -1):
            n_deep, n_skip = features_per_stage[stage], features_per_stage[stage - 1]
            stride = tuple(strides[stage])
            ups.append(nn.ConvTranspose3d(n_deep, n_skip, stride, stride))  # type: ignore[arg-type]
            blocks.append(ConvBlock(2 * n_skip, n_skip, kernel_sizes[stage - 1]))
            heads.append(Head(n_skip, num_classes))
        self.ups, self.blocks, self.heads = nn.ModuleList(ups), nn.ModuleList(blocks), nn.ModuleList(heads)

    def forward(self, features: list[Tensor]) -> Tensor | list[Tensor]:
        x = features[-1]
        outputs: list[Tensor] = []
        for level, (up, block, head) in enumerate(zip(self.ups, self.blocks, self.heads, strict=True)):
            x = block(torch.cat((up(x), features[-2 - level]), dim=1))
            if self.deep_supervision or level == len(self.heads) - 1:
                outputs.insert(0, head(x))
        return outputs if self.deep_supervision else outputs[0]


class ResidualUNet(nn.Module):
    """Residual encoder and U-Net decoder.

    Args:
        input_channels: sequences.
        num_classes: output channels (2: background and microbleed).
        n_stages: resolution levels; every list below has this length.
        features_per_stage: channels, finest level first.
        kernel_sizes: (z, y, x) of every stage.
        strides: (z, y, x) on entering every stage; the first is (1, 1, 1).
        n_blocks_per_stage: residual blocks; 2 each gives ResNet-18's depth.
        deep_supervision: return the logits of every decoder level, finest first.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        n_stages: int,
        features_per_stage: Sequence[int],
        kernel_sizes: Sequence[Shape],
        strides: Sequence[Shape],
        n_blocks_per_stage: Sequence[int],
        deep_supervision: bool = False,
    ) -> None:
        super().__init__()
        lengths = {len(features_per_stage), len(kernel_sizes), len(strides), len(n_blocks_per_stage)}
        if lengths != {n_stages}:
            raise ValueError(f"n_stages is {n_stages}, but the lists of stages have lengths {sorted(lengths)}")
        self.kernel_sizes, self.strides = [tuple(k) for k in kernel_sizes], [tuple(s) for s in strides]
        self.num_classes = num_classes
        self.encoder = ResidualEncoder(input_channels, features_per_stage, kernel_sizes, strides, n_blocks_per_stage)
        self.decoder = UNetDecoder(features_per_stage, kernel_sizes, strides, num_classes, deep_supervision)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Map (batch, channel, z, y, x) to logits of (batch, class, z, y, x), or a list of them."""
        result: Tensor | list[Tensor] = self.decoder(self.encoder(x))
        return result

    @staticmethod
    def initialize(module: nn.Module) -> None:
        """He initialisation of the convolutions; nnU-Net applies it to every module."""
        if isinstance(module, Head):
            assert module.bias is not None
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)
            module.bias.data[0] = BACKGROUND_LOGIT
        elif isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(module.weight, a=0.01)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def compute_conv_feature_map_size(self, patch_shape: Sequence[int]) -> int:
        """Values in all convolution outputs for one patch (z, y, x): nnU-Net's measure of memory."""
        shape = np.array(patch_shape, dtype=np.int64)
        features = self.encoder.features_per_stage
        size = features[0] * int(shape.prod())
        shapes = []
        for stage, stride in zip(self.encoder.stages, self.strides, strict=True):
            shape = -(-shape // np.array(stride))
            shapes.append(shape)
            size += 2 * len(stage) * features[len(shapes) - 1] * int(shape.prod())  # type: ignore[arg-type]
        for level in range(len(features) - 1):
            size += (2 * features[level] + self.num_classes) * int(shapes[level].prod())
        return size
