import numpy as np
import pytest
import SimpleITK
from scipy import ndimage

from cmb_autoseg.errors import GeometryError
from cmb_autoseg.geometry import Volume
from cmb_autoseg.preprocessing.resampling import resample_brain, resample_image, resample_lesions_to

CONNECTED_26 = np.ones((3, 3, 3))


def turn(degrees, axis=2):
    angle = np.deg2rad(degrees)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(4)
    matrix[[i, i, j, j], [i, j, i, j]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
    return matrix


def grid(shape, spacing, turned=None, centre=(0.0, 0.0, 0.0), dtype=np.float32):
    """A volume of zeros whose middle lies at `centre`."""
    affine = (np.eye(4) if turned is None else turned) @ np.diag([*spacing, 1.0])
    affine[:3, 3] = np.array(centre) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Volume(np.zeros(shape, dtype), affine, name="grid")


def itk_image(volume):
    spacing = np.array(volume.spacing_mm)
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(volume.data.transpose(2, 1, 0)))
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(volume.affine[:3, 3].tolist())
    image.SetDirection((volume.affine[:3, :3] / spacing).ravel().tolist())
    return image


def count(mask):
    return ndimage.label(mask, CONNECTED_26)[1]


def test_the_same_grid_keeps_every_bit_and_takes_the_reference_header():
    rng = np.random.default_rng(0)
    volume = grid((5, 6, 7), (0.7, 0.8, 2.0), turn(7))
    volume = volume.with_data(rng.random(volume.shape).astype(np.float32))
    assert np.array_equal(resample_image(volume, grid((5, 6, 7), (0.7, 0.8, 2.0), turn(7))).data, volume.data)


def test_oblique_resampling_equals_itk_inside_the_field_of_view():
    rng = np.random.default_rng(1)
    volume = grid((24, 22, 12), (1.0, 1.1, 2.0), turn(12) @ turn(-5, 0))
    volume = volume.with_data(ndimage.gaussian_filter(rng.random(volume.shape), 1).astype(np.float32))
    reference = grid((30, 28, 26), (0.9, 0.9, 1.0), turn(-8, 1), centre=(1.0, -2.0, 0.5))
    matrix = turn(4, 1)
    matrix[:3, 3] = 0.7, -1.2, 0.4

    transform = SimpleITK.AffineTransform(3)  # both sides in one frame, so that RAS stands for ITK's LPS
    transform.SetMatrix(matrix[:3, :3].ravel().tolist())
    transform.SetTranslation(matrix[:3, 3].tolist())
    expected = SimpleITK.Resample(itk_image(volume), itk_image(reference), transform, SimpleITK.sitkLinear, 0.0)

    got = resample_image(volume, reference, matrix)
    assert got.data.dtype == np.float32
    assert np.allclose(got.data, SimpleITK.GetArrayFromImage(expected).transpose(2, 1, 0), atol=1e-5)
    assert (got.data == 0).any()
    assert (got.data != 0).mean() > 0.2


def test_a_coarser_grid_takes_means_so_that_fine_stripes_become_grey():
    volume = grid((8, 8, 24), (1.0, 1.0, 1.0))
    stripes = np.zeros(volume.shape, np.float32)
    stripes[:, :, 1::3] = 3.0  # exactly where centres of slices of 3 mm lie
    moved = resample_image(volume.with_data(stripes), grid((8, 8, 8), (1.0, 1.0, 3.0)))
    assert np.allclose(moved.data, 1.0, atol=1e-5)
    blocks = np.random.default_rng(2).random((8, 8, 24)).astype(np.float32)
    moved = resample_image(volume.with_data(blocks), grid((2, 8, 8), (4.0, 1.0, 3.0)))
    assert np.allclose(moved.data, blocks.reshape(2, 4, 8, 8, 3).mean(axis=(1, 4)), atol=1e-5)


def test_outside_is_zero_and_the_outermost_voxels_reach_half_a_voxel_out():
    volume = grid((4, 4, 4), (2.0, 2.0, 2.0))
    volume = volume.with_data(np.full(volume.shape, 5.0, np.float32))
    moved = resample_image(volume, grid((12, 12, 12), (1.0, 1.0, 1.0)))
    assert np.array_equal(moved.data[2:-2, 2:-2, 2:-2], np.full((8, 8, 8), 5.0, np.float32))
    moved.data[2:-2, 2:-2, 2:-2] = 0
    assert not moved.data.any()


def test_brain_mask_keeps_its_volume_and_place():
    mask = grid((40, 40, 40), (1.0, 1.0, 1.0), dtype=np.uint8)
    ball = np.linalg.norm(mask.to_ras_mm(np.argwhere(mask.data == 0)) - (2, 1, 0), axis=1).reshape(mask.shape) <= 14
    shift = np.eye(4)
    shift[:3, 3] = 3.0, 0.0, -2.0  # what lies at x in the reference lies at x + shift in the mask
    reference = grid((50, 50, 20), (1.1, 0.9, 2.5), turn(6))
    moved = resample_brain(mask.with_data(ball.astype(np.uint8)), reference, shift)
    assert moved.data.dtype == np.uint8
    assert moved.data.sum() * moved.voxel_volume_mm3 == pytest.approx(ball.sum(), rel=0.01)
    assert moved.to_ras_mm(np.argwhere(moved.data)).mean(axis=0) == pytest.approx([-1, 1, 2], abs=0.1)


@pytest.mark.parametrize(
    ("shape", "spacing"), [((60, 60, 20), (1.0, 1.0, 3.0)), ((64, 54, 30), (0.9, 1.1, 2.0)), ((90, 90, 90), (0.6,) * 3)]
)
def test_every_lesion_stays_one_component_at_its_place(shape, spacing):
    rng = np.random.default_rng(3)
    label = grid((48, 48, 48), (1.0, 1.0, 1.0), turn(9) @ turn(-6, 0), dtype=np.uint8)
    for place in rng.permutation(np.stack(np.meshgrid(*[range(6, 44, 9)] * 3), -1).reshape(-1, 3))[:40]:
        size = rng.integers(1, 3, 3)
        label.data[tuple(slice(p, p + s) for p, s in zip(place, size, strict=True))] = 1
    reference = grid(shape, spacing, turn(-4, 1))
    moved, notes = resample_lesions_to(label, reference)
    assert count(moved.data) == count(label.data) == 40
    assert "40 lesions kept" in notes[0]
    before = np.array(ndimage.center_of_mass(label.data, ndimage.label(label.data, CONNECTED_26)[0], range(1, 41)))
    after = np.array(ndimage.center_of_mass(moved.data, ndimage.label(moved.data, CONNECTED_26)[0], range(1, 41)))
    distance = np.linalg.norm(label.to_ras_mm(before)[:, None] - reference.to_ras_mm(after)[None], axis=2)
    assert distance.min(axis=1).max() <= max(spacing) / 2 * np.sqrt(3)
    assert len(set(distance.argmin(axis=1))) == 40


def test_a_lesion_between_two_slices_is_kept_in_the_slice_that_holds_most_of_it():
    label = grid((9, 9, 9), (1.0, 1.0, 1.0), dtype=np.uint8)
    label.data[4, 4, 5] = 1
    reference = grid((9, 9, 3), (1.0, 1.0, 3.0))  # slices' centres at voxels 1, 4 and 7
    moved, notes = resample_lesions_to(label, reference)
    assert np.argwhere(moved.data).tolist() == [[4, 4, 1]]
    assert "1 of 1 lesions are too small" in notes[1]


def test_lesions_outside_or_merging_are_refused_by_their_place():
    label = grid((30, 30, 30), (1.0, 1.0, 1.0), dtype=np.uint8)
    label.data[15, 15, 15] = label.data[2, 2, 2] = 1
    with pytest.raises(GeometryError, match=r"1 lesion at \(-12.5, -12.5, -12.5\) mm RAS outside grid"):
        resample_lesions_to(label, grid((16, 16, 16), (1.0, 1.0, 1.0)))
    label.data[:] = 0
    label.data[15, 15, 14] = label.data[15, 15, 16] = 1
    with pytest.raises(GeometryError, match="would merge with a neighbour"):
        resample_lesions_to(label, grid((10, 10, 10), (3.0, 3.0, 3.0)))
