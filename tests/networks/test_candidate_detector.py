"""The detector's layers, which cells answer for a box, and its loss against numbers worked out by hand."""

import math

import pytest
import torch
from torch import nn

from cmb_autoseg.networks.candidate_detector import (
    CandidateDetector,
    Cells,
    assign_cells,
    detection_loss,
    middle_scores,
)


def layer_table(network):
    """Name, filters in and out, kernel, stride of every convolution, in the order of the module."""
    return [
        (name, layer.in_channels, layer.out_channels, layer.kernel_size[0], layer.stride[0])
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Conv2d)
    ]


def test_layers_of_the_shipped_size():
    network = CandidateDetector(15, (16, 32, 64))
    assert layer_table(network) == [
        ("stem.0", 15, 16, 3, 2),
        ("stages.0.0.0", 16, 32, 3, 2),
        ("stages.0.1.way_through.0", 32, 16, 1, 1),
        ("stages.0.1.way_past.0", 32, 16, 1, 1),
        ("stages.0.1.residual.0.0", 16, 16, 1, 1),
        ("stages.0.1.residual.1.0", 16, 16, 3, 1),
        ("stages.0.1.join.0", 32, 32, 1, 1),
        ("stages.1.0.0", 32, 64, 3, 2),
        ("stages.1.1.way_through.0", 64, 32, 1, 1),
        ("stages.1.1.way_past.0", 64, 32, 1, 1),
        ("stages.1.1.residual.0.0", 32, 32, 1, 1),
        ("stages.1.1.residual.1.0", 32, 32, 3, 1),
        ("stages.1.1.join.0", 64, 64, 1, 1),
        ("narrow.0", 64, 32, 1, 1),
        ("to_fine.way_through.0", 64, 16, 1, 1),
        ("to_fine.way_past.0", 64, 16, 1, 1),
        ("to_fine.residual.0.0", 16, 16, 1, 1),
        ("to_fine.residual.1.0", 16, 16, 3, 1),
        ("to_fine.join.0", 32, 32, 1, 1),
        ("down.0", 32, 32, 3, 2),
        ("to_coarse.way_through.0", 64, 32, 1, 1),
        ("to_coarse.way_past.0", 64, 32, 1, 1),
        ("to_coarse.residual.0.0", 32, 32, 1, 1),
        ("to_coarse.residual.1.0", 32, 32, 3, 1),
        ("to_coarse.join.0", 64, 64, 1, 1),
        ("heads.0.objectness.0.0", 32, 32, 3, 1),
        ("heads.0.objectness.1", 32, 1, 1, 1),
        ("heads.0.box.0.0", 32, 32, 3, 1),
        ("heads.0.box.1", 32, 4, 1, 1),
        ("heads.1.objectness.0.0", 64, 64, 3, 1),
        ("heads.1.objectness.1", 64, 1, 1, 1),
        ("heads.1.box.0.0", 64, 64, 3, 1),
        ("heads.1.box.1", 64, 4, 1, 1),
    ]
    normalized = sum(2 * layer.num_features for layer in network.modules() if isinstance(layer, nn.BatchNorm2d))
    heads_biases = 2 * (1 + 4)
    by_hand = sum(n_in * n_out * k * k for _, n_in, n_out, k, _ in layer_table(network)) + normalized + heads_biases
    assert sum(p.numel() for p in network.parameters()) == by_hand == 178_106


def test_maps_of_a_window_lie_at_strides_4_and_8():
    network = CandidateDetector(15, (16, 32, 64)).eval()
    fine, coarse = network(torch.zeros(2, 15, 64, 64))
    assert fine.shape == (2, 5, 16, 16)
    assert coarse.shape == (2, 5, 8, 8)
    cells = network.cells(torch.zeros(2, 15, 64, 64))
    assert cells.logits.shape == (2, 16 * 16 + 8 * 8)
    assert cells.middles[0].tolist() == [1.5, 1.5]
    assert cells.middles[1].tolist() == [5.5, 1.5]
    assert cells.middles[256].tolist() == [3.5, 3.5]
    assert cells.strides.tolist() == [4.0] * 256 + [8.0] * 64
    assert (cells.boxes[..., :2] <= cells.middles).all()
    assert (cells.boxes[..., 2:] >= cells.middles).all()


def test_training_begins_with_few_objects():
    torch.manual_seed(0)
    network = CandidateDetector(3, (4, 8)).eval()
    cells = network.cells(torch.randn(4, 3, 16, 16))
    assert cells.logits.sigmoid().mean() < 0.05


def grid_of_cells(logit=0.0, reach=2.0, batch=1):
    """16 x 16 pixels: 4 x 4 cells of stride 4 and 2 x 2 cells of stride 8, each with a box of its own about it."""
    fine = [(x * 4 + 1.5, y * 4 + 1.5) for y in range(4) for x in range(4)]
    coarse = [(x * 8 + 3.5, y * 8 + 3.5) for y in range(2) for x in range(2)]
    middles = torch.tensor(fine + coarse)
    strides = torch.tensor([4.0] * 16 + [8.0] * 4)
    boxes = torch.cat((middles - reach, middles + reach), dim=1).expand(batch, -1, -1)
    return Cells(torch.full((batch, 20), logit), boxes, middles, strides)


def test_a_small_box_belongs_to_the_nine_cells_about_it_on_the_finer_map():
    box = torch.tensor([[[3.5, 3.5, 7.5, 7.5]]])  # its middle, (5.5, 5.5), is that of the cell in row 1, column 1
    targets = assign_cells(grid_of_cells(), box)
    assert targets.is_object[0, :16].reshape(4, 4).tolist() == [[1, 1, 1, 0]] * 3 + [[0, 0, 0, 0]]
    assert not targets.is_object[0, 16:].any()
    assert (targets.boxes[0, 0] == box[0, 0]).all()


def test_a_box_longer_than_four_fine_strides_belongs_to_the_coarser_map():
    long, as_long_as_it_may_be = torch.tensor([[[0.0, 2.0, 16.5, 6.0]]]), torch.tensor([[[0.0, 2.0, 16.0, 6.0]]])
    assert not assign_cells(grid_of_cells(), long).is_object[0, :16].any()
    assert assign_cells(grid_of_cells(), long).is_object[0, 16:].any()
    assert not assign_cells(grid_of_cells(), as_long_as_it_may_be).is_object[0, 16:].any()


def test_a_cell_that_two_boxes_want_goes_to_the_nearer():
    boxes = torch.tensor([[[0.0, 0.0, 4.0, 4.0], [7.5, 0.0, 11.5, 4.0]]])
    targets = assign_cells(grid_of_cells(), boxes)
    assert targets.boxes[0, 1].tolist() == boxes[0, 0].tolist()  # x 5.5 is 3.5 from 2.0 and 4.0 from 9.5
    assert targets.boxes[0, 2].tolist() == boxes[0, 1].tolist()


def test_rows_of_nan_and_no_rows_are_no_boxes():
    for boxes in (torch.full((1, 2, 4), torch.nan), torch.zeros(1, 0, 4)):
        assert not assign_cells(grid_of_cells(), boxes).is_object.any()
        # 20 cells of log 2 each, over 9 cells of one picture
        assert detection_loss(grid_of_cells(), boxes).item() == pytest.approx(20 * math.log(2) / 9)


def test_the_loss_of_one_box_worked_out_by_hand():
    """One answering cell, whose box 3.5..7.5 in x and y is to be 3.5..7.5 by 3.5..9.5."""
    cells = grid_of_cells()
    only = Cells(cells.logits[:, 5:6], cells.boxes[:, 5:6], cells.middles[5:6], cells.strides[5:6])
    true = torch.tensor([[[3.5, 3.5, 7.5, 9.5]]])
    iou = 16 / 24
    away = 1.0**2 / (4**2 + 6**2)  # middles 1 pixel apart, over the squared diagonal of the box about both
    aspect = 4 / math.pi**2 * (math.atan(4 / 6) - math.atan(1.0)) ** 2
    complete = 1 - iou + away + aspect * aspect / (1 - iou + aspect)
    expected = math.log(2) / 9 + complete
    assert detection_loss(only, true).item() == pytest.approx(expected, abs=1e-5)


def test_a_picture_without_boxes_weighs_the_same_beside_any_other():
    box = torch.tensor([[[3.5, 3.5, 7.5, 7.5]], [[torch.nan] * 4]])
    both = grid_of_cells(logit=-1.0, batch=2)
    one = detection_loss(grid_of_cells(logit=-1.0), box[:1])
    none = detection_loss(grid_of_cells(logit=-1.0), box[1:])
    boxes_alone = detection_loss(both, box) - (one + none) / 2
    # The halves' mean has half of the only box's loss.
    complete = one - detection_loss(grid_of_cells(logit=-1.0), torch.zeros(1, 0, 4)) - 9 * 1.0 / 9
    assert boxes_alone.item() == pytest.approx(complete.item() / 2, abs=1e-5)


def test_only_boxes_about_the_middle_speak_for_the_candidate():
    cells = grid_of_cells(logit=-2.0)
    logits = cells.logits.clone()
    logits[0, 0] = 5.0  # box -0.5..3.5 in both, far from the middle
    logits[0, 5] = 1.0  # box 3.5..7.5
    sure = Cells(logits, cells.boxes, cells.middles, cells.strides)
    middle = torch.tensor([7.5, 7.5])
    assert middle_scores(sure, middle, 0.0).item() == pytest.approx(torch.tensor(1.0).sigmoid().item())
    assert middle_scores(sure, middle, 4.0).item() == pytest.approx(torch.tensor(5.0).sigmoid().item())
    assert middle_scores(sure, torch.tensor([30.0, 30.0]), 4.0).item() == 0.0
