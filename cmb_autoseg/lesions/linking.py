"""Boxes in slices: how much they overlap, and which of them, on neighboring slices, are one microbleed."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Pair", "box_overlaps", "chain_boxes", "pairs_across_slices"]


class Pair(NamedTuple):
    """Two boxes on two slices."""

    gap: int
    """Slices that lie between."""
    overlap: float
    """Intersection over union."""
    lower: int
    """Index of the box on the lower slice."""
    upper: int
    """Index of the box on the higher slice."""


def box_overlaps(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of each box of one list with each of the other.

    Args:
        one: (n, 4), x_min, y_min, x_max, y_max.
        other: (m, 4), in the same unit.

    Returns:
        (n, m).
    """
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (one, other)]
    joint: NDArray[np.float64] = areas[0][:, None] + areas[1][None] - shared
    overlaps: NDArray[np.float64] = np.divide(shared, joint, out=np.zeros_like(shared), where=joint > 0)
    return overlaps


def pairs_across_slices(
    slices: NDArray[np.int64], boxes: NDArray[np.float64], max_gap: int = 0, min_iou: float = 0.0
) -> list[Pair]:
    """Pairs of boxes on two slices that overlap.

    Args:
        slices: (n,), the slice of each box.
        boxes: (n, 4), x_min, y_min, x_max, y_max, all in one unit.
        max_gap: most slices that lie between two boxes.
        min_iou: least intersection over union; boxes that do not overlap are no pair whatever it is.
    """
    on_slice = {int(index): np.flatnonzero(slices == index) for index in np.unique(slices)}
    pairs: list[Pair] = []
    for gap in range(max_gap + 1):
        for index, lower in on_slice.items():
            upper = on_slice.get(index + gap + 1)
            if upper is None:
                continue
            overlaps = box_overlaps(boxes[lower], boxes[upper])
            found = np.argwhere((overlaps > 0) & (overlaps >= min_iou))
            pairs += [Pair(gap, float(overlaps[a, b]), int(lower[a]), int(upper[b])) for a, b in found]
    return pairs


def chain_boxes(n_boxes: int, pairs: Iterable[Pair]) -> list[list[int]]:
    """Microbleeds, each as its boxes from the lowest slice up; every box is in one.

    Pairs are linked greedily: neighbors before those with a gap between, then the largest overlap first. A box has at
    most one partner above and one below, so that a microbleed has at most one box on a slice.

    Args:
        n_boxes: boxes are 0 to `n_boxes` - 1; microbleeds come in the order of their lowest.
        pairs: that may be linked.
    """
    above: dict[int, int] = {}
    below: set[int] = set()
    for _, _, lower, upper in sorted(pairs, key=lambda pair: (pair.gap, -pair.overlap, pair.lower, pair.upper)):
        if lower not in above and upper not in below:
            above[lower] = upper
            below.add(upper)
    return [_chain(first, above) for first in range(n_boxes) if first not in below]


def _chain(first: int, above: dict[int, int]) -> list[int]:
    chain = [first]
    while chain[-1] in above:
        chain.append(above[chain[-1]])
    return chain
