from dataclasses import replace

import numpy as np
import pytest

from cmb_autoseg.records import Role
from cmb_autoseg.trainers.recipe import SliceAugmentationSettings
from cmb_autoseg.trainers.slices.augmentation import SliceAugmentation

ROLES = (Role.SWI, Role.T1, Role.QSM)
SIZE = (40, 56)
STILL = {"channel_dropout": 0.0}


def drawn(seed=0, **settings):
    augmentation = SliceAugmentation(SliceAugmentationSettings(**{**STILL, **settings}), ROLES)
    return augmentation.draw(np.random.default_rng(seed), SIZE)


def blob(x, y, radius=2.5):
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * radius**2)).astype(np.float32)


def centre_of(picture):
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return [(columns * picture).sum() / picture.sum(), (rows * picture).sum() / picture.sum()]


def test_nothing_is_changed_without_settings():
    change = drawn()
    picture = np.random.default_rng(1).random((6, *SIZE)).astype(np.float32)
    np.testing.assert_array_equal(change.image(picture), picture)
    boxes = np.array([[1, 2, 5, 9]], np.float32)
    np.testing.assert_array_equal(change.boxes(boxes), boxes)


@pytest.mark.parametrize("seed", range(6))
def test_picture_mask_and_box_move_alike(seed):
    change = drawn(
        seed,
        flip=("coronal", "sagittal"),
        rotation_degrees=40,
        translation_pixels=6,
        zoom=(0.8, 1.25),
    )
    x, y = 31.0, 17.0
    picture = np.stack([blob(x, y)] * 3)
    moved = change.image(picture)
    middle = change.boxes(np.array([[x - 3, y - 3, x + 3, y + 3]], np.float32))[0].reshape(2, 2).mean(axis=0)
    np.testing.assert_allclose(centre_of(moved[0]), middle, atol=0.1)
    mask = change.mask((picture[0] > 0.5).astype(np.uint8))
    np.testing.assert_allclose(centre_of(mask), middle, atol=0.5)
    assert set(np.unique(mask)) == {0, 1}


def test_a_box_becomes_the_bounding_box_of_its_turned_ellipse():
    change = replace(drawn(), matrix=np.array([[0.0, -1.0], [1.0, 0.0]]))  # 90 degrees
    middle = (np.array(SIZE[::-1]) - 1) / 2
    box = np.array([[middle[0] - 8, middle[1] - 2, middle[0] + 8, middle[1] + 2]], np.float32)
    np.testing.assert_allclose(
        change.boxes(box), [[middle[0] - 2, middle[1] - 8, middle[0] + 2, middle[1] + 8]], atol=1e-5
    )
    turn = np.deg2rad(45)
    oblique = replace(change, matrix=np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]))
    half = np.sqrt((8**2 + 2**2) / 2)
    np.testing.assert_allclose(oblique.boxes(box), [[*(middle - half), *(middle + half)]], atol=1e-5)
    circle = np.array([[middle[0] - 3, middle[1] - 3, middle[0] + 3, middle[1] + 3]], np.float32)
    np.testing.assert_allclose(oblique.boxes(circle), circle, atol=1e-5)


def test_boxes_that_leave_the_picture_are_left_out_and_others_cut():
    change = replace(drawn(), matrix=np.eye(2), shift=np.array([30.0, 0.0]))
    boxes = np.array([[40, 5, 44, 9], [20, 5, 28, 9], [0, 5, 4, 9]], np.float32)
    np.testing.assert_allclose(change.boxes(boxes), [[50, 5, 55.5, 9], [30, 5, 34, 9]])
    assert change.boxes(np.zeros((0, 4), np.float32)).shape == (0, 4)


def test_the_publications_flip_swaps_front_and_back():
    change = next(change for change in (drawn(seed, flip=("coronal",)) for seed in range(20)) if change.flips)
    picture = np.random.default_rng(0).random((3, *SIZE)).astype(np.float32)
    np.testing.assert_array_equal(change.image(picture), picture[:, ::-1])
    np.testing.assert_allclose(change.boxes(np.array([[1, 2, 5, 9]], np.float32)), [[1, 30, 5, 37]])


def test_grey_values_change_alike_in_all_slices_of_a_sequence():
    change = drawn(intensity_probability=1.0, intensity=(1.2, 1.5))
    picture = np.random.default_rng(0).random((9, *SIZE)).astype(np.float32)
    picture[:, :5] = 0
    factors = (change.image(picture) / np.where(picture, picture, 1)).reshape(3, 3, *SIZE)[..., 5:, :]
    np.testing.assert_allclose(factors, np.broadcast_to(factors[:1, :, :1, :1], factors.shape), rtol=1e-5)
    assert ((factors >= 1.2 - 1e-5) & (factors <= 1.5 + 1e-5)).all()
    assert len(np.unique(factors[0, :, 0, 0])) == 3


def test_blur_keeps_the_mean_and_lowers_the_spread():
    change = drawn(intensity_probability=1.0, blur_pixels=2.0)
    picture = np.random.default_rng(0).random((3, *SIZE)).astype(np.float32)
    blurred = change.image(picture)
    assert blurred.std() < 0.7 * picture.std()
    assert blurred.mean() == pytest.approx(picture.mean(), rel=0.02)


def test_one_sequence_in_which_microbleeds_show_always_stays():
    picture = np.ones((6, *SIZE), np.float32)
    picture[[2, 5]] = 0  # QSM, missing
    for seed in range(30):
        kept = drawn(seed, channel_dropout=0.9).image(picture).any(axis=(1, 2))
        assert kept[0]
        assert not kept[2]
        assert (kept[:3] == kept[3:]).all()
    full = np.ones((3, *SIZE), np.float32)
    kept = np.stack([drawn(seed, channel_dropout=0.9).image(full).any(axis=(1, 2)) for seed in range(60)])
    assert (kept[:, 0] | kept[:, 2]).all()
    assert not kept[:, 1].all()
    assert kept[:, 2].any()
    assert not kept[:, 2].all()


def test_draws_hang_on_the_generator_alone():
    settings = {"rotation_degrees": 20, "flip": ("sagittal",), "intensity": (0.8, 1.2)}
    picture = np.random.default_rng(0).random((3, *SIZE)).astype(np.float32)
    first, again = (drawn(4, **settings).image(picture) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (drawn(5, **settings).image(picture) != first).any()
