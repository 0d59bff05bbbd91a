"""What defines a pretraining, and the encoder and objective that are built of it."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from cmb_autoseg.errors import InputError
from cmb_autoseg.files import text_digest
from cmb_autoseg.networks.residual_unet import ResidualEncoder, ResidualUNet
from cmb_autoseg.pretraining.barlow_twins import Projector
from cmb_autoseg.pretraining.masked_autoencoding import BlockMask, build_decoder
from cmb_autoseg.pretraining.objectives import (
    PATCH,
    BarlowTwins,
    MaskedAutoencoding,
    MaskedSampler,
    Objective,
    PairSampler,
)
from cmb_autoseg.pretraining.views import PairMaker, SequenceSplit, ViewMaker
from cmb_autoseg.records import SUSCEPTIBILITY_ROLES, Role, Topology, Triple
from cmb_autoseg.trainers.patches.augmentation import Flip, Intensity, SpatialWarp
from cmb_autoseg.trainers.recipe import AugmentationSettings, PretrainingSettings

__all__ = ["PretrainingSetup", "build_encoder", "build_objective"]


@dataclass(frozen=True)
class PretrainingSetup:
    """What an encoder is learned by, on which grid, for which network. Axes (z, y, x) of the plan."""

    settings: PretrainingSettings
    augmentation: AugmentationSettings
    channels: tuple[Role, ...]
    patch_shape: Triple[int]
    spacing_mm: Triple[float]
    flip_axes: tuple[int, ...]
    """Array axes along which a patch may be mirrored."""
    topology: Topology

    def digest(self, **further: Any) -> str:
        """Of all that the weights hang on; how many patches go through the encoder at a time is no part of it."""
        content = {
            "settings": self.settings.what_decides(),
            "augmentation": self.augmentation.model_dump(mode="json"),
            "channels": self.channels,
            "patch_shape": self.patch_shape,
            "spacing_mm": self.spacing_mm,
            "flip_axes": self.flip_axes,
            "topology": self.topology.model_dump(mode="json"),
            **further,
        }
        return text_digest(json.dumps(content, sort_keys=True))


def build_encoder(n_channels: int, topology: Topology, seed: int) -> ResidualEncoder:
    """The segmenter's encoder with the segmenter's first weights, drawn from the seed alone.

    Args:
        n_channels: sequences.
        topology: of the plan, or what the recipe made of it.
        seed: from 0; torch's global generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_torch_seed(seed, 0))
        encoder = ResidualEncoder(n_channels, **topology.model_dump())
        encoder.apply(ResidualUNet.initialize)
    return encoder


def build_objective(setup: PretrainingSetup, seed: int) -> Objective:
    """The recipe's objective with the head's first weights.

    Raises:
        InputError: settings that do not fit the network or the patch.
        ValueError: a method that learns nothing.
    """
    settings, topology = setup.settings, setup.topology
    susceptibility = tuple(n for n, role in enumerate(setup.channels) if role in SUSCEPTIBILITY_ROLES)
    split = SequenceSplit(susceptibility, settings.channel_dropout)
    views = _views(setup)
    if settings.method == "masked_autoencoding":
        mask = BlockMask(settings.masking.ratio, settings.masking.block)
        mask.refuse_misfit(setup.patch_shape)
        decoder = build_decoder(len(setup.channels), topology, _torch_seed(seed, 1))
        return MaskedAutoencoding(MaskedSampler(views, split, mask), decoder)
    if settings.method != "barlow_twins":
        raise ValueError(f"{settings.method} learns nothing from patches")
    twins = settings.barlow_twins
    levels = {"patch": (PATCH,), "voxels": (twins.voxel_level,), "both": (twins.voxel_level, PATCH)}[twins.places]
    if twins.places == "patch":
        pairs = PairMaker(views, split, common_geometry=False)
    else:
        pairs = PairMaker(views, split, True, _stride(topology, twins.voxel_level), twins.voxels_per_patch)
    projectors = [
        _projector(topology.features_per_stage[level], twins.projector, _torch_seed(seed, purpose))
        for purpose, level in enumerate(levels, start=1)
    ]
    return BarlowTwins(PairSampler(pairs), projectors, twins.redundancy_weight, levels)


def _views(setup: PretrainingSetup) -> ViewMaker:
    augmentation = setup.augmentation
    return ViewMaker(
        SpatialWarp(
            augmentation.warp_probability,
            augmentation.rotation_degrees,
            augmentation.scaling,
            augmentation.elastic_mm,
        ),
        Flip(setup.flip_axes),
        Intensity(augmentation.intensity_probability, augmentation.noise_sigma, augmentation.contrast),
        setup.patch_shape,
        setup.spacing_mm,
    )


def _stride(topology: Topology, level: int) -> tuple[int, ...]:
    """Voxels (z, y, x) of a cell of one of the encoder's levels."""
    n_levels = len(topology.strides)
    if level >= n_levels:
        raise InputError(
            f"pretraining.barlow_twins.voxel_level: found {level}, expected 0 to {n_levels - 1}, since the network has "
            f"{n_levels} levels; correct the recipe"
        )
    return tuple(int(n) for n in np.prod(topology.strides[: level + 1], axis=0))


def _projector(n_features: int, widths: tuple[int, ...], seed: int) -> Projector:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        projector = Projector(n_features, widths)
        for layer in projector.modules():
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return projector


def _torch_seed(seed: int, purpose: int) -> int:
    return int(np.random.SeedSequence((seed, purpose)).generate_state(1)[0])
