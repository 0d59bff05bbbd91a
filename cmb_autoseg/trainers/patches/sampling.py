"""Where training patches are drawn: per lesion, in the brain, anywhere.

nnU-Net draws a case first and then one of its foreground voxels, so that lesion-free cases dilute
and large lesions dominate. Here every lesion of the training set has the same chance.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["CaseAnchors", "PatchDraw", "PatchSampler", "PatchShares"]


@dataclass(frozen=True)
class PatchShares:
    """Shares of patches around a lesion, around a brain voxel and anywhere in the volume; they sum to 1."""

    lesion: float = 0.60
    brain: float = 0.25
    anywhere: float = 0.15


@dataclass(frozen=True)
class CaseAnchors:
    """Voxels of one preprocessed case around which patches may lie; all in (z, y, x) indices."""

    name: str
    shape: tuple[int, int, int]
    lesions: Sequence[NDArray[np.integer]]
    """One array of shape (voxels, 3) a lesion."""
    brain: NDArray[np.integer]
    """A sample of brain voxels, shape (voxels, 3)."""


@dataclass(frozen=True)
class PatchDraw:
    """A patch of one case: its first voxel (z, y, x), which may lie outside the volume."""

    case: str
    start: tuple[int, int, int]
    kind: str


class PatchSampler:
    """Draws patches of one shape from a set of cases.

    A patch around an anchor is jittered: the anchor is equally likely at any place of the patch
    but its outer eighth, because centred crops teach a network that lesions are central.
    """

    def __init__(self, cases: Sequence[CaseAnchors], patch_shape: Sequence[int], shares: PatchShares) -> None:
        if not cases:
            raise ValueError("no case to draw patches from")
        self.cases = list(cases)
        self.patch_shape = np.array(patch_shape)
        self.shares = shares
        self.lesions = [(index, lesion) for index, case in enumerate(cases) for lesion in case.lesions]

    def draw(self, rng: np.random.Generator) -> PatchDraw:
        """Choose the kind by the shares, then the anchor, then the jitter."""
        kind = str(rng.choice(("lesion", "brain", "anywhere"), p=self._shares_there_are()))
        if kind == "lesion":
            index, voxels = self.lesions[rng.integers(len(self.lesions))]
            case, anchor = self.cases[index], voxels[rng.integers(len(voxels))]
        else:
            case = self.cases[rng.integers(len(self.cases))]
            if kind == "brain" and len(case.brain):
                anchor = case.brain[rng.integers(len(case.brain))]
            else:
                anchor = rng.integers(case.shape)
        margin = self.patch_shape // 8
        place = rng.integers(margin, self.patch_shape - margin)
        z, y, x = (int(v) for v in self._kept_inside(np.asarray(anchor) - place, case.shape))
        return PatchDraw(case.name, (z, y, x), kind)

    def _shares_there_are(self) -> NDArray[np.float64]:
        shares = np.array([self.shares.lesion if self.lesions else 0.0, self.shares.brain, self.shares.anywhere])
        if shares.sum() == 0:
            shares[2] = 1.0
        return np.asarray(shares / shares.sum())

    def _kept_inside(self, start: NDArray[np.integer], shape: tuple[int, int, int]) -> NDArray[np.integer]:
        """Shift the patch into the volume; centre it along axes where the volume is smaller."""
        room = np.array(shape) - self.patch_shape
        return np.asarray(np.where(room > 0, np.clip(start, 0, np.maximum(room, 0)), room // 2))
