"""`ResidualUNet` as a graph of OpenVINO, built from its modules.

Tracing through PyTorch would give the same graph in ten times the time, and once a fold.
"""

from typing import Any

import numpy as np
import openvino
from openvino import opset13 as ops
from torch import nn

from cmb_autoseg.networks.residual_unet import BasicBlock, ResidualUNet

__all__ = ["openvino_graph"]

SPATIAL = np.array([2, 3, 4])


def openvino_graph(network: ResidualUNet, n_channels: int) -> openvino.Model:
    """The network for windows (n, channel, a, b, c) of any number and size, its output the foreground's logit over the
    background's (n, 1, a, b, c).

    Args:
        network: of two classes; its weights are copied.
        n_channels: of its input.
    """
    windows = ops.parameter([-1, n_channels, -1, -1, -1], np.float32, name="windows")
    encoder, decoder = network.encoder, network.decoder
    features = [_block(windows, encoder.stem)]
    for stage in encoder.stages:
        x = features[-1]
        blocks: Any = stage
        for block in blocks:
            x = _residual(x, block)
        features.append(x)
    x, skips = features[-1], features[1:-1]
    for up, block, skip in zip(decoder.ups, decoder.blocks, reversed(skips), strict=True):
        x = _block(ops.concat([_raised(x, up), skip], 1), block)
    head: Any = decoder.heads[-1]
    weight, bias = (values.detach().numpy() for values in (head.weight, head.bias))
    logit = ops.add(_pointwise(x, weight[1:] - weight[:1]), (bias[1:] - bias[:1]).reshape(1, 1, 1, 1, 1))
    return openvino.Model([logit], [windows], "foreground")


def _residual(x: Any, block: BasicBlock) -> Any:
    out = _activated(_normalized(_convolved(x, block.conv1), block.norm1), block.activation)
    out = _normalized(_convolved(out, block.conv2), block.norm2)
    pool, project = block.skip
    if isinstance(pool, nn.AvgPool3d):
        sides: Any = pool.kernel_size
        x = ops.avg_pool(x, list(sides), [0, 0, 0], [0, 0, 0], list(sides), exclude_pad=True)
    if isinstance(project, nn.Sequential):
        x = _normalized(_convolved(x, project[0]), project[1])
    return _activated(ops.add(out, x), block.activation)


def _block(x: Any, block: Any) -> Any:
    convolution, norm, activation = block
    return _activated(_normalized(_convolved(x, convolution), norm), activation)


def _convolved(x: Any, module: Any) -> Any:
    return ops.convolution(
        x,
        module.weight.detach().numpy(),
        list(module.stride),
        list(module.padding),
        list(module.padding),
        list(module.dilation),
    )


def _pointwise(x: Any, weight: Any) -> Any:
    return ops.convolution(x, weight, [1, 1, 1], [0, 0, 0], [0, 0, 0], [1, 1, 1])


def _raised(x: Any, module: Any) -> Any:
    up = ops.convolution_backprop_data(x, module.weight.detach().numpy(), list(module.stride))
    return up if module.bias is None else ops.add(up, _per_channel(module.bias))


def _normalized(x: Any, module: Any) -> Any:
    centred = ops.mvn(x, SPATIAL, True, module.eps, "inside_sqrt")
    return ops.add(ops.multiply(centred, _per_channel(module.weight)), _per_channel(module.bias))


def _activated(x: Any, module: nn.LeakyReLU) -> Any:
    return ops.prelu(x, np.array([module.negative_slope], np.float32))


def _per_channel(values: Any) -> Any:
    return values.detach().numpy().reshape(1, -1, 1, 1, 1)
