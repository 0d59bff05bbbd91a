"""Parts of a recipe whose network sees axial slices."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from cmb_autoseg.trainers.recipe.settings import FactorRange, Settings, Share

__all__ = ["Fit", "Normalization", "PictureSettings", "SliceAugmentationSettings", "SliceSettings"]

Fit = Literal["crop", "pad"]
Normalization = Literal["white_matter_peak", "min_max"]

LEAST_BOTTLENECK_PIXELS = 2
"""Batch normalization of a batch of one picture has nothing to normalize over at a single pixel."""


class PictureSettings(Settings):
    """How the axial slices of a prepared scan become the network's pictures."""

    size: tuple[PositiveInt, PositiveInt] = (384, 384)
    """Rows and columns."""
    fit: Fit = "crop"
    """How a slice that is not square becomes so: cut to its shorter side about the brain, or to the brain where that is
    longer, or filled up to the longer one with 0."""
    normalization: Normalization = "min_max"
    """Of each scan's grey values, to 0-1: the white-matter peak of the histogram to one place and its thin tail cut
    off, or the smallest to 0 and the largest to 1."""
    neighbors: Annotated[int, Field(ge=0)] = 0
    """Slices on either side that are seen with the one that is segmented."""


class SliceAugmentationSettings(Settings):
    """Random changes of training pictures; what is left out changes nothing."""

    flip: tuple[Literal["coronal", "sagittal"], ...] = ()
    """Planes across which a picture is mirrored, each with a chance of one half: `sagittal` swaps left and right,
    `coronal` front and back."""
    warp_probability: Share = 1.0
    """Share of pictures that are rotated, shifted and zoomed, all three together."""
    rotation_degrees: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Largest, either way."""
    translation_pixels: Annotated[float, Field(ge=0)] = 0.0
    """Largest, along either axis."""
    zoom: FactorRange = (1.0, 1.0)
    """Smallest and largest factor of size."""
    intensity_probability: Share = 0.5
    """Chance of grey values to change, and, drawn by itself, of a blur."""
    intensity: FactorRange = (1.0, 1.0)
    """Smallest and largest factor of grey values, drawn for each sequence."""
    blur_pixels: Annotated[float, Field(ge=0)] = 0.0
    """Largest standard deviation of a Gaussian blur."""
    channel_dropout: Share = 0.3
    """Chance of each sequence to be blanked; one in which microbleeds show always stays."""


class SliceSettings(Settings):
    """A network that segments axial slices one by one."""

    network: Literal["residual25d", "unet2d"]
    """`residual25d` after the 2.5D system of 28 layers, `unet2d` the plain 2D U-Net with leaky ReLU."""
    features: Annotated[tuple[PositiveInt, ...], Field(min_length=2)]
    """Filters of each level, finest first."""
    pictures: PictureSettings = PictureSettings()
    augmentation: SliceAugmentationSettings = SliceAugmentationSettings()
    positive_share: Share | None = None
    """Share of slices with a microbleed in training. Without it: every slice has the same chance."""
    lesion_diameter_mm: FactorRange | None = None
    """Microbleeds smaller or larger than this are neither targets of training nor background. Without it: all are
    targets."""
    positive_weight: PositiveFloat = 1.0
    """How much more a microbleed's pixel counts in the cross-entropy than another."""

    @model_validator(mode="after")
    def _levels_fit(self) -> "SliceSettings":
        divisor = 2 ** (len(self.features) - 1)
        least = LEAST_BOTTLENECK_PIXELS * divisor
        if any(side % divisor or side < least for side in self.pictures.size):
            raise ValueError(
                f"pictures.size: found {list(self.pictures.size)}; {len(self.features)} levels of features halve the "
                f"picture {len(self.features) - 1} times, so that both numbers have to be multiples of {divisor}, "
                f"{least} or more"
            )
        return self
