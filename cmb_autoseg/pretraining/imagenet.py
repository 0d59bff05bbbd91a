"""2D ResNet-18 weights that were learned on ImageNet, as the first weights of a 3D encoder.

Kernels are inflated as in Carreira & Zisserman 2017 ("Quo Vadis, Action Recognition?", section 2.2): repeated
along z and divided by their extent, so that a slice that is repeated along z gives what the 2D network gives.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cmb_autoseg.errors import InputError
from cmb_autoseg.networks.residual_unet import ResidualEncoder
from cmb_autoseg.tensor_file import read_tensors

__all__ = ["RESNET18_FEATURES", "Inflated", "inflate_resnet18", "read_resnet18"]

RESNET18_FEATURES = (64, 128, 256, 512)
N_BLOCKS = 2
STEM_SHAPE = (64, 3, 7, 7)
SOURCE = (
    "torchvision's ResNet-18 with the weights IMAGENET1K_V1, resnet18-f37072fd.pth of "
    "https://download.pytorch.org/models"
)


@dataclass(frozen=True)
class Inflated:
    """Which of the encoder's tensors came from the file, and which kept their random first values."""

    from_file: tuple[str, ...]
    random: tuple[str, ...]


def read_resnet18(path: Path) -> dict[str, Tensor]:
    """The state dict of torchvision's ResNet-18, by its names (conv1, bn1, layer1 to layer4).

    Raises:
        InputError: no such file, or another network's; says where the right one comes from.
    """
    cure = f"give {SOURCE}"
    if not path.is_file():
        raise InputError(f"--weights {path}: {'a folder' if path.is_dir() else 'no such file'}; {cure}")
    weights = read_tensors(path, cure)
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise InputError(f"--weights {path}: no plain list of tensors by name; {cure}")
    deeper = _deeper_network(weights)
    if deeper is not None:
        raise InputError(f"--weights {path}: of {deeper}, not of ResNet-18; {cure}")
    for name, shape in _expected_shapes().items():
        found = tuple(weights[name].shape) if name in weights else None
        if found != shape:
            problem = f"has no {name}" if found is None else f"{name} is of shape {found}, not {shape}"
            raise InputError(f"--weights {path}: no ResNet-18 for colour pictures ({problem}); {cure}")
    return {name: weights[name].float() for name in _expected_shapes()}


def _deeper_network(weights: Mapping[str, Tensor]) -> str | None:
    if "layer1.0.conv3.weight" in weights:
        return "ResNet-50 or a deeper one"
    return "ResNet-34" if "layer1.2.conv1.weight" in weights else None


def _expected_shapes() -> dict[str, tuple[int, ...]]:
    """Tensors of a ResNet-18 that an encoder can use; statistics of batch normalization are none of them."""
    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": STEM_SHAPE, **_norm_shapes("bn1", 64)}
    n_in = 64
    for layer, n_out in enumerate(RESNET18_FEATURES, 1):
        for block in range(N_BLOCKS):
            place = f"layer{layer}.{block}"
            shapes |= {f"{place}.conv1.weight": (n_out, n_in, 3, 3), **_norm_shapes(f"{place}.bn1", n_out)}
            shapes |= {f"{place}.conv2.weight": (n_out, n_out, 3, 3), **_norm_shapes(f"{place}.bn2", n_out)}
            if n_in != n_out:
                shapes[f"{place}.downsample.0.weight"] = (n_out, n_in, 1, 1)
                shapes |= _norm_shapes(f"{place}.downsample.1", n_out)
            n_in = n_out
    return shapes


def _norm_shapes(name: str, n: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (n,), f"{name}.bias": (n,)}


@torch.no_grad()
def inflate_resnet18(encoder: ResidualEncoder, weights: Mapping[str, Tensor]) -> Inflated:
    """Give an encoder the weights of a 2D ResNet-18, in place.

    The scales of batch normalization become those of instance normalization; its statistics are dropped. The stem of
    7 x 7 over red, green and blue is summed over the colours, resized by area to the encoder's stem, and
    given to every channel, divided by their number.

    Args:
        encoder: with at most the four levels of ResNet-18, and its features.
        weights: as `read_resnet18` gives them.

    Raises:
        InputError: the encoder has other levels or features.
    """
    features = encoder.features_per_stage
    if features != RESNET18_FEATURES[: len(features)]:
        wanted = ", ".join(map(str, RESNET18_FEATURES))
        raise InputError(
            f"network.features: found {', '.join(map(str, features))} in the planned network, but ResNet-18 has "
            f"{wanted} in four levels; set features: [{wanted}] under network in the recipe"
        )
    state = encoder.state_dict()
    taken = []
    for name, target in state.items():
        source = weights.get(_name_in_resnet(name))
        if source is None:
            continue
        target.copy_(_as_stem(source, target.shape) if name == "stem.0.weight" else _inflated(source, target.shape))
        taken.append(name)
    return Inflated(tuple(taken), tuple(name for name in state if name not in taken))


def _name_in_resnet(name: str) -> str:
    """`stages.1.0.skip.1.0.weight` is `layer2.0.downsample.0.weight`."""
    if name.startswith("stem."):
        return name.replace("stem.0.", "conv1.").replace("stem.1.", "bn1.")
    _, stage, rest = name.split(".", 2)
    renamed = rest.replace(".norm", ".bn").replace(".skip.1.", ".downsample.")
    return f"layer{int(stage) + 1}.{renamed}"


def _as_stem(kernel: Tensor, shape: Sequence[int]) -> Tensor:
    """(64, 3, 7, 7) to (64, channel, z, y, x)."""
    grey = kernel.sum(dim=1, keepdim=True)
    return _inflated(_resized(grey, shape[3:]), (shape[0], 1, *shape[2:])).expand(*shape) / shape[1]


def _resized(kernel: Tensor, shape: Sequence[int]) -> Tensor:
    """By area, in the last two axes; the kernel's sum stays."""
    for axis, size in zip((-2, -1), shape, strict=True):
        overlap = torch.from_numpy(_overlaps(kernel.shape[axis], size).astype(np.float32))
        kernel = torch.movedim(torch.movedim(kernel, axis, -1) @ overlap, -1, axis)
    return kernel


def _overlaps(n_from: int, n_to: int) -> NDArray[np.float64]:
    """Share of each of `n_from` equal cells that lies in each of `n_to` cells of the same whole."""
    starts, ends = np.arange(n_from)[:, None] / n_from, np.arange(1, n_from + 1)[:, None] / n_from
    low, high = np.arange(n_to) / n_to, np.arange(1, n_to + 1) / n_to
    return np.asarray(np.clip(np.minimum(ends, high) - np.maximum(starts, low), 0, None) * n_from)


def _inflated(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """A kernel (out, in, y, x) to (out, in, z, y, x); a vector stays."""
    if tensor.ndim == 1:
        return tensor
    if tensor.shape[2:] != tuple(shape[3:]):
        tensor = _resized(tensor, shape[3:])
    return tensor[:, :, None].expand(-1, -1, shape[2], -1, -1) / shape[2]
