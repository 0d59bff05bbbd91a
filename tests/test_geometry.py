"""Reading and writing of volumes; how they are used is tested with the stages."""

import warnings

import nibabel as nib
import numpy as np
import pytest

from cmb_autoseg import geometry
from cmb_autoseg.geometry import from_canonical, read_volume, to_canonical, write_volume


def oblique(flip=(1, 1, 1)):
    angle = np.deg2rad(12)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine[:3, :3] = affine[:3, :3] @ np.diag(np.multiply((0.7, 0.8, 2.5), flip))
    affine[:3, 3] = (-20, 31, 7)
    return affine


def test_free_text_that_may_name_a_person_is_not_handed_on(tmp_path):
    image = nib.Nifti1Image(np.random.default_rng(0).random((5, 6, 7), dtype=np.float32), oblique())
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"DOE^JOHN"))
    for field in ("descrip", "db_name", "aux_file", "intent_name"):
        image.header[field] = b"DOE^JOHN"
    nib.save(image, tmp_path / "in.nii")
    volume = read_volume(tmp_path / "in.nii")
    write_volume(tmp_path / "out.nii", volume, np.float32)
    assert b"DOE" in (tmp_path / "in.nii").read_bytes()
    assert b"DOE" not in (tmp_path / "out.nii").read_bytes()
    again = read_volume(tmp_path / "out.nii")
    assert np.array_equal(again.data, volume.data)
    assert np.array_equal(again.affine, volume.affine)
    assert len(volume.header.extensions) == 1


@pytest.mark.parametrize("flip", [(1, 1, 1), (-1, 1, 1), (1, -1, -1)])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_canonical_axes_keep_every_voxel_in_its_place_and_are_undone(tmp_path, flip, order):
    affine = oblique(flip)
    affine[:3, :3] = affine[:3, order]
    data = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)
    nib.save(nib.Nifti1Image(data, affine), tmp_path / "in.nii.gz")
    volume = read_volume(tmp_path / "in.nii.gz")
    upright = to_canonical(volume)
    assert nib.aff2axcodes(upright.affine) == ("R", "A", "S")
    for value in (0, 17, 119):
        there, here = (np.argwhere(v.data == value).astype(float) for v in (upright, volume))
        assert np.allclose(upright.to_ras_mm(there), volume.to_ras_mm(here), atol=1e-4)
    assert np.array_equal(from_canonical(upright.data, volume), volume.data)


def test_threads_that_want_silence_at_once_leave_everything_as_it_was():
    """Blocks of two threads overlap without one lying in the other."""
    filters, one, other = list(warnings.filters), geometry.quiet(), geometry.quiet()
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    assert geometry.NIBABEL_LOG.disabled
    other.__exit__(None, None, None)
    assert not geometry.NIBABEL_LOG.disabled
    assert warnings.filters == filters
