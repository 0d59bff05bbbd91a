"""Which points are right, and boxes, on a reading of two lesions."""

import numpy as np
import pytest

from cmb_autoseg.geometry import Volume
from cmb_autoseg.trainers.candidates.true_lesions import TrueLesions


@pytest.fixture
def two_lesions():
    """The larger (number 1) fills i 2..4, j 5..6 in slices 3 and 4, the smaller one voxel; 1 x 1 x 3 mm."""
    mask = np.zeros((20, 20, 10), dtype=np.uint8)
    mask[2:5, 5:7, 3:5] = 1
    mask[12, 12, 6] = 1
    return TrueLesions.of(Volume(mask, np.diag([1.0, 1.0, 3.0, 1.0])))


def test_boxes_reach_to_the_faces_of_the_voxels(two_lesions):
    assert len(two_lesions) == 2
    assert two_lesions.boxes.tolist() == [
        [1, 3, 1.5, 4.5, 4.5, 6.5],
        [1, 4, 1.5, 4.5, 4.5, 6.5],
        [2, 6, 11.5, 11.5, 12.5, 12.5],
    ]
    assert two_lesions.boxes_in(3, 0).tolist() == [[1.5, 4.5, 4.5, 6.5]]
    assert two_lesions.boxes_in(5, 0).shape == (0, 4)


def test_a_hit_lesion_that_misses_the_slice_is_shown_by_its_nearest(two_lesions):
    assert two_lesions.boxes_in(5, 1).tolist() == [[1.5, 4.5, 4.5, 6.5]]
    assert two_lesions.boxes_in(6, 1).tolist() == [[11.5, 11.5, 12.5, 12.5], [1.5, 4.5, 4.5, 6.5]]
    assert two_lesions.boxes_in(4, 1).tolist() == [[1.5, 4.5, 4.5, 6.5]]


def test_a_point_is_right_in_a_lesion_and_near_one(two_lesions):
    points = np.array([[3, 5, 3], [6, 6, 4], [7, 6, 4], [12, 12, 7], [12, 12, 8], [13, 12, 7]])
    # 7 is 3 mm from 4; the next slice is near, however thick, but not with a step aside
    assert two_lesions.hit_by(points, 2.0).tolist() == [1, 1, 0, 2, 0, 0]


def test_the_middle_is_a_voxel_of_the_lesion():
    mask = np.zeros((9, 9, 3), dtype=np.uint8)
    mask[1:8, 1, 1] = mask[1, 1:8, 1] = 1  # an angle, whose centre of mass lies outside
    lesions = TrueLesions.of(Volume(mask, np.eye(4)))
    assert mask[tuple(lesions.middle_voxel(1))] == 1


def test_a_scan_without_lesions_has_nothing_to_hit():
    lesions = TrueLesions.of(Volume(np.zeros((5, 5, 5), dtype=np.uint8), np.eye(4)))
    assert len(lesions) == 0
    assert lesions.hit_by(np.array([[1, 2, 3]]), 2.0).tolist() == [0]
    assert lesions.boxes_in(1, 0).shape == (0, 4)
