"""An easy and a hard view of one unlabelled patch, voxel on voxel."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from cmb_autoseg.trainers.patches.augmentation import ChannelDropout, Flip, Intensity, SpatialWarp
from cmb_autoseg.trainers.patches.loader import PatchLoader

__all__ = ["TwoViews", "ViewLoader"]


@dataclass(frozen=True)
class TwoViews:
    """One geometry for both views; noise, contrast and blank sequences for the hard one alone.

    Only what leaves every voxel at its place may tell the views apart, since voxels teach voxels.
    """

    warp: SpatialWarp
    flip: Flip
    intensity: Intensity
    dropout: ChannelDropout

    def __call__(
        self,
        rng: np.random.Generator,
        image: Tensor,
        label: Tensor,  # noqa: ARG002 - an unlabelled patch has none worth looking at
        patch_shape: Sequence[int],
        grid: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """The easy and the hard view, both (channel, z, y, x); arguments as of `Augmentation`."""
        present = image.flatten(1).any(dim=1).numpy()
        if grid is not None:
            image = self.warp.apply(image, grid)
        assert tuple(image.shape[1:]) == tuple(patch_shape)
        easy = self.flip.apply(image, self.flip.draw(rng))
        hard = self.intensity.apply(easy, self.intensity.draw(rng, easy.shape[0]))
        return easy, self.dropout.apply(hard, self.dropout.draw(rng, present))


class ViewLoader(PatchLoader):
    """Endless batches `{"easy": (batch, channel, z, y, x), "hard": the same shape}` of unlabelled cases."""

    def __next__(self) -> dict[str, Tensor]:
        views = super().__next__()
        return {"easy": views["data"], "hard": views["target"]}
