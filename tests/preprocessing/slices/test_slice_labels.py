import numpy as np
import pytest

from cmb_autoseg.preprocessing.slices import IGNORED, SliceFrame, slice_labels


def test_one_box_a_part_and_slice():
    mask = np.zeros((30, 40, 5), bool)
    mask[10:13, 20:22, 1:3] = True  # i from 10 to 12, j from 20 to 21, in two slices
    mask[4, 30, 4] = True
    labels = slice_labels(mask, SliceFrame.fit(40, 30, (40, 40), "pad"))
    np.testing.assert_array_equal(
        labels.boxes, [[1, 14.5, 19.5, 17.5, 21.5], [2, 14.5, 19.5, 17.5, 21.5], [4, 8.5, 29.5, 9.5, 30.5]]
    )
    np.testing.assert_array_equal(labels.mask[:, :, 5:35], mask.transpose(2, 1, 0))


def test_a_lesion_that_is_apart_in_one_slice_has_two_boxes_there():
    mask = np.zeros((20, 20, 2), bool)
    mask[4:12, 8, 0] = mask[4, 8, 1] = mask[11, 8, 1] = True
    labels = slice_labels(mask, SliceFrame.fit(20, 20, (20, 20), "crop"))
    assert labels.boxes[:, 0].tolist() == [0, 1, 1]


@pytest.mark.parametrize("size", [(17, 17), (30, 30), (64, 64), (97, 97)])
def test_no_lesion_vanishes_whatever_the_size(size):
    rng = np.random.default_rng(0)
    mask = np.zeros((60, 60, 12), bool)
    for k in range(0, 12, 2):
        mask[tuple(rng.integers(2, 58, 2)), k] = mask[rng.integers(2, 58), rng.integers(2, 58), k] = True
    labels = slice_labels(mask, SliceFrame.fit(60, 60, size, "crop"))
    for index, x_min, y_min, x_max, y_max in labels.boxes:
        rows = slice(max(0, int(np.floor(y_min))), int(np.ceil(y_max)) + 1)
        columns = slice(max(0, int(np.floor(x_min))), int(np.ceil(x_max)) + 1)
        assert (labels.mask[int(index), rows, columns] == 1).any()


def test_a_box_covers_its_pixels_and_no_more():
    mask = np.zeros((60, 60, 1), bool)
    mask[20:26, 30:34, 0] = True
    frame = SliceFrame.fit(60, 60, (120, 120), "crop")
    labels = slice_labels(mask, frame)
    rows, columns = np.nonzero(labels.mask[0])
    box = [columns.min() - 0.5, rows.min() - 0.5, columns.max() + 0.5, rows.max() + 0.5]
    np.testing.assert_allclose(labels.boxes[0, 1:], box, atol=0.51)
    np.testing.assert_array_equal(labels.boxes[0, 1:], [39.5, 59.5, 51.5, 67.5])


def test_lesions_of_another_size_are_neither_target_nor_background():
    mask = np.zeros((30, 30, 3), bool)
    mask[3, 3, 0] = True  # sphere of equal volume: 1.24 mm
    mask[10:13, 10:13, 0:2] = True  # 3.25 mm
    labels = slice_labels(mask, SliceFrame.fit(30, 30, (30, 30), "crop"), 1.0, (2.0, 10.0))
    assert labels.boxes[:, 0].tolist() == [0, 1]
    assert labels.mask[0, 3, 3] == IGNORED
    assert (labels.mask == 1).sum() == 18


def test_an_empty_mask_has_no_boxes():
    labels = slice_labels(np.zeros((8, 8, 2), bool), SliceFrame.fit(8, 8, (8, 8), "crop"))
    assert labels.boxes.shape == (0, 5)
    assert not labels.mask.any()


@pytest.mark.parametrize(("n_voxels", "wanted"), [(8, False), (9, True), (1047, True), (1048, False)])
def test_the_rule_of_2_to_10_mm_by_hand(n_voxels, wanted):
    """Spheres of 2 and 10 mm have 4.19 and 523.6 mm3: 8.4 and 1047.2 voxels of 0.5 x 0.5 x 2 mm."""
    mask = np.zeros((30, 30, 20), bool)
    block = np.zeros((11, 11, 11), bool)
    block.flat[:n_voxels] = True
    mask[5:16, 5:16, 5:16] = block
    labels = slice_labels(mask, SliceFrame.fit(30, 30, (30, 30), "crop"), 0.5 * 0.5 * 2, (2.0, 10.0))
    assert (len(labels.boxes) > 0) is wanted
    assert (labels.mask == (1 if wanted else IGNORED)).sum() == n_voxels
