"""Weights that a backbone has learned from ImageNet, out of torchvision's files."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from cmb_autoseg.networks.ssd.detector import SingleShotDetector, SSDOptions

__all__ = ["MismatchError", "expected_file", "give_weights"]

FILES = {
    ("vgg16", False): "vgg16-397923af.pth",
    ("vgg16", True): "vgg16_bn-6c64b313.pth",
    ("resnet34", True): "resnet34-b627a593.pth",
    ("mobilenet", True): "mobilenet_v2-b0353104.pth",
}
"""Of https://download.pytorch.org/models, by backbone and batch normalization."""
HEADS = ("classifier.", "fc.")
"""Beginnings of names of the layers that tell ImageNet's classes."""


class MismatchError(ValueError):
    """The weights are of another network."""


def expected_file(options: SSDOptions) -> str:
    """Name of torchvision's file that fits."""
    return FILES[options.backbone, options.batch_norm or options.backbone != "vgg16"]


@torch.no_grad()
def give_weights(network: SingleShotDetector, weights: Mapping[str, Tensor]) -> int:
    """Give the backbone the weights of torchvision's network, in place.

    The first kernels, which see red, green and blue, are averaged over them and given to every channel, times 3 and
    divided by the number of channels: the same grey picture in all channels gives what it gave in all colors.

    Args:
        network: of full width.
        weights: state dict of torchvision's VGG-16, ResNet-34 or MobileNetV2.

    Returns:
        How many tensors were taken.

    Raises:
        MismatchError: names the first tensor that does not fit.
    """
    given = [(name, value) for name, value in weights.items() if not name.startswith(HEADS)]
    own = [item for part in network.pretrained for item in _state(part)]
    for (name, value), (ours, target) in zip(given, own, strict=False):
        fitting = _grey(value, target) if target is own[0][1] else value
        if fitting.shape != target.shape:
            raise MismatchError(f"{name} is of shape {tuple(value.shape)}, {ours} of {tuple(target.shape)}")
    if len(given) != len(own):
        raise MismatchError(f"it has {len(given)} tensors below its classifier, the backbone {len(own)}")
    for (_, value), (_, target) in zip(given, own, strict=True):
        target.copy_(_grey(value, target) if target is own[0][1] else value)
    return len(own)


def _state(part: nn.Module) -> list[tuple[str, Tensor]]:
    return list(part.state_dict().items())


def _grey(kernels: Tensor, target: Tensor) -> Tensor:
    """First kernels (out, 3, h, w) for the channels of the target; others as they are."""
    if kernels.dim() != 4 or kernels.shape[1] != 3:
        return kernels
    channels = target.shape[1]
    return kernels.mean(dim=1, keepdim=True).expand(-1, channels, -1, -1) * (3 / channels)
