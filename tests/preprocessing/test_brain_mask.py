import numpy as np
import pytest
from scipy import ndimage

from cmb_autoseg.geometry import Volume
from cmb_autoseg.preprocessing.brain_mask import classical_mask, dilate_mm, looks_stripped, support_mask

SPACING_MM = 3.0
SHAPE = (80, 88, 64)


def depth_mm(radii_mm: tuple[float, float, float]) -> np.ndarray:
    """Distance below the surface of a centred ellipsoid, negative outside; shape SHAPE."""
    i, j, k = np.meshgrid(*[(np.arange(n) - (n - 1) / 2) * SPACING_MM for n in SHAPE], indexing="ij")
    inside = (i / radii_mm[0]) ** 2 + (j / radii_mm[1]) ** 2 + (k / radii_mm[2]) ** 2 < 1
    inward = ndimage.distance_transform_edt(inside, sampling=SPACING_MM)
    outward = ndimage.distance_transform_edt(~inside, sampling=SPACING_MM)
    return np.where(inside, inward, -outward)


DEPTH = depth_mm((85.0, 105.0, 80.0))
"""Below the scalp: 0-6 mm scalp, 6-13 mm skull, then brain."""
BRAIN = DEPTH > 13
ANATOMY = np.select([DEPTH > 13, DEPTH > 6, DEPTH > 0], [100.0, 6.0, 70.0], 0.0)


def noisy(signal: np.ndarray, sigma: float, seed: int = 0) -> np.ndarray:
    """Magnitude of the signal with complex noise."""
    rng = np.random.default_rng(seed)
    return np.hypot(signal + rng.normal(0, sigma, SHAPE), rng.normal(0, sigma, SHAPE)).astype(np.float32)


def volume(data: np.ndarray) -> Volume:
    return Volume(data.astype(np.float32), np.diag([SPACING_MM] * 3 + [1.0]))


HEAD = noisy(ANATOMY, 4)
PADDED = HEAD * (np.abs(np.arange(SHAPE[0]) - 39.5) < 30)[:, None, None]

NOT_STRIPPED = {
    "noise in air": HEAD,
    "noise rounded to whole numbers": np.round(HEAD * 0.15),
    "air set to zero, skull still there": np.where(DEPTH > 0, HEAD, 0),
    "field of view padded with zeros": PADDED,
}


@pytest.mark.parametrize("kind", NOT_STRIPPED)
def test_a_head_is_not_taken_for_a_stripped_brain(kind):
    assert not looks_stripped(volume(NOT_STRIPPED[kind]))


def test_a_slab_of_a_head_is_not_taken_for_a_stripped_brain_and_a_slab_of_brain_is():
    slab = slice(26, 38)
    head, brain = (np.where(where, HEAD, 0)[:, :, slab] for where in (DEPTH > 0, BRAIN))
    assert head.astype(bool).sum() * SPACING_MM**3 / 1000 < 1000  # by its size it could be a brain
    assert not looks_stripped(volume(head))
    assert looks_stripped(volume(brain))


@pytest.mark.parametrize("background", [0.0, -1.0])
def test_a_stripped_brain_is_recognised_and_its_holes_filled(background):
    data = np.where(BRAIN, HEAD, background)
    hole = (40, 44, 32)
    data[hole] = background
    assert looks_stripped(volume(data))
    np.testing.assert_array_equal(support_mask(volume(data)), BRAIN)


def test_a_stripped_brain_cropped_to_its_box_is_recognised():
    box = tuple(slice(int(where.min()), int(where.max()) + 1) for where in np.nonzero(BRAIN))
    assert looks_stripped(volume(np.where(BRAIN, HEAD, 0)[box]))


@pytest.mark.parametrize("kind", NOT_STRIPPED)
def test_the_classical_mask_holds_the_brain_and_leaves_the_air(kind):
    mask = classical_mask(volume(NOT_STRIPPED[kind]))
    seen = BRAIN & (NOT_STRIPPED[kind] > 0) if kind == "field of view padded with zeros" else BRAIN
    assert mask[seen].all()
    assert not mask[DEPTH < -15].any()


def test_dark_tissue_far_from_the_coils_stays_in_the_classical_mask():
    shading = 1 - 0.65 * np.exp(-((np.maximum(100 - DEPTH, 0) / 60) ** 2))
    assert classical_mask(volume(HEAD * shading))[BRAIN].all()


@pytest.mark.parametrize("slices", [slice(None), slice(26, 38)])
def test_a_large_old_bleed_stays_in_the_classical_mask(slices):
    i, j, k = np.indices(SHAPE)
    bleed = ((i - 40) ** 2 + (j - 52) ** 2 + (k - 32) ** 2) * SPACING_MM**2 < 25**2
    data = np.where(bleed, HEAD * 0.04, HEAD)[:, :, slices]
    assert classical_mask(volume(data))[BRAIN[:, :, slices]].all()


def test_a_tight_crop_without_air_is_brain_all_over():
    rng = np.random.default_rng(0)
    crop = rng.normal(100, 10, (30, 30, 20))
    crop[12:15, :, :] = 30  # a vein
    assert classical_mask(volume(crop)).all()


@pytest.mark.parametrize("scale", [1e-5, 1e4])
def test_the_classical_mask_does_not_depend_on_the_intensity_scale(scale):
    np.testing.assert_array_equal(classical_mask(volume(HEAD * scale)), classical_mask(volume(HEAD)))


def test_dilation_is_measured_in_millimetres():
    mask = np.zeros((9, 9, 9), dtype=bool)
    mask[4, 4, 4] = True
    grown = dilate_mm(mask, 2.0, (0.5, 1.0, 4.0))
    assert sorted(set(np.argwhere(grown)[:, 0])) == list(range(9))  # 4 voxels of 0.5 mm each way
    assert sorted(set(np.argwhere(grown)[:, 1])) == [2, 3, 4, 5, 6]
    assert sorted(set(np.argwhere(grown)[:, 2])) == [4]
    assert not dilate_mm(np.zeros((3, 3, 3), dtype=bool), 2.0, (1, 1, 1)).any()
