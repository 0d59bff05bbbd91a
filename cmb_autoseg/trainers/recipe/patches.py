"""Parts of a recipe whose network sees 3D patches."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from cmb_autoseg.records import Topology
from cmb_autoseg.trainers.recipe.settings import Plane, Settings, Share

__all__ = [
    "AugmentationSettings",
    "FeatureEnhancementSettings",
    "InferenceSettings",
    "LossSettings",
    "NetworkSettings",
    "SamplingSettings",
    "SemiSupervisedSettings",
    "TransferSettings",
]


class FeatureEnhancementSettings(Settings):
    """Features inside true lesions are strengthened in training, the darkest places most; never in prediction."""

    level: Annotated[int, Field(ge=0)] = 1
    """Level of the encoder whose features are strengthened, 0 for the finest."""
    beta: PositiveFloat = 1.5
    """Factor of the mean grey value of a lesion's box up to which its voxels are strengthened."""


class NetworkSettings(Settings):
    """What the recipe changes in the planned network."""

    features: tuple[PositiveInt, ...] | None = None
    """Features of each level, finest first; fewer numbers make fewer levels. Without it: what the plan says."""
    topology: Topology | None = None
    """Levels in place of the planned ones; `cmb_train --init` takes those of the model that it begins with."""
    feature_enhancement: FeatureEnhancementSettings | None = None
    """Without it: none."""


class LossSettings(Settings):
    """Dice plus binary cross-entropy at every decoder level."""

    dice_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the Dice term."""
    bce_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the cross-entropy term."""
    foreground_weight: PositiveFloat = 5.0
    """How much more a microbleed's voxel counts in the cross-entropy than another."""


class SamplingSettings(Settings):
    """Shares of patches around a lesion, around a brain voxel, anywhere."""

    lesion: Share = 0.60
    """Patches around a voxel of a lesion; every lesion has the same chance, whatever its size."""
    brain: Share = 0.25
    """Patches around a voxel of the brain."""
    anywhere: Share = 0.15
    """Patches anywhere in the volume."""

    @model_validator(mode="after")
    def _sum_to_one(self) -> "SamplingSettings":
        if abs(self.lesion + self.brain + self.anywhere - 1) > 1e-6:
            raise ValueError(
                f"lesion, brain, anywhere: found {self.lesion:g}, {self.brain:g} and {self.anywhere:g}; they must sum "
                "to 1"
            )
        return self


class AugmentationSettings(Settings):
    """Of Janardanan et al. 2026; probabilities are ours."""

    warp_probability: Share = 0.3
    """Share of patches that are rotated, scaled and bent."""
    rotation_degrees: Annotated[float, Field(ge=0, le=180)] = 15.0
    """Largest rotation about each axis; slices over 3 times thicker than the voxels in-plane turn in-plane only."""
    scaling: tuple[PositiveFloat, PositiveFloat] = (0.9, 1.1)
    """Smallest and largest factor of size."""
    elastic_mm: Annotated[float, Field(ge=0)] = 1.0
    """Largest shift by bending, in millimetres; 0 for none."""
    flip: tuple[Plane, ...] = ("sagittal", "coronal")
    """Planes across which a patch is mirrored, each with a chance of one half."""
    intensity_probability: Share = 0.5
    """Chance of each sequence to change in contrast, and, drawn by itself, to get noise."""
    noise_sigma: tuple[Annotated[float, Field(ge=0)], PositiveFloat] = (0.01, 0.05)
    """Smallest and largest standard deviation of added noise; the brain's own is 1."""
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Grey values are multiplied by at least 1 - this and at most 1 + this."""
    channel_dropout: Share = 0.3
    """Chance of each sequence to be blanked; one in which microbleeds show always stays."""


class TransferSettings(Settings):
    """Where the encoder's first weights come from, and how gently they are changed."""

    encoder: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$")] | None = None
    """Recipe whose `cmb_pretrain` made the encoder. Without it: random weights, or what `cmb_train --encoder` names."""
    learning_rate_factor: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Learning rate of a pretrained encoder as a share of the rest's."""
    frozen_steps: Annotated[int, Field(ge=0)] = 0
    """First steps in which a pretrained encoder does not change."""


class SemiSupervisedSettings(Settings):
    """Learning from unlabelled cases while training: what the network says of an easy view teaches a hard one."""

    method: Literal["fixmatch", "mean_teacher"]
    """Who teaches: the network itself (Sohn et al. 2020) or its moving average (Tarvainen and Valpola 2017)."""
    unlabelled_ratio: PositiveFloat = 1.0
    """Unlabelled patches of a step for each labelled one, rounded up."""
    weight: Annotated[float, Field(ge=0)] = 1.0
    """Of the unlabelled loss at its full."""
    ramp_up_steps: Annotated[int, Field(ge=0)] = 500
    """Steps over which the weight rises linearly from 0."""
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.9
    """A voxel teaches microbleed from this probability on, and background from 1 minus this down."""
    background_ratio: PositiveFloat = 10.0
    """Background voxels that teach for each voxel of microbleed, the least certain of the confident first."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Of the mean teacher's weights, a step."""
    noise_sigma: tuple[Annotated[float, Field(ge=0)], PositiveFloat] = (0.05, 0.2)
    """Noise of the hard view; the brain's own standard deviation is 1."""
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0.4
    """Contrast of the hard view changes by at most this."""
    channel_dropout: Share = 0.5
    """Chance of each sequence to be blanked in the hard view; one in which microbleeds show always stays."""


class InferenceSettings(Settings):
    """Test-time flips and sliding windows."""

    mirror: tuple[Plane, ...] = ()
    """Planes across which a scan is mirrored and predicted again: with a `tile_step` everywhere, so that each doubles
    the time; without one only where the folds remain unsure, about a third more windows."""
    fewer_sequences: bool = False
    """Where the folds remain unsure, they look again with SWI or the gradient echo's magnitude alone, and with both, if
    the scan has more and training has shown them these alone (by channel dropout); without a `tile_step`."""
    tile_step: Annotated[float, Field(gt=0, le=1)] | None = None
    """Step between windows of the patch's size as a share of it, above 0 and at most 1, laid as nnU-Net lays them;
    smaller is slower. Without it windows are fitted to the brain."""

    @model_validator(mode="after")
    def _are_unsure_somewhere(self) -> "InferenceSettings":
        if self.fewer_sequences and self.tile_step is not None:
            raise ValueError("fewer_sequences: found true beside a tile_step; leave one of them out")
        return self
