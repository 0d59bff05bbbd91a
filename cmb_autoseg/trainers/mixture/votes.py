"""Votes of several models for each lesion, component by component."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.lesions.components import label_components

__all__ = ["UNVOTED_SHARE", "lesion_votes", "vote_map"]

UNVOTED_SHARE = 0.5
"""Part of the scale for places where no member has a lesion: they stay in order for curves and sensitive thresholds."""
TIE = 1e-9
"""Shares that differ by less are one."""


def vote_map(maps: Sequence[NDArray[np.float32]], weights: Sequence[float], counted: float) -> NDArray[np.float32]:
    """The weighted share of members that have a lesion, at each of its voxels.

    A member's lesions are the 26-connected components of its map at `counted`; a member has another one's lesion if one
    of its own shares a voxel with it. A voxel in several members' lesions takes the largest share. The scale from 0.5
    to 1 is cut into bands, one for each share that these weights can give, so that more votes always win; within
    a band the members' weighted mean probability decides, and below 0.5 it decides alone.

    Args:
        maps: (i, j, k), one a member, all in line.
        weights: one a member, not negative, sum 1; a member of weight 0 has no vote.
        counted: probability at which the lesions of all maps begin.

    Returns:
        (i, j, k), 0..1.
    """
    voters = [(own, weight) for own, weight in zip(maps, weights, strict=True) if weight > 0]
    votes = lesion_votes([own for own, _ in voters], [weight for _, weight in voters], counted)
    mean = np.zeros(maps[0].shape, dtype=np.float64)
    for own, weight in voters:
        mean += weight * own
    shares = _possible_shares([weight for _, weight in voters])
    band = np.searchsorted(shares, votes - TIE)
    low = np.where(band > 0, shares[np.maximum(band - 1, 0)], 0.0)
    voted = UNVOTED_SHARE + (1 - UNVOTED_SHARE) * (low + (shares[band] - low) * np.minimum(mean, 1))
    # Where nobody has a lesion, every probability and so their mean is below `counted`.
    return np.where(votes > 0, voted, UNVOTED_SHARE / counted * mean).astype(np.float32)


def lesion_votes(maps: Sequence[NDArray[np.float32]], weights: Sequence[float], counted: float) -> NDArray[np.float64]:
    """(i, j, k): share of votes at each voxel, 0 where no member has a lesion; arguments as of `vote_map`."""
    labels = [label_components(own >= counted) for own in maps]
    votes: NDArray[np.float64] = np.zeros(maps[0].shape)
    for lesions in labels:
        share = np.zeros(int(lesions.max()) + 1)
        for others, weight in zip(labels, weights, strict=True):
            share[np.unique(lesions[(lesions > 0) & (others > 0)])] += weight
        votes = np.asarray(np.maximum(votes, share[lesions]), dtype=np.float64)
    return votes


def _possible_shares(weights: Sequence[float]) -> NDArray[np.float64]:
    """Every sum that some of the weights can have, 0 left out, rising."""
    sums = np.zeros(1)
    for weight in weights:
        sums = np.concatenate([sums, sums + weight])
    rising = np.sort(sums[sums > 0])
    shares: NDArray[np.float64] = rising[np.append(np.diff(rising) > TIE, True)]
    return shares
