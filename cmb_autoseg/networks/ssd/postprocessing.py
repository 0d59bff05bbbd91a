"""From what anchors say to boxes with scores."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import nms

from cmb_autoseg.networks.ssd.matching import boxes_from

__all__ = ["Detections", "decode", "suppressed"]

MOST_CANDIDATES = 400
"""Boxes of a picture that are looked at, those of the highest scores, as in the published code."""


@dataclass(frozen=True)
class Detections:
    """Boxes in one picture, the highest score first.

    Attributes:
        boxes: (n, 4), x_min, y_min, x_max, y_max in pixels, the picture reaching from 0 to its size.
        scores: (n,), from 0 to 1.
    """

    boxes: Tensor
    scores: Tensor


def decode(logits: Tensor, places: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes (..., n, 4) in pixels and scores (..., n) of all anchors."""
    return boxes_from(places.float(), anchors), torch.softmax(logits.float(), dim=-1)[..., 1]


def suppressed(boxes: Tensor, scores: Tensor, size: int, min_score: float, max_iou: float, most: int) -> Detections:
    """One picture's boxes without those of low scores and without repetitions: non-maximum suppression.

    Args:
        boxes: (n, 4) pixels.
        scores: (n,).
        size: rows and columns of the picture; boxes are cut off there.
        min_score: those below are dropped.
        max_iou: of two that overlap more the one of the lower score is dropped.
        most: how many stay.
    """
    likely = torch.nonzero(scores >= min_score).flatten()
    order = scores[likely].argsort(descending=True, stable=True)[:MOST_CANDIDATES]
    likely = likely[order]
    boxes, scores = boxes[likely].clamp(0, size), scores[likely]
    seen = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(dim=1)
    boxes, scores = boxes[seen], scores[seen]
    kept: Tensor = nms(boxes, scores, max_iou)[:most]
    return Detections(boxes[kept], scores[kept])
