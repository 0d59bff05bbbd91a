"""Which boxes that a detector finds in slices are one microbleed."""

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.lesions.linking import chain_boxes, pairs_across_slices
from cmb_autoseg.trainers.recipe import LinkSettings

__all__ = ["link_boxes"]


def link_boxes(
    slices: NDArray[np.int64], boxes: NDArray[np.float64], scores: NDArray[np.float64], settings: LinkSettings
) -> NDArray[np.int64]:
    """Link the boxes of one scan, as `chain_boxes` does, where neither score is far below the other.

    Args:
        slices: (n,), the slice of each box.
        boxes: (n, 4), x_min, y_min, x_max, y_max, all in one unit.
        scores: (n,).
        settings: least overlap, largest gap and least ratio of scores.

    Returns:
        (n,), number of each box's lesion, from 1 by falling score, which is the highest of its boxes.
    """
    pairs = pairs_across_slices(slices, boxes, settings.max_gap, settings.min_iou)

    def alike(one: int, other: int) -> bool:
        low, high = sorted((scores[one], scores[other]))
        return bool(low >= settings.min_score_ratio * high)

    chains = chain_boxes(len(boxes), [pair for pair in pairs if alike(pair.lower, pair.upper)])
    highest = np.array([scores[chain].max() for chain in chains], dtype=np.float64)
    lesions = np.zeros(len(boxes), dtype=np.int64)
    for number, chain in enumerate(np.argsort(-highest, kind="stable"), 1):
        lesions[chains[chain]] = number
    return lesions
