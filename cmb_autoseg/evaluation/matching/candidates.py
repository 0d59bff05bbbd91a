"""From a probability map to candidates with a confidence each, for curves over all thresholds.

A candidate is a peak of the map and what surrounds it down to half of its own height: it is told apart from a higher
peak when the map falls below that half on every way to it. So a hesitant lesion has an extent of its own, two
neighbours stay two though they touch at a low threshold, and the noise in a lesion's halo is no candidate. Peaks whose
map falls by a factor of two on every way to a higher one are the h-maxima of its logarithm, with h = log 2 (Soille
2003, Morphological Image Analysis, chapter 6.3.5). Extents relative to the peak: Bosma et al. 2023, Radiology:
Artificial Intelligence 5:e230031.

Voxels are ranked by value. Each climbs to its highest neighbour until it stands on a peak, and the peaks are joined
over the highest passes between them, from the highest pass on. So the work grows with the voxels above the floor,
however many peaks they hold.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import minimum_spanning_tree

from cmb_autoseg.evaluation.matching.lesion_set import LesionSet
from cmb_autoseg.evaluation.matching.protocols import LesionRule
from cmb_autoseg.geometry import Volume
from cmb_autoseg.lesions.components import NEIGHBOURS, Connectivity, components_of_labels

__all__ = ["CANDIDATE_FLOOR", "PEAK_SHARE", "find_candidates", "surest_from"]

CANDIDATE_FLOOR = 0.1
"""Voxels below it belong to no candidate."""
PEAK_SHARE = 0.5

Ranks = NDArray[np.int32]
"""Numbers of voxels by falling value, from 0; of equal ones, the one that comes first in the array is the first."""


def find_candidates(probability: Volume, rule: LesionRule, floor: float = CANDIDATE_FLOOR) -> LesionSet:
    """The candidates of one map, numbered by falling size; their confidence is the probability of their peak.

    Args:
        probability: 0..1.
        rule: which voxels belong together; sizes are not looked at.
        floor: voxels below it belong to no candidate.
    """
    labels = np.zeros(probability.shape, dtype=np.int32)
    places = np.flatnonzero(probability.data.ravel() >= floor)
    values = probability.data.ravel()[places]
    order = np.argsort(-values, kind="stable")
    voxels = _Ranked.of(places, order, probability.shape, rule.connectivity)
    falling = values[order]
    peaks = voxels.peaks()
    owners = _owners(falling, peaks, voxels.passes(falling, peaks))
    of_voxel = np.where(owners >= 0, owners, 0)
    kept = (owners >= 0) & (falling >= PEAK_SHARE * falling[of_voxel])
    found, number = np.unique(of_voxel[kept], return_inverse=True)
    labels.reshape(-1)[places[order[kept]]] = number + 1
    return LesionSet.of_components(components_of_labels(labels, len(found)), probability, probability.data)


def surest_from(probability: NDArray[np.floating], most: int) -> float:
    """A floor that leaves no more than the `most` surest voxels, and those that equal the last of them.

    It is never below `CANDIDATE_FLOOR`. With it the work stays bounded for a map that is high everywhere.
    """
    values = probability[probability >= CANDIDATE_FLOOR]
    return float(np.partition(values, -most)[-most]) if len(values) > most else CANDIDATE_FLOOR


@dataclass(frozen=True)
class _Ranked:
    """The voxels above the floor, each known by its rank."""

    ranks: Ranks
    """(n,): of the voxels in the order of the array."""
    places: NDArray[np.int64]
    """(n,): of the voxels in `table`, rising."""
    table: Ranks
    """Flat image with a border of one voxel; n where there is no voxel."""
    steps: tuple[int, ...]
    """From a voxel to half of its neighbours in `table`; the other half lies opposite."""

    @classmethod
    def of(
        cls, places: NDArray[np.intp], order: NDArray[np.intp], shape: tuple[int, ...], connectivity: Connectivity
    ) -> "_Ranked":
        """Rank voxels.

        Args:
            places: (n,), flat indices in the image, rising.
            order: (n,), that sorts them by falling value.
            shape: of the image.
            connectivity: of neighbours.
        """
        n = len(places)
        ranks = np.empty(n, dtype=np.int32)
        ranks[order] = np.arange(n, dtype=np.int32)
        wide = tuple(length + 2 for length in shape)
        axes = (axis + 1 for axis in np.unravel_index(places, shape))
        inside = np.ravel_multi_index(tuple(axes), wide)
        table = np.full(int(np.prod(wide)), n, dtype=np.int32)
        table[inside] = ranks
        near = np.argwhere(ndimage.generate_binary_structure(3, NEIGHBOURS[connectivity])) - 1
        steps = near @ [wide[1] * wide[2], wide[2], 1]
        return cls(ranks, inside, table, tuple(int(step) for step in steps if step > 0))

    def peaks(self) -> Ranks:
        """(n,), by rank: the peak that is reached by always going on to the highest neighbour."""
        highest = self.ranks.copy()
        for step in (*self.steps, *(-step for step in self.steps)):
            np.minimum(highest, self.table[self.places + step], out=highest)
        onward = np.empty_like(highest)
        onward[self.ranks] = highest
        while True:
            further = onward[onward]
            if np.array_equal(further, onward):
                return onward
            onward = further

    def passes(self, falling: NDArray[np.floating], peaks: Ranks) -> NDArray[np.int64]:
        """(n_passes, 3): rank of the lower peak, of the higher one, and of the highest voxel of the way between them.

        Ways that lead so low that both peaks stay apart are left out.
        """
        parts = [np.empty((0, 3), dtype=np.int64)]
        for step in self.steps:
            beside = self.table[self.places + step]
            there = beside < len(peaks)
            own, other = self.ranks[there], beside[there]
            low, high = np.maximum(peaks[own], peaks[other]), np.minimum(peaks[own], peaks[other])
            way = np.maximum(own, other)
            used = (low != high) & (falling[way] >= PEAK_SHARE * falling[low])
            parts.append(_first_ways(np.stack([low[used], high[used], way[used]], axis=1).astype(np.int64)))
        return _first_ways(np.concatenate(parts))


def _first_ways(passes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of each pair of peaks the highest way."""
    by_pair = passes[np.lexsort(passes.T[[2, 1, 0]])]
    new = np.ones(len(by_pair), dtype=bool)
    new[1:] = np.any(by_pair[1:, :2] != by_pair[:-1, :2], axis=1)
    return by_pair[new]


def _owners(falling: NDArray[np.floating], peaks: Ranks, passes: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,), by rank: the peak whose candidate a voxel belongs to if it is high enough, -1 where to none.

    Args:
        falling: (n,), values by rank.
        peaks: (n,), see `_Ranked.peaks`.
        passes: see `_Ranked.passes`.
    """
    tops = np.flatnonzero(peaks == np.arange(len(peaks)))
    low, high = np.searchsorted(tops, passes[:, :2].T)
    tree = minimum_spanning_tree(coo_array((passes[:, 2], (low, high)), shape=(len(tops), len(tops)))).tocoo()
    by_height = np.argsort(tree.data, kind="stable")
    ways = tree.data[by_height].astype(np.int64)
    joined = _join(falling[tops], tree.coords[0][by_height], tree.coords[1][by_height], falling[ways])
    return np.where(joined >= 0, tops[joined], -1)[np.searchsorted(tops, peaks)]


def _join(
    heights: NDArray[np.floating],
    ones: NDArray[np.integer],
    others: NDArray[np.integer],
    ways: NDArray[np.floating],
) -> NDArray[np.int64]:
    """(n_peaks,): the peak whose candidate holds a peak, itself where it is told apart, -1 where none holds it.

    Args:
        heights: (n_peaks,), falling.
        ones: (n_passes,), indices of peaks; passes come by falling height.
        others: likewise, the other ends.
        ways: (n_passes,), heights.
    """
    parent, way_up = list(range(len(heights))), np.full(len(heights), np.inf)
    shortcut = list(parent)

    def top(peak: int) -> int:
        while shortcut[peak] != peak:
            shortcut[peak] = shortcut[shortcut[peak]]
            peak = shortcut[peak]
        return peak

    for one, other, way in zip(ones.tolist(), others.tolist(), ways.tolist(), strict=True):
        high, low = sorted((top(one), top(other)))
        if way >= PEAK_SHARE * heights[low]:
            parent[low] = shortcut[low] = high
            way_up[low] = way
    # A higher peak comes first, so its own way is known; the last way up is the lowest.
    for peak, above in enumerate(parent):
        if above != peak and parent[above] != above:
            parent[peak], way_up[peak] = parent[above], way_up[above]
    held = np.array(parent, dtype=np.int64)
    return np.where(way_up >= PEAK_SHARE * heights[held], held, -1) if len(held) else held
