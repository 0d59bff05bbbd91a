"""Volumes are read once as long as they fit."""

import nibabel as nib
import numpy as np
import pytest

from cmb_autoseg import kept_volumes
from cmb_autoseg.kept_volumes import KeptVolumes


@pytest.mark.parametrize(("most_bytes", "reads"), [(None, 2), (10**6, 2), (400, 3), (0, 4)])
def test_what_fits_is_read_once(tmp_path, monkeypatch, most_bytes, reads):
    for name in "ab":
        nib.save(nib.Nifti1Image(np.full((4, 5, 5), ord(name), np.float32), np.eye(4)), tmp_path / f"{name}.nii")
    told, reading = [], kept_volumes.read_volume
    monkeypatch.setattr(
        kept_volumes, "read_volume", lambda path, dtype: told.append(path) or reading(path, dtype=dtype)
    )
    kept = KeptVolumes(most_bytes)
    for name in "abab":
        volume = kept.read(tmp_path / f"{name}.nii")
        assert (volume.data == ord(name)).all()
        with pytest.raises(ValueError, match="read-only"):
            volume.data[0] = 1
    assert len(told) == reads


def test_another_kind_of_number_is_another_volume(tmp_path):
    nib.save(nib.Nifti1Image(np.ones((3, 3, 3), np.float32), np.eye(4)), tmp_path / "a.nii")
    kept = KeptVolumes()
    kinds = [kept.read(tmp_path / "a.nii", dtype=kind).data.dtype for kind in (np.uint8, np.float32, "uint8")]
    assert kinds == [np.uint8, np.float32, np.uint8]
