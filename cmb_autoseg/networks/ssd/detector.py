"""The single-shot detector (SSD, Liu et al. 2016) for one kind of object in grey pictures of several channels."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torchvision.models.detection.ssd import SSDHead

from cmb_autoseg.networks.feature_enhancement import enhance
from cmb_autoseg.networks.ssd.anchors import AnchorKind, anchor_boxes, anchors_per_place
from cmb_autoseg.networks.ssd.backbones import BACKBONES, BackboneName
from cmb_autoseg.networks.ssd.layers import ChannelNorm, extra_maps

__all__ = ["SSDOptions", "SingleShotDetector"]

GREY_MEAN, GREY_DEVIATION = 0.449, 0.226
"""Of ImageNet's pictures, over their colors: what files of weights have learned from."""
N_CLASSES = 2
"""Background and microbleed."""
BACKGROUND_LOGIT = 4.0
"""First logit of background over microbleed: training need not begin by unlearning 200,000 microbleeds."""


@dataclass(frozen=True)
class SSDOptions:
    """What the network is made of.

    Attributes:
        channels: of the picture.
        size: rows and columns of the picture.
        backbone: which.
        width: share of the published number of channels in every layer.
        batch_norm: batch normalization behind each convolution of VGG-16; the other backbones always have it.
        anchors: which set.
    """

    channels: int
    size: Literal[300, 512] = 512
    backbone: BackboneName = "vgg16"
    width: float = 1.0
    batch_norm: bool = False
    anchors: AnchorKind = "small"


class SingleShotDetector(nn.Module):
    """Maps of a picture from fine to coarse; on each of them heads say what every anchor holds."""

    anchors: Tensor
    """(n, 4) pixels, see `anchor_boxes`; made anew, not stored."""

    def __init__(self, options: SSDOptions) -> None:
        super().__init__()
        self.options = options
        backbone = BACKBONES[options.backbone](options.channels, options.width, options.batch_norm)
        last = backbone.channels[-1]
        extras, extra_channels = extra_maps(options.size, last, options.width, skip=backbone.coarser)
        self.pretrained = backbone.pretrained
        self.maps = nn.ModuleList([*backbone.maps, *extras])
        # Features of conv4_3 are far larger than those of deeper layers where nothing normalizes them.
        self.first_norm = ChannelNorm(backbone.channels[0]) if options.backbone == "vgg16" else nn.Identity()
        per_place = anchors_per_place(options.size, options.anchors)
        self.head: nn.Module = SSDHead([*backbone.channels, *extra_channels], per_place, N_CLASSES)
        self._initialize(extras)
        self.register_buffer("anchors", anchor_boxes(options.size, options.anchors), persistent=False)

    def forward(self, pictures: Tensor, enhancement: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What every anchor holds.

        Args:
            pictures: (b, channels, size, size), grey values from 0 to 1.
            enhancement: (b, 1, size, size) of `enhancement_mask`, in training alone: the first map's features are
                strengthened before all that follows, normalization and the next layers alike.

        Returns:
            Logits (b, n, 2) of background and microbleed, and places (b, n, 4) relative to the anchors, see `decode`.

        Raises:
            ValueError: pictures of another size, or an enhancement in evaluation.
        """
        size = self.options.size
        if pictures.shape[-2:] != (size, size):
            raise ValueError(f"pictures of {tuple(pictures.shape[-2:])}, the network has {size} x {size}")
        if enhancement is not None and not self.training:
            raise ValueError("features are enhanced in training alone; evaluation knows no true boxes")
        said: dict[str, Tensor] = self.head(self.features(pictures, enhancement))
        return said["cls_logits"], said["bbox_regression"]

    def features(self, pictures: Tensor, enhancement: Tensor | None = None) -> list[Tensor]:
        """The maps that the heads see, finest first; arguments as of `forward`."""
        features = self.maps[0]((pictures - GREY_MEAN) / GREY_DEVIATION)
        if enhancement is not None:
            features = enhance(features, enhancement)
        # The maps behind it rectify in place.
        seen = [self.first_norm(features)]
        for layers in self.maps[1:]:
            features = layers(features)
            seen.append(features)
        return seen

    def _initialize(self, extras: list[nn.Module]) -> None:
        """He's draws (2015) for layers with ReLU; torchvision has set ResNet's, MobileNet's and the heads'."""
        own = self.maps if self.options.backbone == "vgg16" else nn.ModuleList(extras)
        for module in own.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for layer in self.head.classification_head.module_list:  # type: ignore[union-attr]
            bias = layer.bias.data.view(-1, N_CLASSES)
            bias[:, 0] = BACKGROUND_LOGIT
