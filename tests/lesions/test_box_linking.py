"""Boxes on neighboring slices: which overlap, and how chains of them come about."""

import numpy as np
import pytest

from cmb_autoseg.lesions.linking import Pair, box_overlaps, chain_boxes, pairs_across_slices


def test_overlap_is_the_shared_area_as_a_part_of_the_joint_one():
    boxes = np.array([[0.0, 0, 4, 4], [2, 0, 6, 4], [4, 0, 8, 4], [1, 1, 1, 3]])
    np.testing.assert_allclose(box_overlaps(boxes[:1], boxes)[0], [1, 8 / 24, 0, 0])


def test_pairs_are_of_overlapping_boxes_on_two_slices():
    boxes = np.array([[0.0, 0, 4, 4], [2, 0, 6, 4], [4, 0, 8, 4], [0, 0, 4, 4], [0, 0, 4, 4]])
    slices = np.array([7, 8, 8, 9, 7])
    assert pairs_across_slices(slices, boxes) == [
        *(Pair(0, pytest.approx(1 / 3), lower, 1) for lower in (0, 4)),
        Pair(0, pytest.approx(1 / 3), 1, 3),
    ]
    assert {(pair.gap, pair.lower, pair.upper) for pair in pairs_across_slices(slices, boxes, 1, 0.5)} == {
        (1, 0, 3),
        (1, 4, 3),
    }


def test_no_box_has_two_partners_on_a_side():
    """The gap comes last though it overlaps most; of two pairs the larger overlap wins."""
    pairs = [Pair(1, 1.0, 0, 3), Pair(0, 0.4, 0, 1), Pair(0, 0.6, 0, 2), Pair(0, 0.3, 2, 3)]
    assert chain_boxes(5, pairs) == [[0, 2, 3], [1], [4]]
