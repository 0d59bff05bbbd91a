"""Parts of a recipe that finds boxes in axial slices."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from cmb_autoseg.trainers.recipe.settings import Settings, Share
from cmb_autoseg.trainers.recipe.slices import Fit, Normalization, SliceAugmentationSettings

__all__ = ["BoxPictureSettings", "BoxSettings", "LinkSettings"]


class BoxPictureSettings(Settings):
    """How the axial slices of a prepared scan become the detector's pictures, whose size is `boxes.size`."""

    fit: Fit = "pad"
    """How a slice that is not square becomes so: filled up to its longer side with 0, or cut to its shorter side about
    the brain, or to the brain where that is longer."""
    normalization: Normalization = "min_max"
    """Of each scan's grey values, to 0-1: the smallest to 0 and the largest to 1, or the white-matter peak of the
    histogram to one place and its thin tail cut off."""
    neighbors: Annotated[int, Field(ge=0)] = 0
    """Slices on either side that are seen with the one in which boxes are found."""


class LinkSettings(Settings):
    """How boxes of neighboring slices become one lesion."""

    min_iou: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Least overlap of two boxes, as intersection over union, that makes them one lesion."""
    max_gap: Annotated[int, Field(ge=0)] = 1
    """Slices without a box that a lesion may skip."""
    min_score_ratio: Share = 0.2
    """Least ratio of the lower to the higher score of two boxes that are linked, so that no faint box draws a clear
    microbleed out."""


class BoxSettings(Settings):
    """A single-shot detector (SSD, Liu et al. 2016) on axial slices."""

    size: Literal[300, 512] = 512
    """Rows and columns of the picture; it also decides how many maps there are."""
    backbone: Literal["vgg16", "resnet34", "mobilenet"] = "vgg16"
    """The network whose features are looked at: VGG-16 as published, ResNet-34 or MobileNetV2."""
    width: Annotated[float, Field(ge=0.01, le=1)] = 1.0
    """Share of the published number of channels in every layer; below 1 it is a reduced variant."""
    batch_norm: bool = True
    """Batch normalization in VGG-16, which the publication's has not: from random weights it learns faster with it.
    ResNet-34 and MobileNet always have it, and no `false` here."""
    weights: str | None = None
    """File of ImageNet weights for the backbone, as torchvision stores them. Without it: random weights."""
    anchors: Literal["small", "published"] = "small"
    """Boxes that the detector starts from: `small` fit microbleeds; `published` are SSD's, far larger."""
    least_box_pixels: Annotated[float, Field(ge=0)] = 6.0
    """Smaller sides of true boxes are widened to this in training: no anchor meets a dot of two pixels."""
    feature_enhancement: bool = False
    """Strengthen features inside true boxes while training (never in prediction)."""
    enhancement_beta: PositiveFloat = 1.5
    """Factor of a box's mean grey value up to which its pixels are enhanced."""
    pictures: BoxPictureSettings = BoxPictureSettings()
    augmentation: SliceAugmentationSettings = SliceAugmentationSettings()
    positive_share: Share | None = 0.75
    """Share of slices with a microbleed in training. Without it: every slice has the same chance."""
    min_score: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """Boxes below this score are dropped."""
    nms_iou: Annotated[float, Field(gt=0, lt=1)] = 0.45
    """Of two boxes that overlap more, the one with the lower score is dropped."""
    boxes_per_slice: PositiveInt = 100
    """Most that stay."""
    linking: LinkSettings = LinkSettings()

    @model_validator(mode="after")
    def _fits_the_backbone(self) -> "BoxSettings":
        if not self.batch_norm and self.backbone != "vgg16":
            raise ValueError(f"batch_norm: found false, but {self.backbone} always has it; leave it out")
        return self
