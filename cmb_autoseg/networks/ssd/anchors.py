"""Anchors: the boxes that a detector starts from, a fixed set at every place of every map.

`published` are those of SSD (Liu et al. 2016): about 7 % of the picture at least, 36 pixels of 512, eight times the
side of a microbleed of 2 mm at 0.45 mm a pixel. `small` fit microbleeds: on each map they are as large as its stride (8
pixels on the first), and those that are small for their stride are tiled, several to a place, as in FaceBoxes (Zhang
et al. 2017, section 3.2), so that no box of 6 pixels or more falls between them.
"""

import math
from typing import Literal

import torch
from torch import Tensor

__all__ = ["AnchorKind", "anchor_boxes", "anchors_per_place"]

AnchorKind = Literal["small", "published"]
Shape = tuple[float, float, float, float]
"""Offset along x and y of an anchor from the middle of its place, width and height; pixels."""
MAP_SIZES = {300: (38, 19, 10, 5, 3, 1), 512: (64, 32, 16, 8, 4, 2, 1)}
"""Rows and columns of each map by the side of the picture, finest first; of every backbone."""
STEPS = {300: (8, 16, 32, 64, 100, 300), 512: (8, 16, 32, 64, 128, 256, 512)}
"""Pixels between two places of each map."""
SCALES = {
    300: (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05),
    512: (0.07, 0.15, 0.30, 0.45, 0.60, 0.75, 0.90, 1.05),
}
"""Of the published anchors, as shares of the picture; the one after the last is of the larger squares there."""
RATIOS = {
    300: ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,)),
    512: ((2,), (2, 3), (2, 3), (2, 3), (2, 3), (2,), (2,)),
}
"""Sides of the published anchors that are no squares, long to short."""
SQUARES = ((1.0, 3), (math.sqrt(2), 2))
"""Small anchors on a map: side of a square by the stride, and how many to a place along each axis."""
FINEST_SQUARES = ((1 / math.sqrt(2), 4), *SQUARES)
"""The same on the first map."""
OBLONGS = ((1.0, 2), (math.sqrt(2), 2))
"""Small anchors twice as long as wide: root of their area by the stride, and how many to a place along each axis."""
TILED_LEVELS = 3
"""Maps with anchors for microbleeds; on the others an anchor is larger than any, and what is there teaches nothing."""


def anchor_boxes(size: int, kind: AnchorKind = "small") -> Tensor:
    """All anchors of a picture, in the order in which the detector's heads speak of them.

    Args:
        size: rows and columns of the picture, 300 or 512.
        kind: which set.

    Returns:
        (n, 4): x_min, y_min, x_max, y_max in pixels, the picture reaching from 0 to `size`. They may reach beyond it.
    """
    boxes = []
    for level, side in enumerate(MAP_SIZES[size]):
        step = STEPS[size][level]
        shapes = torch.tensor(_shapes(size, level, kind), dtype=torch.float64)
        y, x = torch.meshgrid(_middles(side, step), _middles(side, step), indexing="ij")
        middles = torch.stack((x, y), dim=-1)[:, :, None] + shapes[:, :2]
        half = shapes[:, 2:].expand(side, side, -1, -1) / 2
        boxes.append(torch.cat((middles - half, middles + half), dim=-1).reshape(-1, 4))
    return torch.cat(boxes).float()


def anchors_per_place(size: int, kind: AnchorKind = "small") -> list[int]:
    """How many anchors each place of each map has."""
    return [len(_shapes(size, level, kind)) for level in range(len(STEPS[size]))]


def _middles(n: int, step: int) -> Tensor:
    return (torch.arange(n, dtype=torch.float64) + 0.5) * step


def _shapes(size: int, level: int, kind: AnchorKind) -> list[Shape]:
    return _published(size, level) if kind == "published" else _small(size, level)


def _published(size: int, level: int) -> list[Shape]:
    """Two squares, and two oblongs for each ratio; none wider than the picture."""
    scale, following = (SCALES[size][level + n] * size for n in (0, 1))
    squares = [(side, side) for side in (scale, math.sqrt(scale * following))]
    oblongs = [
        sides
        for ratio in RATIOS[size][level]
        for sides in (
            (scale * math.sqrt(ratio), scale / math.sqrt(ratio)),
            (scale / math.sqrt(ratio), scale * math.sqrt(ratio)),
        )
    ]
    return [(0.0, 0.0, min(width, size), min(height, size)) for width, height in (*squares, *oblongs)]


def _small(size: int, level: int) -> list[Shape]:
    step = STEPS[size][level]
    if level >= TILED_LEVELS:
        return [(0.0, 0.0, step * scale, step * scale) for scale, _ in SQUARES]
    shapes: list[Shape] = []
    for scale, tiles in FINEST_SQUARES if level == 0 else SQUARES:
        shapes += _tiled(step, tiles, scale * step, scale * step)
    for scale, tiles in OBLONGS:
        long, short = scale * step * math.sqrt(2), scale * step / math.sqrt(2)
        shapes += _tiled(step, tiles, long, short) + _tiled(step, tiles, short, long)
    return shapes


def _tiled(step: int, tiles: int, width: float, height: float) -> list[Shape]:
    """One anchor in each of `tiles` x `tiles` equal parts of a place."""
    offsets = [((n + 0.5) / tiles - 0.5) * step for n in range(tiles)]
    return [(x, y, width, height) for y in offsets for x in offsets]
