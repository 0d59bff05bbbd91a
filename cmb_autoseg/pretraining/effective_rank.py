"""How many directions an embedding really uses; a collapsed one uses one."""

import torch
from torch import Tensor

__all__ = ["effective_rank"]


def effective_rank(embedding: Tensor) -> float:
    """Exponential of the entropy of the singular values, as shares of their sum (Roy and Vetterli 2007, eq. 4).

    The embedding is centred first: a mean that all samples share tells nothing of any of them.

    Args:
        embedding: (sample, feature).

    Returns:
        From 1 to the smaller of features and samples - 1; 0 where all samples are the same.
    """
    centred = embedding.double() - embedding.double().mean(dim=0)
    values = torch.linalg.svdvals(centred)
    # What rounding leaves of a constant feature is no direction.
    largest = embedding.double().abs().max()
    values = values[values > 1e-6 * largest]
    if not len(values):
        return 0.0
    shares = values / values.sum()
    return float(torch.exp(-(shares * shares.log()).sum()))
