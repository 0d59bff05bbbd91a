import numpy as np
import pytest

from cmb_autoseg.preprocessing.slices import SliceFrame, slice_labels


def brain(rows, columns, row_range, column_range):
    result = np.zeros((rows, columns), bool)
    result[slice(*row_range), slice(*column_range)] = True
    return result


def test_crop_takes_the_shorter_side_about_the_brain():
    frame = SliceFrame.fit(100, 80, (160, 160), "crop", brain(100, 80, (30, 98), (5, 75)))
    assert frame.window == (80, 80)
    assert frame.start == (20, 0)  # the brain's middle is row 64, and the window ends with the slice
    assert frame.scale == (2.0, 2.0)


def test_crop_without_a_brain_lies_in_the_middle():
    assert SliceFrame.fit(100, 80, (80, 80), "crop").start == (10, 0)


def test_crop_never_cuts_brain_off():
    frame = SliceFrame.fit(100, 60, (60, 60), "crop", brain(100, 60, (5, 95), (0, 60)))
    assert frame.window == (90, 90)
    assert frame.start == (5, -15)


def test_pad_holds_the_whole_slice():
    frame = SliceFrame.fit(100, 80, (50, 50), "pad", brain(100, 80, (30, 40), (5, 9)))
    assert (frame.window, frame.start) == ((100, 100), (0, -10))


def test_values_go_to_pixels_and_back():
    frame = SliceFrame.fit(40, 30, (40, 40), "pad")
    values = np.random.default_rng(0).random((3, 40, 30)).astype(np.float32)
    pixels = frame.to_pixels(values)
    np.testing.assert_array_equal(pixels[:, :, 5:35], values)
    assert not pixels[:, :, :5].any()
    np.testing.assert_array_equal(frame.to_scan(pixels), values)


def test_maps_are_zero_where_nothing_was_seen():
    frame = SliceFrame.fit(40, 30, (15, 15), "crop")
    scan = frame.to_scan(np.ones((2, 15, 15), np.float32))
    assert scan.shape == (2, 40, 30)
    np.testing.assert_allclose(scan[:, 5:35], 1, rtol=1e-6)
    assert not scan[:, :5].any()
    assert not scan[:, 35:].any()


@pytest.mark.parametrize(("size", "fit"), [((64, 64), "crop"), ((33, 33), "pad"), ((50, 70), "pad")])
def test_points_follow_what_is_shown_there(size, fit):
    """The centre of mass of a blob is where its point goes to, in both directions."""
    frame = SliceFrame.fit(60, 48, size, fit)
    rows, columns = np.mgrid[:60, :48]
    blob = np.exp(-((rows - 26.3) ** 2 + (columns - 21.7) ** 2) / 18)
    picture = frame.to_pixels(blob)
    y, x = ((grid * picture).sum() / picture.sum() for grid in np.mgrid[: size[0], : size[1]])
    point = frame.pixels_of(np.array([[21.7, 26.3]]))
    np.testing.assert_allclose(point, [[x, y]], atol=0.05)
    np.testing.assert_allclose(frame.scan_of(point), [[21.7, 26.3]], atol=1e-9)


def test_the_edges_of_the_window_are_the_edges_of_the_picture():
    frame = SliceFrame((40, 30), (5, 0), (30, 30), (90, 90))
    np.testing.assert_allclose(frame.pixels_of(np.array([[-0.5, 4.5], [29.5, 34.5]])), [[-0.5, -0.5], [89.5, 89.5]])


@pytest.mark.parametrize("side", [60, 180, 256])
def test_a_perfect_mask_of_a_one_voxel_microbleed_comes_back_to_the_scan(side):
    """Pixels finer than voxels are not averaged: the mean with their surroundings would be below one half."""
    frame = SliceFrame.fit(side, side, (384, 384), "crop")
    for row, column in np.random.default_rng(0).integers(5, side - 5, (20, 2)):
        lesion = np.zeros((side, side, 1), np.uint8)
        lesion[column, row] = 1
        scan = frame.to_scan(slice_labels(lesion, frame).mask.astype(np.float32))[0]
        assert np.unravel_index(scan.argmax(), scan.shape) == (row, column)
        assert scan.max() >= 0.5
