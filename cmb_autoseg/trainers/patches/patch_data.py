"""A fold's patches: its preprocessed cases, the recipe's shares and augmentation, in this process or in others.

Import it inside `nnunet_environment`; nnunetv2 reads some variables at import time.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA

from cmb_autoseg.errors import InputError
from cmb_autoseg.records import SUSCEPTIBILITY_ROLES, Role
from cmb_autoseg.trainers.patches.augmentation import Augmentation, ChannelDropout, Flip, Intensity, SpatialWarp
from cmb_autoseg.trainers.patches.loader import PatchLoader, PatchSource
from cmb_autoseg.trainers.patches.sampling import CaseAnchors, PatchShares
from cmb_autoseg.trainers.patches.semi_supervised import TwoViews, ViewLoader
from cmb_autoseg.trainers.recipe import AugmentationSettings, Recipe

__all__ = ["FoldPatches", "PatchFeed", "build_augmentation", "load_source"]

VALIDATION_SEED = 7_919
"""Keeps the draws of validation patches apart from those of training patches."""
UNLABELLED_SEED = 104_729
"""Likewise of unlabelled patches."""
UNLABELLED_SHARES = PatchShares(lesion=0.0, brain=0.9, anywhere=0.1)
"""Nobody has said where lesions are; nearly all are in the brain, and some places outside are to be seen as empty."""


def load_source(folder: Path, names: Sequence[str]) -> PatchSource:
    """Preprocessed cases of a folder, opened without reading their voxels.

    Raises:
        InputError: one of them is damaged.
    """
    dataset = nnUNetDatasetBlosc2(str(folder), list(names))
    images, labels, anchors = {}, {}, []
    for name in names:
        images[name], labels[name], _, properties = _load_case(dataset, name)
        shape = images[name].shape[1:]
        anchors.append(CaseAnchors(name, shape, properties["lesions"], properties["brain"]))
    return PatchSource(images, labels, anchors)


def _load_case(dataset: nnUNetDatasetBlosc2, name: str) -> tuple[Any, Any, Any, dict[str, Any]]:
    try:
        case: tuple[Any, Any, Any, dict[str, Any]] = dataset.load_case(name)
    except (RuntimeError, ValueError, EOFError, UnpicklingError) as error:
        raise InputError(
            f"{dataset.source_folder}/{name}.b2nd: the network input of {name} is damaged ({type(error).__name__}); "
            f"delete the file and run cmb_plan_preprocess -d {Path(dataset.source_folder).parent.name}"
        ) from None
    return case


def build_augmentation(
    settings: AugmentationSettings, roles: Sequence[Role], mirror_axes: tuple[int, ...]
) -> Augmentation:
    """The recipe's augmentation for channels of these roles; `mirror_axes` are array axes of (z, y, x)."""
    return Augmentation(
        SpatialWarp(settings.warp_probability, settings.rotation_degrees, settings.scaling, settings.elastic_mm),
        Flip(mirror_axes),
        Intensity(settings.intensity_probability, settings.noise_sigma, settings.contrast),
        ChannelDropout(settings.channel_dropout, _required_channels(roles)),
    )


def _required_channels(roles: Sequence[Role]) -> tuple[int, ...]:
    """Channels in which microbleeds show."""
    return tuple(roles.index(role) for role in SUSCEPTIBILITY_ROLES if role in roles)


@dataclass(frozen=True)
class FoldPatches:
    """How the loaders of one fold are made.

    Attributes:
        folder: of the preprocessed cases.
        recipe: shares, augmentation, semi-supervision.
        roles: of the channels.
        blank: channels that the recipe leaves empty.
        patch_shape: (z, y, x).
        spacing_mm: (z, y, x).
        batch_size: labelled patches of a step.
        mirror_axes: array axes of (z, y, x) along which patches are flipped.
        seed: of the model and the fold.
    """

    folder: Path
    recipe: Recipe
    roles: tuple[Role, ...]
    blank: tuple[int, ...]
    patch_shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    batch_size: int
    mirror_axes: tuple[int, ...]
    seed: tuple[int, int]

    def training(self, names: Sequence[str]) -> PatchLoader:
        """Labelled patches by the recipe's shares, augmented.

        Raises:
            InputError: no case has a lesion, or one is damaged.
        """
        source = load_source(self.folder, names)
        if not any(case.lesions for case in source.anchors):
            raise InputError(
                f"fold {self.seed[1]}: no lesion in its {len(names)} training cases; add labelled cases with lesions"
            )
        return self._labelled(source, self._augmentation(), self.seed)

    def validation(self, names: Sequence[str]) -> PatchLoader:
        """As training patches, but as they are."""
        return self._labelled(load_source(self.folder, names), None, (*self.seed, VALIDATION_SEED))

    def unlabelled(self, names: Sequence[str]) -> ViewLoader:
        """Pairs of views of unlabelled patches."""
        settings = self.recipe.semi_supervised
        assert settings is not None
        usual = self._augmentation()
        intensity = Intensity(1.0, settings.noise_sigma, settings.contrast)
        dropout = replace(usual.dropout, probability=settings.channel_dropout)
        return ViewLoader(
            load_source(self.folder, names),
            self.patch_shape,
            self.spacing_mm,
            math.ceil(settings.unlabelled_ratio * self.batch_size),
            UNLABELLED_SHARES,
            TwoViews(usual.warp, usual.flip, intensity, dropout),
            (*self.seed, UNLABELLED_SEED),
            self.blank,
        )

    def _labelled(self, source: PatchSource, augmentation: Augmentation | None, seed: Sequence[int]) -> PatchLoader:
        shares = PatchShares(**self.recipe.sampling.model_dump())
        return PatchLoader(
            source, self.patch_shape, self.spacing_mm, self.batch_size, shares, augmentation, seed, self.blank
        )

    def _augmentation(self) -> Augmentation:
        return build_augmentation(self.recipe.augmentation, self.roles, self.mirror_axes)


@dataclass
class PatchFeed:
    """Batches of one loader, drawn in this process, or by others ahead of time where CUDA waits for them.

    In this process the draws hang on seed, epoch and step alone, and can be saved and taken up again.
    """

    loader: PatchLoader
    batches: Any
    """nnU-Net's augmenter around the loader."""

    @classmethod
    def start(cls, loader: PatchLoader, epoch: int, step: int, pin: bool, share: float = 1.0) -> "PatchFeed":
        """Feed from a step of an epoch on.

        Args:
            loader: makes the batches.
            epoch: from 0.
            step: within the epoch.
            pin: memory, for CUDA.
            share: of the processes that the environment allows.
        """
        allowed = get_allowed_n_proc_DA()
        if not allowed:
            return cls(loader, SingleThreadedAugmenter(loader, None))
        loader.start_epoch(epoch, step)
        workers = max(1, round(allowed * share))
        seeds = list(range(workers))
        return cls(loader, NonDetMultiThreadedAugmenter(loader, None, workers, 2 * workers, seeds, pin))

    @property
    def in_process(self) -> bool:
        return isinstance(self.batches, SingleThreadedAugmenter)

    def __next__(self) -> dict[str, Any]:
        batch: dict[str, Any] = next(self.batches)
        return batch

    def start_epoch(self, epoch: int) -> None:
        if self.in_process:
            self.loader.start_epoch(epoch)

    @property
    def draws(self) -> dict[str, Any] | None:
        """State of the draws after the last batch; None where other processes draw."""
        return self.loader.draws if self.in_process else None

    def take_up(self, draws: dict[str, Any] | None) -> None:
        """Go on after a batch whose `draws` were saved."""
        if draws is not None and self.in_process:
            self.loader.draws = draws

    def close(self) -> None:
        """End the processes."""
        if not self.in_process:
            self.batches._finish()
