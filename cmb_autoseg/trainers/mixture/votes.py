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
    # Lesions fill little of a map: all that takes much memory a voxel is of theirs alone.
    voted, votes = _voted([own for own, _ in voters], [weight for _, weight in voters], counted)
    mean = np.sum([weight * own[voted].astype(np.float64) for own, weight in voters], axis=0)
    shares = _possible_shares([weight for _, weight in voters])
    band = np.searchsorted(shares, votes - TIE)
    low = np.where(band > 0, shares[np.maximum(band - 1, 0)], 0.0)
    result = np.zeros(maps[0].shape, dtype=np.float32)
    for own, weight in voters:
        result += np.float32(UNVOTED_SHARE / counted * weight) * own
    # Where nobody has a lesion, every probability and so their mean is below `counted`, but for rounding.
    np.minimum(result, np.float32(UNVOTED_SHARE), out=result)
    result[voted] = UNVOTED_SHARE + (1 - UNVOTED_SHARE) * (low + (shares[band] - low) * np.minimum(mean, 1))
    return result


def lesion_votes(maps: Sequence[NDArray[np.float32]], weights: Sequence[float], counted: float) -> NDArray[np.float64]:
    """(i, j, k): share of votes at each voxel, 0 where no member has a lesion; arguments as of `vote_map`."""
    result: NDArray[np.float64] = np.zeros(maps[0].shape)
    voted, votes = _voted(maps, weights, counted)
    result[voted] = votes
    return result


def _voted(
    maps: Sequence[NDArray[np.float32]], weights: Sequence[float], counted: float
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Where any member has a lesion, (i, j, k), and the share of votes at each of these voxels, (n,)."""
    voted = np.zeros(maps[0].shape, dtype=bool)
    for own in maps:
        voted |= own >= counted
    labels = [label_components(own >= counted)[voted] for own in maps]
    votes = np.zeros(np.count_nonzero(voted))
    for lesions in labels:
        share = np.zeros(int(lesions.max(initial=0)) + 1)
        for others, weight in zip(labels, weights, strict=True):
            share[np.unique(lesions[(lesions > 0) & (others > 0)])] += weight
        votes = np.maximum(votes, share[lesions])
    return voted, votes


def _possible_shares(weights: Sequence[float]) -> NDArray[np.float64]:
    """Every sum that some of the weights can have, 0 left out, rising."""
    sums = np.zeros(1)
    for weight in weights:
        sums = np.concatenate([sums, sums + weight])
    rising = np.sort(sums[sums > 0])
    shares: NDArray[np.float64] = rising[np.append(np.diff(rising) > TIE, True)]
    return shares
