import time

import numpy as np
import pytest

from cmb_autoseg.geometry import Volume
from cmb_autoseg.lesions import LESION_COLUMNS, lesion_mask, tabulate
from cmb_autoseg.records import OperatingPoint


def point(threshold=0.5, min_volume_mm3=0.0):
    return OperatingPoint(name="test", threshold=threshold, min_volume_mm3=min_volume_mm3, rule="chosen by hand")


def oblique(spacing_mm, degrees=20.0, origin_mm=(-30.0, 12.0, 5.0)):
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(spacing_mm)
    affine[:3, 3] = origin_mm
    return affine


def test_place_size_and_probability_of_a_hand_counted_lesion():
    data = np.zeros((10, 10, 10), dtype=np.float32)
    data[2:4, 5, 6] = 0.6, 0.9  # centre (2.5, 5, 6)
    data[7, 7, 7] = 0.49
    volume = Volume(data, np.array([[-0.5, 0, 0, 10], [0, 0.5, 0, 20], [0, 0, 3.0, 30], [0, 0, 0, 1]]))

    table = tabulate("sub-1", volume, point())

    (lesion,) = table.lesions
    assert (lesion.x_mm, lesion.y_mm, lesion.z_mm) == (8.75, 22.5, 48)
    assert (lesion.i, lesion.j, lesion.k) == (2, 5, 6)
    assert lesion.volume_mm3 == pytest.approx(1.5)
    assert np.pi / 6 * lesion.diameter_mm**3 == pytest.approx(1.5)
    assert (lesion.prob_max, lesion.prob_mean) == (pytest.approx(0.9), pytest.approx(0.75))
    assert table.rows()[0]["case"] == "sub-1"
    assert LESION_COLUMNS[:4] == ("lesion", "x_mm", "y_mm", "z_mm")


def test_centre_on_an_oblique_anisotropic_grid_is_the_mean_of_its_voxels_in_millimetres():
    data = np.zeros((12, 12, 6), dtype=np.float32)
    data[3:6, 4:8, 2:4] = 1
    volume = Volume(data, oblique((0.45, 0.45, 4.0)))

    (lesion,) = tabulate("a", volume, point()).lesions

    mean_mm = volume.to_ras_mm(np.argwhere(data > 0)).mean(axis=0)
    assert (lesion.x_mm, lesion.y_mm, lesion.z_mm) == pytest.approx(tuple(mean_mm))
    assert lesion.volume_mm3 == pytest.approx(24 * 0.45 * 0.45 * 4)


def test_the_threshold_itself_belongs_to_the_lesion():
    volume = Volume(np.full((1, 1, 1), 0.5, dtype=np.float32), np.eye(4))

    assert len(tabulate("a", volume, point(0.5)).lesions) == 1
    assert len(tabulate("a", volume, point(0.51)).lesions) == 0


def test_components_below_the_least_volume_are_dropped_and_one_that_just_has_it_stays():
    data = np.zeros((9, 9, 9), dtype=np.float32)
    data[1, 1, 1] = data[4:6, 4, 4] = data[7, 6:9, 7] = 1
    volume = Volume(data, oblique((0.7, 0.7, 0.7)))
    two_voxels = point(min_volume_mm3=2 * 0.7**3)

    assert [round(lesion.volume_mm3 / 0.343) for lesion in tabulate("a", volume, two_voxels).lesions] == [3, 2]
    assert lesion_mask(volume, two_voxels).sum() == 5


@pytest.mark.parametrize("seed", range(3))
def test_the_mask_holds_exactly_the_lesions_of_the_table(seed):
    rng = np.random.default_rng(seed)
    volume = Volume(rng.random((14, 14, 7)).astype(np.float32) ** 25, np.diag([0.5, 0.5, 2.0, 1.0]))
    cut = point(0.3, min_volume_mm3=1.2)

    mask, table = lesion_mask(volume, cut), tabulate("a", volume, cut)

    again = tabulate("a", volume.with_data(mask), point(0.5))
    assert mask.dtype == np.uint8
    assert len(table.lesions) > 3
    place = {"prob_max", "prob_mean"}
    assert [x.model_dump(exclude=place) for x in table.lesions] == [x.model_dump(exclude=place) for x in again.lesions]


def test_a_rounding_error_above_one_is_no_failure():
    volume = Volume(np.full((1, 1, 1), 1.0000001, dtype=np.float32), np.eye(4))

    assert tabulate("a", volume, point()).lesions[0].prob_max == 1.0


def test_a_full_size_scan_takes_well_under_a_second():
    data = np.zeros((256, 256, 64), dtype=np.float32)
    data[10:250:8, 10:250:8, 5:60:9] = 0.9  # 6300 lesions
    start = time.perf_counter()

    table = tabulate("a", Volume(data, np.eye(4)), point())

    assert len(table.lesions) == 6300
    assert time.perf_counter() - start < 2.0  # leaves room for a busy machine
