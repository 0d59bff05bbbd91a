"""Grad-CAM of a segmentation network, for one place at a time.

Grad-CAM (Selvaraju et al. 2017, eq. 1 and 2) weighs the feature maps of a layer with their mean gradient;
for segmentation the score that is derived is the mean over a region of interest (Vinogradova et al. 2020).
HiRes-CAM (Draelos and Carin 2020; for segmentation Rheude et al. 2024) weighs every place of a feature map
with its own gradient. Captum computes both; torch is all that is needed beside it.
"""

from typing import Literal, cast, get_args

import torch
from captum.attr import LayerGradCam, LayerGradientXActivation
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["METHODS", "Method", "grad_cam", "level_modules", "mean_logit_difference", "scores"]

Method = Literal["hirescam", "gradcam"]
METHODS: tuple[Method, ...] = get_args(Method)
MICROBLEED, BACKGROUND = 1, 0


def level_modules(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """The levels of a U-Net in the order in which a patch passes them, with their names.

    Returns:
        `encoder 0` (finest) to the deepest, then `decoder n` (the deepest of the decoder) to `decoder 0`.
        The number behind a decoder level is that of the encoder level on whose grid it is.

    Raises:
        ValueError: the network has no stages by the names that U-Nets of this tool and of nnU-Net have.
    """
    encoder, decoder = getattr(network, "encoder", None), getattr(network, "decoder", None)
    down = getattr(encoder, "stages", None)
    up = getattr(decoder, "blocks", None) or getattr(decoder, "stages", None)
    if down is None or up is None:
        raise ValueError(f"{type(network).__name__} has no encoder.stages and decoder.blocks or decoder.stages")
    names = [f"encoder {level}" for level in range(len(down))]
    names += [f"decoder {level}" for level in reversed(range(len(up)))]
    return list(zip(names, [*down, *up], strict=True))


def mean_logit_difference(logits: Tensor, regions: Tensor) -> Tensor:
    """How much more microbleed than background the network sees, on average over a region.

    Args:
        logits: (batch, class, z, y, x), class 0 background, class 1 microbleed.
        regions: (batch, z, y, x), 1 inside, 0 outside; at least one voxel each.

    Returns:
        (batch,), in logits: the log of the odds.
    """
    difference = logits[:, MICROBLEED] - logits[:, BACKGROUND]
    return (difference * regions).sum((1, 2, 3)) / regions.sum((1, 2, 3))


def grad_cam(
    network: nn.Module, layer: nn.Module, patches: Tensor, regions: Tensor, method: Method = "hirescam"
) -> Tensor:
    """The part of a layer's features that speaks for a microbleed in a region, on the patch's grid.

    Args:
        network: maps (batch, channel, z, y, x) to logits (batch, class, z, y, x); in evaluation mode.
        layer: one of its modules, whose output is (batch, feature, z', y', x').
        patches: (batch, channel, z, y, x).
        regions: (batch, z, y, x), see `mean_logit_difference`, whose value is derived.
        method: `gradcam`, ReLU of the sum over features of mean gradient times feature; `hirescam`, ReLU of
            the sum over features of gradient times feature, place by place.

    Returns:
        (batch, z, y, x), at least 0, trilinearly interpolated from the layer's grid; in the unit of the
        layer's features times logits, so comparable within one layer of one network alone.
    """

    def score(inputs: Tensor, regions: Tensor) -> Tensor:
        return mean_logit_difference(network(inputs), regions)

    if method == "gradcam":
        found = LayerGradCam(score, layer).attribute(patches, additional_forward_args=(regions,))
    else:
        found = LayerGradientXActivation(score, layer).attribute(patches, additional_forward_args=(regions,))
    # (batch, 1, z', y', x'); Grad-CAM is summed over the features already.
    coarse = torch.relu(cast(Tensor, found).detach().sum(dim=1, keepdim=True))
    return functional.interpolate(coarse, size=tuple(patches.shape[2:]), mode="trilinear")[:, 0]


@torch.no_grad()
def scores(network: nn.Module, patches: Tensor, regions: Tensor) -> Tensor:
    """`mean_logit_difference` of patches as the network sees them: (batch,)."""
    return mean_logit_difference(network(patches), regions)
