import numpy as np
import pytest
from scipy import ndimage

from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import Volume
from cmb_autoseg.preprocessing.bias import correct_bias

SHAPE = (64, 72, 24)
AFFINE = np.diag([2.5, 2.5, 5.0, 1.0])


def head():
    """A ball of two tissues with noise and microbleeds, and the field that a coil at one side gives it."""
    rng = np.random.default_rng(0)
    place = (np.indices(SHAPE).T * np.diag(AFFINE)[:3]).T
    middle = np.array([80, 90, 60]).reshape(3, 1, 1, 1)
    inside = np.linalg.norm((place - middle) / np.array([70, 80, 55]).reshape(3, 1, 1, 1), axis=0) < 1
    tissue = np.where(ndimage.gaussian_filter(rng.random(SHAPE), 2.5) > 0.5, 400.0, 340.0)
    tissue[30:32, 30:32, 12] = 100.0
    field = np.exp(0.5 * np.sin(place[0] / 60) + 0.35 * np.cos(place[1] / 70) - place[2] / 300)
    clean = np.where(inside, tissue + rng.normal(0, 8, SHAPE), 0)
    return Volume((clean * field).astype(np.float32), AFFINE, name="swi.nii.gz"), inside, clean, field


def darkness(data):
    return data[30:32, 30:32, 12].mean() / np.median(data[26:36, 26:36, 12])


def test_a_known_smooth_field_is_taken_out():
    volume, inside, clean, field = head()
    corrected, figures = correct_bias(volume, inside)
    left = np.log(corrected.data[inside] / clean[inside])
    assert np.log(field[inside]).std() > 0.19
    assert left.std() < 0.02
    assert figures["spread_after"] < 0.5 * figures["spread_before"]
    assert 1.4 < figures["largest_factor"] < 1.8
    assert corrected.data[inside].mean() == pytest.approx(volume.data[inside].mean(), rel=1e-3)
    assert np.array_equal(corrected.data == 0, volume.data == 0)
    # The bleed is no field: it stays as dark against its surroundings as it was.
    assert darkness(corrected.data) == pytest.approx(darkness(clean), rel=0.02)


def test_two_runs_are_equal_to_the_byte_and_an_even_image_is_left_nearly_alone():
    volume, inside, clean, _ = head()
    even = volume.with_data(clean.astype(np.float32))
    corrected, figures = correct_bias(even, inside)
    assert correct_bias(even, inside)[0].data.tobytes() == corrected.data.tobytes()
    assert np.log(corrected.data[inside] / clean[inside]).std() < 0.03
    assert figures["largest_factor"] < 1.15


def test_an_empty_mask_is_refused():
    volume, inside, *_ = head()
    with pytest.raises(InputError, match="too few bright voxels for N4"):
        correct_bias(volume, np.zeros_like(inside))
