"""Average precision of boxes in slices, for the curves of training."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.evaluation.metrics.ranking import pooled_precision
from cmb_autoseg.lesions.linking import box_overlaps

__all__ = ["average_precision"]

MIN_IOU = 0.1
"""From which on a box is found, as of `cmb_evaluate --protocol iou`: of a dot of six pixels, one pixel is much."""

SliceDetections = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
"""Of one slice: found boxes (n, 4), their scores (n,), true boxes (m, 4)."""


def average_precision(slices: Sequence[SliceDetections], min_iou: float = MIN_IOU) -> float:
    """Of the boxes of all slices together (`pooled_precision`); NaN without a true box.

    The boxes of the highest scores choose first, each the true box that it overlaps most of those that are left.
    """
    scores, hits = [np.zeros(0)], [np.zeros(0, dtype=bool)]
    for found, own_scores, truth in slices:
        order = np.argsort(-own_scores, kind="stable")
        scores.append(own_scores[order])
        hits.append(_hits(found[order], truth, min_iou))
    n_true = sum(len(truth) for _, _, truth in slices)
    return pooled_precision(np.concatenate(scores), np.concatenate(hits), n_true)


def _hits(found: NDArray[np.float64], truth: NDArray[np.float64], min_iou: float) -> NDArray[np.bool_]:
    overlaps = box_overlaps(found, truth)
    hits = np.zeros(len(found), dtype=bool)
    for n, row in enumerate(overlaps):
        if row.size and row.max() >= min_iou:
            hits[n] = True
            overlaps[:, row.argmax()] = 0
    return hits
