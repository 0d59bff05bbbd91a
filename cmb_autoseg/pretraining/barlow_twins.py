"""Barlow Twins: two views of one thing are to correlate feature by feature, and features not with each other.

Zbontar, Jing, Misra, LeCun and Deny, "Barlow Twins: Self-Supervised Learning via Redundancy Reduction", ICML 2021.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["BarlowTwinsTerms", "Projector", "barlow_twins_loss", "cross_correlation"]

SMALLEST_VARIANCE = 1e-12
"""Of a feature that is taken for one that varies; a constant one correlates with nothing."""


@dataclass(frozen=True)
class BarlowTwinsTerms:
    """The loss and what it is made of; the latter two without gradient."""

    loss: Tensor
    on_diagonal: Tensor
    """Mean of the cross-correlation's diagonal, at best 1."""
    off_diagonal: Tensor
    """Root mean square of its other entries, at best 0."""


def cross_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Correlation of every feature of one view with every feature of the other, over the batch (eq. 2).

    The standard deviations are the biased ones (divided by n, not n - 1), so that a feature which is the same in both
    views has correlation 1 exactly; with the unbiased ones it would have 1 - 1/n.

    Args:
        first: (sample, feature).
        second: the same samples in the other view.

    Returns:
        (feature of `first`, feature of `second`), from -1 to 1.
    """
    return _standardized(first).T @ _standardized(second) / first.shape[0]


def _standardized(embedding: Tensor) -> Tensor:
    """Zero mean and unit biased standard deviation of each feature."""
    centred = embedding - embedding.mean(dim=0)
    return centred / centred.square().mean(dim=0).clamp_min(SMALLEST_VARIANCE).sqrt()


def barlow_twins_loss(first: Tensor, second: Tensor, redundancy_weight: float) -> BarlowTwinsTerms:
    """Squared distance of the cross-correlation from the identity (eq. 1).

    Args:
        first: (sample, feature), projected.
        second: the same samples in the other view.
        redundancy_weight: of the off-diagonal entries, lambda in the paper.

    Raises:
        ValueError: the views differ in shape, or hold fewer than two samples.
    """
    if first.shape != second.shape or first.ndim != 2 or first.shape[0] < 2:
        raise ValueError(
            f"views of shapes {tuple(first.shape)} and {tuple(second.shape)}; "
            "both must be (sample, feature) alike with at least two samples"
        )
    correlation = cross_correlation(first, second)
    n_features = correlation.shape[0]
    diagonal = correlation.diagonal()
    others = correlation.masked_fill(torch.eye(n_features, dtype=torch.bool, device=correlation.device), 0)
    redundancy = others.square().sum()
    loss = (1 - diagonal).square().sum() + redundancy_weight * redundancy
    entries = max(n_features * (n_features - 1), 1)
    return BarlowTwinsTerms(loss, diagonal.detach().mean(), (redundancy.detach() / entries).sqrt())


class Projector(nn.Sequential):
    """Linear layers with batch normalization and ReLU between them, as in the paper (section 3.2).

    It always normalizes by the batch: it is thrown away after pretraining, so running statistics serve nothing.

    Args:
        n_features: of the encoder.
        widths: of each layer; the last is the number of features that are correlated.
    """

    def __init__(self, n_features: int, widths: Sequence[int]) -> None:
        layers: list[nn.Module] = []
        for n_in, n_out in zip((n_features, *widths)[:-2], widths[:-1], strict=True):
            norm = nn.BatchNorm1d(n_out, track_running_stats=False)
            layers += [nn.Linear(n_in, n_out, bias=False), norm, nn.ReLU(inplace=True)]
        super().__init__(*layers, nn.Linear((n_features, *widths)[-2], widths[-1], bias=False))
