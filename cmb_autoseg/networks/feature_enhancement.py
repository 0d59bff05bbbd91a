"""Feature enhancement: features at true lesions are strengthened while a network learns, the dark ones most.

After the single-shot detector of 3T SWAN slices (docs/concepts/systems/boxes.md), which puts it behind
VGG-16's conv4_3. It has no weights and nothing of it is left in prediction, so that a network trained with it is
loaded and run as the same network without. Here it works on pictures and on volumes.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["enhance", "enhancement_mask"]


def enhancement_mask(image: Tensor, boxes: Sequence[Tensor], beta: float = 1.5, brain: Tensor | None = None) -> Tensor:
    """How much each pixel is to be enhanced: M = 1 - image / B_mean inside a box, with B_mean = beta * mean(box).

    Pixels brighter than B_mean are 0, and so is all that no box holds. Where boxes overlap, the larger value counts.

    Args:
        image: (b, *space), grey values of at least 0 in which lesions are dark; 2 or 3 axes of space.
        boxes: for each of the b images (n, 2 * axes): the lowest corner, then the highest, each from the last axis of
            space to the first (x, y in pictures, x, y, z in volumes), in pixels whose faces are whole numbers: pixel 0
            reaches from 0 to 1. A pixel is inside where its middle (its index + 0.5) is, with the lower face but
            without the upper one; the pixel that holds the box's own middle is always inside, so that a box
            narrower than a pixel is not lost. What reaches out of the image is cut off.
        beta: factor of a box's mean up to which its pixels are enhanced.
        brain: (b, *space), not 0 in pixels that count; the others are 0, and no part of a box's mean. None: all count.
            The background is darker than any lesion, so that with it a box at its edge would be lost.

    Returns:
        (b, 1, *space), from 0 to 1; without gradients.

    Raises:
        ValueError: as many boxes' tensors as images are needed, each of 2 * axes columns.
    """
    n_axes = image.dim() - 1
    if len(boxes) != len(image):
        raise ValueError(f"{len(boxes)} tensors of boxes for {len(image)} images; give one an image")
    mask = torch.zeros_like(image)
    with torch.no_grad():
        for item, item_boxes in enumerate(boxes):
            if item_boxes.dim() != 2 or item_boxes.shape[1] != 2 * n_axes:
                raise ValueError(f"boxes of shape {tuple(item_boxes.shape)}; {n_axes} axes need (n, {2 * n_axes})")
            for low_and_high in item_boxes.tolist():
                inside = _pixels_inside(low_and_high, image.shape[1:])
                if inside is not None:
                    within = mask[item][inside]
                    counted = torch.ones_like(within) if brain is None else (brain[item][inside] != 0).to(within)
                    torch.maximum(within, _darkness(image[item][inside], counted, beta), out=within)
    return mask[:, None]


def enhance(features: Tensor, mask: Tensor) -> Tensor:
    """Strengthen features: X' = X + M * X, with the mask averaged over the pixels that each feature stands for.

    An average keeps a lesion smaller than a feature's pixels, which other ways to resize may miss.

    Args:
        features: (b, c, *space'), on a grid as coarse as the mask's or coarser.
        mask: (b, 1, *space), of `enhancement_mask`.

    Returns:
        (b, c, *space'); `features` themselves where the mask is 0.
    """
    resized = functional.interpolate(mask.to(features.dtype), size=features.shape[2:], mode="area")
    return features + resized * features


def _pixels_inside(low_and_high: Sequence[float], shape: Sequence[int]) -> tuple[slice, ...] | None:
    """The indices of a box's pixels along each axis of space; None where it lies outside the image."""
    n_axes = len(shape)
    lows, highs = low_and_high[:n_axes][::-1], low_and_high[n_axes:][::-1]
    inside = [_indices_inside(low, high, size) for low, high, size in zip(lows, highs, shape, strict=True)]
    return tuple(inside) if all(part.start < part.stop for part in inside) else None


def _indices_inside(low: float, high: float, size: int) -> slice:
    """Those whose middle is inside, and the one that holds the middle of [low, high)."""
    center = math.floor((low + high) / 2)
    first = min(math.ceil(low - 0.5), center)
    last = max(math.ceil(high - 0.5) - 1, center)
    return slice(max(first, 0), min(last + 1, size))


def _darkness(grey: Tensor, counted: Tensor, beta: float) -> Tensor:
    """1 - grey / B_mean, and 0 where grey is over B_mean or not counted, or all is black; `counted` is 0 or 1."""
    brightest = beta * (grey * counted).sum() / counted.sum().clamp(min=1)
    return torch.where((grey > brightest) | (brightest <= 0) | (counted == 0), 0.0, 1 - grey / brightest)
