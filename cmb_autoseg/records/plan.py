"""How one dataset is trained, and why so."""

import math
from collections.abc import Sequence
from typing import Literal, Self

from pydantic import ConfigDict, model_validator

from cmb_autoseg.records.preparation import PrepSettings
from cmb_autoseg.records.record import Count, Record, Triple
from cmb_autoseg.records.roles import Role
from cmb_autoseg.workspace import Preset

__all__ = ["Plan", "Reason", "Topology", "TrainingRange", "pooled_patch"]


class Topology(Record):
    """Levels of the network, finest first; kernels and strides are (z, y, x)."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    features_per_stage: tuple[Count, ...]
    """Features of each level, finest first."""
    kernel_sizes: tuple[Triple[Count], ...]
    """Voxels (z, y, x) of each level's convolutions."""
    strides: tuple[Triple[Count], ...]
    """By which each level is coarser (z, y, x) than the one before."""
    n_blocks_per_stage: tuple[Count, ...]
    """Residual blocks of each level."""

    @property
    def divisors(self) -> Triple[int]:
        """What each side (z, y, x) of a patch must be a multiple of."""
        z, y, x = (math.prod(steps) for steps in zip(*self.strides, strict=True))
        return z, y, x

    @model_validator(mode="after")
    def _levels_agree(self) -> Self:
        lengths = [len(values) for values in (self.features_per_stage, self.kernel_sizes, self.n_blocks_per_stage)]
        if lengths != [len(self.strides)] * 3:
            raise ValueError(f"{len(self.strides)} levels by strides, but features, kernels and blocks have {lengths}")
        return self

    def with_features(self, features: Sequence[int]) -> "Topology":
        """The same levels with other numbers of features; fewer numbers make fewer levels."""
        levels = min(len(features), len(self.strides))
        return Topology(
            features_per_stage=tuple(features[:levels]),
            kernel_sizes=self.kernel_sizes[:levels],
            strides=self.strides[:levels],
            n_blocks_per_stage=self.n_blocks_per_stage[:levels],
        )


class TrainingRange(Record):
    """What a model has seen; a scan outside it is predicted with a warning. Axes (z, y, x)."""

    sequences: tuple[Role, ...]
    spacing_mm_min: Triple[float]
    spacing_mm_max: Triple[float]
    brain_volume_ml: tuple[float, float]
    field_strength_t: tuple[float, ...] = ()
    """Empty where nobody said it."""
    snr: tuple[float, float] | None = None
    """Signal-to-noise ratios of magnitudes, by `quality_control.sequence_measures.signal_to_noise`; None if unknown."""
    sequence_sets: tuple[tuple[Role, ...], ...] = ()
    """Sets of sequences that it has learned to predict from; where none are named, from all together."""


def pooled_patch(sides: Triple[int], units: Sequence[int]) -> Triple[int]:
    """The largest patch (z, y, x) within these sides, each a multiple of its unit; at least one unit."""
    z, y, x = (max(unit, side // unit * unit) for side, unit in zip(sides, units, strict=True))
    return z, y, x


class Reason(Record):
    """One choice of the planner in plain words, with what led to it."""

    topic: Literal["channels", "grid", "lesions", "patch", "network", "memory"]
    text: str
    """What was chosen and why, with numbers and units."""
    rule: str
    """The rule that was followed, and where it comes from."""


class Plan(Record):
    """How one dataset is trained: channels, grid, patch and network.

    Arrays are (z, y, x) after `transpose_forward`, which puts the axis of the thickest slices first.
    """

    dataset: str
    preset: Preset
    channels: tuple[Role, ...]
    transpose_forward: Triple[int]
    spacing_mm: Triple[float]
    median_shape: Triple[int]
    patch_shape: Triple[Count]
    batch_size: Count
    topology: Topology
    preserve_lesions: bool
    """Masks are resampled lesion by lesion, so that none vanishes; else by plain trilinear weights."""
    lesions_before: int
    lesions_after: int
    lost_lesions: tuple[str, ...] = ()
    """`case#number` of lesions that vanish or merge at this spacing; empty unless the user allowed it."""
    device: Literal["cuda", "cpu"]
    memory_target_gb: float
    """What the user asked for; `memory_gb` stays below."""
    memory_gb: float
    """Estimated accelerator memory of training."""
    reasons: tuple[Reason, ...]
    """Why this channel set, spacing, patch and network."""
    warnings: tuple[str, ...] = ()
    """What is legal but costs more than it need: thin slices of a few cases, cases that grow a lot."""
    training_range: TrainingRange
    prep: PrepSettings = PrepSettings()
    """How the scans were prepared; one that is predicted gets the same grey values."""
    parents: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _patch_can_be_pooled(self) -> Self:
        """Every level must halve without a rest, else the decoder's maps do not fit the encoder's."""
        for axis, side, divisor in zip("zyx", self.patch_shape, self.topology.divisors, strict=True):
            if side % divisor:
                raise ValueError(
                    f"patch_shape has {side} voxels along {axis}, which the network's strides need as a multiple of "
                    f"{divisor}"
                )
        return self
