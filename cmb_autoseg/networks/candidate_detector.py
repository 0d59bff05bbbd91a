"""A small single-stage detector of the YOLO family that looks at the neighborhood of one candidate.

One pass gives boxes at two strides (Redmon et al. 2016), without anchors: every cell says how sure it is of an object
and how far the four sides of its box are away (Tian et al. 2019, FCOS; Ge et al. 2021, YOLOX). Backbone of cross-stage
partial blocks (Wang et al. 2020, CSPNet), features joined from coarse to fine and back (Liu et al. 2018, PANet),
branches of their own for objectness and box (YOLOX). Written from these papers.

Coordinates are (x, y) = (column, row) in pixels; pixel 0 reaches from -0.5 to 0.5.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import complete_box_iou_loss

__all__ = ["CandidateDetector", "CellTargets", "Cells", "assign_cells", "detection_loss", "middle_scores"]

N_HEADS = 2
PRIOR = 0.01
"""First objectness of every cell, so that training does not begin by unlearning a picture full of objects."""
CENTRE_RADIUS = 1.5
"""Cells whose middle is less than this many strides from a box's middle, along both axes, answer for it (YOLOX)."""
LARGEST_OF_FINE = 4.0
"""A box whose longer side is at most this many strides of the finer map belongs to that map, else to the coarser."""
CELLS_OF_A_BOX = 9
"""(2 * CENTRE_RADIUS)^2: the objectness of as many cells weighs as much as one box."""
BOX_WEIGHT = 1.0


class ConvBlock(nn.Sequential):
    """Convolution, batch normalization, SiLU."""

    def __init__(self, n_in: int, n_out: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(n_out), nn.SiLU()
        )


class CrossStageBlock(nn.Module):
    """Half of the features pass a residual pair of convolutions, the other half pass by (CSPNet)."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        half = max(1, n_out // 2)
        self.way_through, self.way_past = ConvBlock(n_in, half, 1), ConvBlock(n_in, half, 1)
        self.residual = nn.Sequential(ConvBlock(half, half, 1), ConvBlock(half, half, 3))
        self.join = ConvBlock(2 * half, n_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        through = self.way_through(x)
        joined: Tensor = self.join(torch.cat((through + self.residual(through), self.way_past(x)), dim=1))
        return joined


class Head(nn.Module):
    """Objectness and box of every cell of one map, from branches of their own."""

    def __init__(self, n_in: int) -> None:
        super().__init__()
        self.objectness = nn.Sequential(ConvBlock(n_in, n_in), nn.Conv2d(n_in, 1, 1))
        self.box = nn.Sequential(ConvBlock(n_in, n_in), nn.Conv2d(n_in, 4, 1))
        last = self.objectness[-1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        nn.init.constant_(last.bias, float(np.log(PRIOR / (1 - PRIOR))))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.objectness(x), self.box(x)), dim=1)


@dataclass(frozen=True)
class Cells:
    """What every cell of both maps says, finer map first, row by row.

    Attributes:
        logits: (batch, cell), of an object.
        boxes: (batch, cell, 4): x_min, y_min, x_max, y_max in pixels.
        middles: (cell, 2): x, y of each cell's middle.
        strides: (cell,): pixels between neighboring cells of its map.
    """

    logits: Tensor
    boxes: Tensor
    middles: Tensor
    strides: Tensor


class CandidateDetector(nn.Module):
    """The second stage that sees neighboring slices of all sequences at once.

    Args:
        input_channels: sequences times slices.
        features: of each level, finest first; every level halves rows and columns, and the last two have heads.
    """

    def __init__(self, input_channels: int, features: Sequence[int]) -> None:
        super().__init__()
        stem, *deeper = features
        fine, coarse = features[-2:]
        self.strides = tuple(2 ** (len(features) - N_HEADS + 1 + n) for n in range(N_HEADS))
        self.stem = ConvBlock(input_channels, stem, stride=2)
        stages = []
        for n_in, n_out in zip(features[:-1], deeper, strict=True):
            stages.append(nn.Sequential(ConvBlock(n_in, n_out, stride=2), CrossStageBlock(n_out, n_out)))
        self.stages = nn.ModuleList(stages)
        self.narrow = ConvBlock(coarse, fine, 1)
        self.to_fine = CrossStageBlock(2 * fine, fine)
        self.down = ConvBlock(fine, fine, stride=2)
        self.to_coarse = CrossStageBlock(2 * fine, coarse)
        self.heads = nn.ModuleList((Head(fine), Head(coarse)))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map (batch, channel, row, column) to (batch, 5, row, column) of both maps, finer first."""
        x = self.stem(x)
        levels = [x]
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        narrow = self.narrow(levels[-1])
        fine = self.to_fine(torch.cat((functional.interpolate(narrow, scale_factor=2), levels[-2]), dim=1))
        coarse = self.to_coarse(torch.cat((self.down(fine), narrow), dim=1))
        return [head(level) for head, level in zip(self.heads, (fine, coarse), strict=True)]

    def cells(self, x: Tensor) -> Cells:
        """Map (batch, channel, row, column) to what every cell says, in single precision."""
        logits, boxes, middles, strides = [], [], [], []
        for output, stride in zip(self(x), self.strides, strict=True):
            raw = output.float().flatten(2).transpose(1, 2)
            middle = _middles(output.shape[2], output.shape[3], stride).to(raw)
            reach = functional.softplus(raw[..., 1:]) * stride
            logits.append(raw[..., 0])
            boxes.append(torch.cat((middle - reach[..., :2], middle + reach[..., 2:]), dim=-1))
            middles.append(middle)
            strides.append(torch.full((len(middle),), float(stride), device=raw.device))
        return Cells(torch.cat(logits, 1), torch.cat(boxes, 1), torch.cat(middles), torch.cat(strides))


def _middles(rows: int, columns: int, stride: int) -> Tensor:
    """(cell, 2): x, y in pixels, row by row."""
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return (torch.stack((x, y), dim=-1).reshape(-1, 2).float() + 0.5) * stride - 0.5


@dataclass(frozen=True)
class CellTargets:
    """Which cells answer for which box.

    Attributes:
        is_object: (batch, cell) of 0 and 1.
        boxes: (batch, cell, 4); meaningful where `is_object`.
    """

    is_object: Tensor
    boxes: Tensor


def assign_cells(cells: Cells, boxes: Tensor) -> CellTargets:
    """Choose the cells that answer for each true box.

    A box belongs to the map that fits its longer side, and there to the cells about its middle; a cell that two boxes
    want goes to the nearer one.

    Args:
        cells: of a batch.
        boxes: (batch, box, 4): x_min, y_min, x_max, y_max in pixels; rows of NaN fill up.
    """
    there = ~torch.isnan(boxes).any(dim=-1)
    known = torch.nan_to_num(boxes)
    middles = (known[..., :2] + known[..., 2:]) / 2
    longer = (known[..., 2:] - known[..., :2]).amax(dim=-1)
    fine = cells.strides.min()
    own_stride = torch.where(longer <= LARGEST_OF_FINE * fine, fine, cells.strides.max())
    away = (cells.middles[None, :, None] - middles[:, None]).abs().amax(dim=-1)
    of_map = cells.strides[None, :, None] == own_stride[:, None]
    wanted = there[:, None] & of_map & (away < CENTRE_RADIUS * cells.strides[None, :, None])
    if boxes.shape[1] == 0:
        return CellTargets(torch.zeros_like(cells.logits), torch.zeros_like(cells.boxes))
    nearest = torch.where(wanted, away, torch.inf).argmin(dim=2)
    chosen = torch.gather(known, 1, nearest[..., None].expand(-1, -1, 4))
    return CellTargets(wanted.any(dim=2).to(cells.logits), chosen)


def detection_loss(cells: Cells, boxes: Tensor) -> Tensor:
    """Objectness of all cells by cross-entropy, and boxes of answering cells by complete IoU (Zheng et al. 2020).

    The cross-entropy is summed over cells and divided by the pictures and by the nine cells of a box; the complete-IoU
    loss is averaged over answering cells. The first is not divided by the number of boxes, so that pictures without
    any weigh the same in every batch.

    Args:
        cells: of a batch.
        boxes: as for `assign_cells`.
    """
    targets = assign_cells(cells, boxes)
    objectness = functional.binary_cross_entropy_with_logits(cells.logits, targets.is_object, reduction="sum")
    loss = objectness / (len(cells.logits) * CELLS_OF_A_BOX)
    answering = targets.is_object > 0
    if bool(answering.any()):
        overlap = complete_box_iou_loss(cells.boxes[answering], targets.boxes[answering], reduction="mean")
        loss = loss + BOX_WEIGHT * overlap
    return loss


def middle_scores(cells: Cells, middle: Tensor, margin_pixels: float) -> Tensor:
    """The surest box about a picture's middle, (batch,), 0 to 1; 0 where no box is near.

    Args:
        cells: of a batch.
        middle: (2,), x and y in pixels.
        margin_pixels: how far outside a box the middle may lie.
    """
    inside = (cells.boxes[..., :2] - margin_pixels <= middle) & (middle <= cells.boxes[..., 2:] + margin_pixels)
    return torch.where(inside.all(dim=-1), cells.logits.sigmoid(), 0.0).amax(dim=1)
