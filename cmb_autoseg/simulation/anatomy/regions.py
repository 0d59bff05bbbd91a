"""Division of the brain by the Microbleed Anatomical Rating Scale: lobar, deep, infratentorial."""

import torch
from torch import Tensor

__all__ = ["division"]


def division(brain: Tensor, nuclei: Tensor, mni_mm: Tensor, below: Tensor | None = None) -> Tensor:
    """uint8 of the brain's shape: 3 below the tentorium, 2 central nuclei and capsules, 1 lobes, 0 elsewhere.

    Args:
        brain: share 0..1, shape (i, j, k).
        nuclei: share 0..1 of deep nuclei, shape (i, j, k).
        mni_mm: position in the average head, shape (3, i, j, k).
        below: where brainstem and cerebellum are labelled, bool of the brain's shape; None: by position.
    """
    x, y, z = mni_mm[0].abs(), mni_mm[1], mni_mm[2]
    if below is None:
        # Fitted to the infratentorial parts of a MARS map of MNI152 (v-sundaresan/microbleed-size-counting).
        cerebellum = (y < -34) & (z < -8 - 0.4 * x + 0.2 * (y + 60))
        below = cerebellum | (x < 18) & (y > -45) & (y < -12) & (z < -8)
    capsules = ((x / 31) ** 2 + ((y + 4) / 27) ** 2 + ((z - 5) / 18) ** 2) < 1
    deep = (nuclei > 0.5) | capsules
    region = 1 + deep.to(torch.uint8)
    region[below] = 3
    region[brain <= 0.5] = 0
    return region
