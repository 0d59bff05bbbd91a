"""How an encoder is pretrained: part of a recipe."""

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from cmb_autoseg.trainers.recipe.settings import Settings, Share

__all__ = ["BarlowTwinsSettings", "MaskingSettings", "PretrainingSettings"]


class BarlowTwinsSettings(Settings):
    """Barlow Twins (Zbontar et al. 2021): two views of one place are to correlate feature by feature."""

    projector: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (2048, 2048, 2048)
    """Width of each layer between the encoder and the loss; the last is the number of features that are correlated."""
    redundancy_weight: PositiveFloat = 0.005
    """Weight of the off-diagonal part of the cross-correlation, lambda in the paper. A narrow projector has fewer such
    entries for each one on the diagonal and needs more: about 10 divided by the width."""
    places: Literal["patch", "voxels", "both"] = "patch"
    """What is one sample: the mean of the deepest level over the patch, or single places of `voxel_level`, which
    teaches the levels up to that one only; `both` adds the two losses, each with a projector of its own."""
    voxel_level: Annotated[int, Field(ge=0)] = 1
    """With places, the encoder's level whose feature vectors are compared, 0 for the finest."""
    voxels_per_patch: PositiveInt = 16
    """With places, how many of a patch are compared, drawn anew for every patch."""


class MaskingSettings(Settings):
    """Masked autoencoding: blocks of the patch are blanked and have to be filled in."""

    ratio: Annotated[float, Field(gt=0, lt=1)] = 0.6
    """Share of blocks that are blanked, each sequence by itself."""
    block: PositiveInt = 8
    """Voxels along each side of a block; fewer along axes of fewer voxels."""


class PretrainingSettings(Settings):
    """How `cmb_pretrain` makes the recipe's encoder."""

    method: Literal["barlow_twins", "masked_autoencoding", "imagenet"]
    """What it learns from; `imagenet` learns nothing but inflates the 2D ResNet-18 weights of `--weights`."""
    epochs: PositiveInt = 100
    """Epochs; the learning rate falls to 0 at the last."""
    steps_per_epoch: PositiveInt = 250
    """Batches of an epoch."""
    batch_size: Annotated[int, Field(ge=2)] = 64
    """Patches, or pairs of views, of a step; over all processes."""
    micro_batch_size: PositiveInt | None = None
    """Patches that go through the encoder at a time; fewer take less memory and give the same. Without it: all."""
    learning_rate: PositiveFloat = 5e-4
    """At its height; Adam with a cosine decay."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-5
    """Of Adam."""
    warmup_steps: Annotated[int, Field(ge=0)] = 500
    """Steps over which the learning rate rises linearly to its full value."""
    brain: Share = 0.9
    """Share of patches around a voxel of the brain; the others lie anywhere."""
    channel_dropout: Share = 0.3
    """Chance of each sequence to be left out of a view; one in which microbleeds show always stays."""
    barlow_twins: BarlowTwinsSettings = BarlowTwinsSettings()
    masking: MaskingSettings = MaskingSettings()

    def what_decides(self) -> dict[str, Any]:
        """As plain types, without what changes memory and time but not what is learned."""
        return self.model_dump(mode="json", exclude={"micro_batch_size"})
