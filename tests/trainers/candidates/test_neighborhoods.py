"""Pictures against SciPy's own interpolation, and boxes against what is in them."""

import numpy as np
import pytest
from scipy import ndimage

from cmb_autoseg.geometry import Volume
from cmb_autoseg.records import Role
from cmb_autoseg.trainers.candidates.neighborhoods import Neighborhood, Window, scaled_stack
from cmb_autoseg.trainers.recipe import TwoStageSettings

SPACING_MM = (0.8, 1.0, 2.5)
YOLO = TwoStageSettings(window_mm=12, window_pixels=16, slices=3, features=(4, 8))
CUBE = TwoStageSettings(window_mm=12, window_pixels=32, features=(4, 8), second="classifier3d")


def smooth_stack(seed=0, shape=(9, 2, 30, 34)):
    rng = np.random.default_rng(seed)
    return ndimage.gaussian_filter(rng.normal(size=shape), (1, 0, 1, 1)).astype(np.float32)


def by_scipy(stack, window, voxel):
    """The same window by one interpolation of the whole stack, 0 beyond it."""
    planes, rows, columns = (offset + at for offset, at in zip(window.offsets, reversed(voxel), strict=True))
    where = np.meshgrid(planes, rows, columns, indexing="ij")
    return np.stack(
        [
            ndimage.map_coordinates(stack[:, c], where, order=1, mode="grid-constant", cval=0.0)
            for c in range(stack.shape[1])
        ],
        axis=1,
    )


@pytest.mark.parametrize("settings", [YOLO, CUBE], ids=["yolo", "cube"])
@pytest.mark.parametrize("voxel", [(17, 15, 4), (0, 29, 8), (33, 0, 0)])
def test_a_picture_is_what_scipy_interpolates(settings, voxel):
    stack, window = smooth_stack(), Window.of(settings, SPACING_MM)
    picture = window.picture(window.cut(stack, voxel))
    assert picture.dtype == np.float32
    np.testing.assert_allclose(picture, by_scipy(stack, window, voxel), atol=2e-3)  # kept in half precision


def test_the_middle_voxel_is_in_the_middle_of_slices_and_pixels():
    window = Window.of(YOLO, SPACING_MM)
    assert window.offsets[0].tolist() == [-1, 0, 1]
    assert window.middle == (7.5, 7.5)
    assert window.pixel_mm == 0.75
    np.testing.assert_allclose(np.diff(window.offsets[1]) * SPACING_MM[1], 0.75)
    np.testing.assert_allclose(np.diff(window.offsets[2]) * SPACING_MM[0], 0.75)
    assert [len(offsets) for offsets in Window.of(CUBE, SPACING_MM).offsets] == [16, 16, 16]


def test_boxes_lie_about_what_they_hold():
    stack = np.zeros((5, 1, 40, 40), dtype=np.float32)
    i, j, k = 21, 17, 2
    stack[k, 0, j - 1 : j + 2, i - 2 : i + 3] = 1
    box = np.array([[i - 2.5, j - 1.5, i + 2.5, j + 1.5]])
    middle = (20, 18, k)
    window = Window.of(YOLO, SPACING_MM)
    picture = window.picture(window.cut(stack, middle))[1, 0]
    x_min, y_min, x_max, y_max = window.pixels(box, middle)[0]
    assert (x_max - x_min, y_max - y_min) == pytest.approx((5 * 0.8 / 0.75, 3 / 0.75))
    rows, columns = np.nonzero(picture > 0.5)
    for low, high, found in ((x_min, x_max, columns), (y_min, y_max, rows)):
        assert low == pytest.approx(found.min() - 0.5, abs=0.51)
        assert high == pytest.approx(found.max() + 0.5, abs=0.51)


def test_boxes_whose_middle_is_outside_are_left_out_and_others_clipped():
    window = Window.of(YOLO, (1.0, 1.0, 2.5))
    boxes = np.array([[4.0, 10.0, 6.0, 12.0], [2.0, 10.0, 4.0, 12.0], [24.0, 9.5, 26.0, 12.5]])
    pixels = window.pixels(boxes, (10, 11, 1))
    assert len(pixels) == 1
    assert pixels[0, 0] == -0.5


def test_a_missing_sequence_is_blank_and_the_others_are_scaled_in_their_brain():
    rng = np.random.default_rng(0)
    data = np.where(np.arange(20)[:, None, None] < 15, rng.normal(100, 7, (20, 18, 6)), 0).astype(np.float32)
    stack = scaled_stack({Role.SWI: Volume(data, np.eye(4))}, (Role.GRE_MAG, Role.SWI))
    assert stack.shape == (6, 2, 18, 20)
    assert not stack[:, 0].any()
    inside = stack[:, 1, :, :15]
    assert inside.mean() == pytest.approx(0, abs=1e-4)
    assert inside.std() == pytest.approx(1, abs=1e-4)
    assert not stack[:, 1, :, 15:].any()


@pytest.mark.parametrize("spacing_mm", [0.3, 0.5, 0.75])
def test_voxels_finer_than_pixels_are_averaged_so_that_none_is_overlooked(spacing_mm):
    """Every voxel of the window's middle weighs as much as any other, the candidate's own included."""
    window = Window.of(CUBE, (spacing_mm,) * 3)
    per_pixel = 0.75 / spacing_mm
    seen = []
    for shift in range(-2, 3):
        stack = np.zeros((61, 1, 61, 61), dtype=np.float32)
        stack[30, 0, 30, 30 + shift] = 1
        seen.append(window.picture(window.cut(stack, (30, 30, 30))).sum())
    np.testing.assert_allclose(seen, per_pixel**-3, rtol=0.35)
    plain = np.ones((61, 1, 61, 61), dtype=np.float32)
    np.testing.assert_allclose(window.picture(window.cut(plain, (30, 30, 30))), 1, rtol=1e-5)


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 2.0), (0.45, 0.45, 1.0)])
@pytest.mark.parametrize("settings", [YOLO, CUBE], ids=["yolo", "cube"])
def test_the_smaller_of_voxels_and_pixels_is_kept_and_shows_the_same(settings, spacing_mm):
    stack, voxel = smooth_stack(shape=(31, 2, 60, 64)), (33, 28, 14)
    window = Window.of(settings, spacing_mm)
    crop = window.cut(stack, voxel)
    kept = window.kept(stack, voxel)
    picture = window.picture(crop)
    assert kept.dtype == np.float16
    assert kept.size == min(crop.size, picture.size)
    place = Neighborhood(window, kept, False, np.zeros((0, 4), np.float32), 0.0)
    assert place.picture().dtype == np.float32
    np.testing.assert_allclose(place.picture(), picture, atol=1e-3)
