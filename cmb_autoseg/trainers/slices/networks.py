"""The network that a recipe of slices names."""

from collections.abc import Callable, Sequence

from torch import nn

from cmb_autoseg.networks.residual25d import Residual25d
from cmb_autoseg.networks.unet2d import UNet2d
from cmb_autoseg.trainers.recipe import SliceSettings

__all__ = ["build_slice_network"]

NETWORKS: dict[str, Callable[[int, Sequence[int]], nn.Module]] = {"residual25d": Residual25d, "unet2d": UNet2d}


def build_slice_network(settings: SliceSettings, n_sequences: int) -> nn.Module:
    """With random weights, for pictures of (sequences * slices, h, w); it gives logits of (1, h, w)."""
    n_channels = n_sequences * (2 * settings.pictures.neighbors + 1)
    return NETWORKS[settings.network](n_channels, settings.features)
