"""True boxes and anchors: which anchor holds which box, and a box as seen from an anchor."""

import torch
from torch import Tensor
from torchvision.ops import box_iou

__all__ = ["boxes_from", "match", "places_of"]

MIN_IOU = 0.5
"""From which on an anchor holds a box (Liu et al. 2016, section 2.2)."""
VARIANCES = (0.1, 0.1, 0.2, 0.2)
"""By which the published code divides places, so that losses of middles and sizes are alike."""
LARGEST_GROWTH = 4.0
"""Natural logarithm of the most that a box can be larger than its anchor, against overflow."""


def match(anchors: Tensor, truth: Tensor) -> Tensor:
    """The true box that each anchor holds.

    Every box has its best anchor, and each anchor that overlaps a box by half or more holds the one it overlaps most.

    Args:
        anchors: (n, 4) pixels.
        truth: (m, 4) pixels.

    Returns:
        (n,) index of a box, -1 where none.
    """
    if not len(truth):
        return torch.full((len(anchors),), -1, dtype=torch.int64, device=anchors.device)
    overlaps: Tensor = box_iou(truth, anchors)
    best, held = overlaps.max(dim=0)
    held = torch.where(best >= MIN_IOU, held, -1)
    # One after the other, so that of two boxes with the same best anchor the last one has it.
    for box, anchor in enumerate(overlaps.argmax(dim=1).tolist()):
        held[anchor] = box
    return held


def places_of(boxes: Tensor, anchors: Tensor) -> Tensor:
    """(n, 4): middle and size of each box relative to its anchor, as the network is to say it."""
    middle, size = _middle_and_size(boxes)
    anchor_middle, anchor_size = _middle_and_size(anchors)
    places = torch.cat(((middle - anchor_middle) / anchor_size, torch.log(size / anchor_size)), dim=-1)
    return places / places.new_tensor(VARIANCES)


def boxes_from(places: Tensor, anchors: Tensor) -> Tensor:
    """The inverse of `places_of`: (..., n, 4) pixels."""
    anchor_middle, anchor_size = _middle_and_size(anchors)
    scaled = places * places.new_tensor(VARIANCES)
    middle = anchor_middle + scaled[..., :2] * anchor_size
    half = anchor_size * torch.exp(scaled[..., 2:].clamp(max=LARGEST_GROWTH)) / 2
    return torch.cat((middle - half, middle + half), dim=-1)


def _middle_and_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    low, high = boxes[..., :2], boxes[..., 2:]
    return (low + high) / 2, high - low
