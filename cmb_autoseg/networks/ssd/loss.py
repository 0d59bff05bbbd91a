"""The loss of a single-shot detector (Liu et al. 2016, section 2.2) with hard negatives of the whole batch."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from cmb_autoseg.networks.ssd.matching import match, places_of

__all__ = ["detection_loss"]

NEGATIVES_PER_POSITIVE = 3
LEAST_NEGATIVES = 3
"""A picture, so that a batch without any microbleed teaches something as well."""


def detection_loss(logits: Tensor, places: Tensor, anchors: Tensor, truths: Sequence[Tensor]) -> Tensor:
    """Cross-entropy of anchors with a box and of the hardest without, and smooth L1 of the boxes' places; a box's mean.

    The published code takes three hard negatives for each positive of the same picture, and so none of a
    picture without microbleeds; here they are the hardest of the batch, wherever they are, since it is
    lesion-free slices in which false positives show.

    Args:
        logits: (b, n, 2), background and microbleed.
        places: (b, n, 4), see `places_of`.
        anchors: (n, 4) pixels.
        truths: for each picture (m, 4), boxes in pixels.

    Returns:
        Scalar.
    """
    held = torch.stack([match(anchors, truth) for truth in truths])
    positive = held >= 0
    entropy = functional.cross_entropy(logits.float().flatten(0, 1), positive.long().flatten(), reduction="none")
    entropy = entropy.view_as(positive)
    n_positive = int(positive.sum())
    n_negative = min(max(NEGATIVES_PER_POSITIVE * n_positive, LEAST_NEGATIVES * len(truths)), int((~positive).sum()))
    hardest = entropy.detach().masked_fill(positive, -1).flatten().topk(n_negative).indices
    total = entropy[positive].sum() + entropy.flatten()[hardest].sum()
    for own, at, said, truth in zip(held, positive, places, truths, strict=True):
        if bool(at.any()):
            wanted = places_of(truth[own[at]], anchors[at])
            total = total + functional.smooth_l1_loss(said[at].float(), wanted, reduction="sum")
    return total / max(1, n_positive)
