import numpy as np

from cmb_autoseg.geometry import Volume
from cmb_autoseg.preprocessing.slices import slice_input, with_neighbors
from cmb_autoseg.records import Role
from cmb_autoseg.trainers.recipe import PictureSettings


def volume(data):
    return Volume(data.astype(np.float32), np.eye(4))


def test_rows_are_the_second_axis_and_a_missing_sequence_is_blank():
    data = np.ones((20, 30, 4))
    data[3, 8, 2] = 5
    made = slice_input({Role.SWI: volume(data)}, (Role.QSM, Role.SWI), PictureSettings(fit="pad"), (30, 30))
    assert made.data.shape == (4, 2, 30, 30)
    assert not made.data[:, 0].any()
    assert tuple(np.argwhere(made.data[:, 1] == 1)[0]) == (2, 8, 3 + 5)


def test_another_size_than_the_settings_own():
    made = slice_input({Role.SWI: volume(np.ones((20, 30, 2)))}, (Role.SWI,), PictureSettings(), (12, 12))
    assert made.data.shape == (2, 1, 12, 12)


def test_neighbors_come_from_the_lowest_and_are_blank_beyond_the_scan():
    data = np.arange(1, 4, dtype=np.float16)[:, None, None, None] * np.array([1, 10])[:, None, None] * np.ones((2, 2))
    shown = with_neighbors(data, 0, 1)
    assert shown.dtype == np.float32
    np.testing.assert_array_equal(shown[:, 0, 0], [0, 0, 1, 10, 2, 20])
    np.testing.assert_array_equal(with_neighbors(data, 2, 2)[:, 0, 0], [1, 10, 2, 20, 3, 30, 0, 0, 0, 0])
    np.testing.assert_array_equal(with_neighbors(data, 1, 0), data[1])
