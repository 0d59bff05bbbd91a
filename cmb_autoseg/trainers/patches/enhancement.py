"""Feature enhancement of a 3D segmenter while it learns: at the patch's own lesions, and never in prediction."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from cmb_autoseg.errors import InputError
from cmb_autoseg.networks.feature_enhancement import enhance, enhancement_mask
from cmb_autoseg.records import SUSCEPTIBILITY_ROLES, Role
from cmb_autoseg.trainers.recipe import FeatureEnhancementSettings

__all__ = ["FeatureEnhancement", "enhanced_stage", "lesion_boxes"]

BRIGHT_LESIONS = frozenset({Role.QSM})
"""Sequences in which microbleeds are bright; they are negated."""


def enhanced_stage(settings: FeatureEnhancementSettings, stages: Sequence[nn.Module]) -> nn.Module:
    """The stage of the encoder whose features are enhanced.

    Raises:
        InputError: the network has no such level.
    """
    if settings.level >= len(stages):
        raise InputError(
            f"network.feature_enhancement.level: found {settings.level}, but the network has levels 0 to "
            f"{len(stages) - 1}; name one of them"
        )
    return stages[settings.level]


class FeatureEnhancement:
    """Enhances one stage's features of labelled patches.

    It hangs on the stage only as long as `of` lasts: the network's state, what is stored of it, and whatever else goes
    through it are those of the plain network.

    Args:
        settings: of the recipe.
        stage: of the encoder; its output is (b, c, z', y', x').
        roles: of the channels.
    """

    def __init__(self, settings: FeatureEnhancementSettings, stage: nn.Module, roles: Sequence[Role]) -> None:
        self.beta, self.stage = settings.beta, stage
        self.channels = [(roles.index(role), role in BRIGHT_LESIONS) for role in SUSCEPTIBILITY_ROLES if role in roles]
        """Channels in which microbleeds show, and whether they are bright there; the first that a patch has counts."""

    @contextmanager
    def of(self, images: Tensor, labels: Tensor) -> Iterator[None]:
        """Enhance what goes through the stage meanwhile.

        Args:
            images: (b, channel, z, y, x), z-scored, 0 outside the brain and in sequences that a patch has not.
            labels: (b, 1, z, y, x), over 0 in lesions.
        """
        mask = self.mask(images, labels)
        handle = self.stage.register_forward_hook(lambda _module, _input, features: enhance(features, mask))
        try:
            yield
        finally:
            handle.remove()

    def mask(self, images: Tensor, labels: Tensor) -> Tensor:
        """How much each voxel is enhanced, (b, 1, z, y, x); 0 outside the brain. Arguments as of `of`."""
        chosen = torch.stack([self._dark_lesions(patch) for patch in images])
        # A z-score has no zero of its own: the darkest voxel of the patch becomes it.
        grey = chosen - chosen.flatten(1).amin(dim=1)[:, None, None, None]
        boxes = [lesion_boxes(label[0].cpu().numpy() > 0).to(images.device) for label in labels]
        return enhancement_mask(grey, boxes, self.beta) * (chosen != 0)[:, None]

    def _dark_lesions(self, patch: Tensor) -> Tensor:
        """The first sequence that the patch has, with microbleeds dark; all 0 where it has none."""
        for channel, bright in self.channels:
            if patch[channel].any():
                return -patch[channel] if bright else patch[channel]
        return torch.zeros_like(patch[0])


def lesion_boxes(mask: NDArray[np.bool_]) -> Tensor:
    """The tight boxes of a mask's 26-connected components.

    Args:
        mask: (z, y, x).

    Returns:
        (n, 6) float32: x, y, z of the lowest corner, then of the highest, in voxels whose faces are whole numbers.
    """
    components, _ = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    found = [
        [*(side.start for side in sides[::-1]), *(side.stop for side in sides[::-1])]
        for sides in ndimage.find_objects(components)
    ]
    return torch.tensor(found, dtype=torch.float32).reshape(-1, 6)
