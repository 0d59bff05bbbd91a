"""Which voxels of an unlabelled patch teach, so that background does not swamp a lesion of a few voxels."""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["BACKGROUND_FLOOR", "TeachingVoxels", "teaching_voxels"]

BACKGROUND_FLOOR = 64
"""Background voxels that a patch without confident microbleed voxels teaches at most: a cube of 4 voxels."""


@dataclass(frozen=True)
class TeachingVoxels:
    """What is taught where; both of shape (batch, z, y, x)."""

    target: Tensor
    """1 for microbleed and 0 for background, float."""
    mask: Tensor
    """The voxels that teach, bool."""


def teaching_voxels(
    probability: Tensor, confidence: float, background_ratio: float, floor: int = BACKGROUND_FLOOR
) -> TeachingVoxels:
    """The voxels of a patch of which the teacher is sure, the background thinned out.

    FixMatch (Sohn et al. 2020, equation 4) takes every sample above a confidence. Of voxels nearly all are
    background of which the teacher is sure, so that "nothing anywhere" would be all that is taught. Here
    each microbleed voxel brings `background_ratio` background voxels with it, the least certain first, and
    a patch without any brings `floor`.

    Args:
        probability: of a microbleed, (batch, z, y, x).
        confidence: microbleed from this probability on, background from 1 minus this down.
        background_ratio: background voxels for each microbleed voxel of the same patch.
        floor: background voxels of a patch at least, where there are so many.
    """
    flat = probability.flatten(1)
    lesion, background = flat >= confidence, flat <= 1 - confidence
    wanted = (lesion.sum(dim=1) * background_ratio).long().clamp(min=floor)
    # -1 sorts voxels that are no background behind all that are.
    ranked = torch.where(background, flat, torch.full_like(flat, -1)).argsort(dim=1, descending=True, stable=True)
    first = torch.arange(flat.shape[1], device=flat.device) < wanted[:, None]
    chosen = torch.zeros_like(background).scatter_(1, ranked, first) & background
    mask = (lesion | chosen).reshape(probability.shape)
    return TeachingVoxels(lesion.reshape(probability.shape).float(), mask)
