"""A plain 3D classifier of the cube about a candidate, for comparison with the detector on slices."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

__all__ = ["CandidateClassifier"]


class ConvBlock(nn.Sequential):
    """Convolution, batch normalization, ReLU."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__(nn.Conv3d(n_in, n_out, 3, stride, 1, bias=False), nn.BatchNorm3d(n_out), nn.ReLU(inplace=True))


class CandidateClassifier(nn.Module):
    """Two convolutions a level, the first with stride 2; mean over the cube; one logit.

    Args:
        input_channels: sequences.
        features: of each level, finest first.
    """

    def __init__(self, input_channels: int, features: Sequence[int]) -> None:
        super().__init__()
        widths = (input_channels, *features)
        self.levels = nn.Sequential(
            *(nn.Sequential(ConvBlock(n_in, n_out, 2), ConvBlock(n_out, n_out, 1)) for n_in, n_out in pairwise(widths))
        )
        self.head = nn.Linear(features[-1], 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, sequence, z, y, x) to the logit of a microbleed in the middle, (batch,)."""
        logits: Tensor = self.head(self.levels(x).mean(dim=(2, 3, 4)))
        return logits[:, 0]
