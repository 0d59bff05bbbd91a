"""Headers that leave open, or say twice, how a scan lies in the head."""

import nibabel as nib
import numpy as np
import pytest

from cmb_autoseg.geometry import read_volume
from cmb_autoseg.preprocessing.checks import orientation_warnings
from cmb_autoseg.records import Role


@pytest.mark.parametrize(
    ("qform_mm", "codes", "expected"),
    [
        (0.0, (1, 1), None),
        (0.5, (1, 1), None),
        (3.0, (1, 1), "qform and sform of a.nii place a corner 3.0 mm apart; the sform is used"),
        (3.0, (0, 1), None),
        (3.0, (1, 0), None),
        (0.0, (0, 0), "a.nii does not say how it lies in the head (qform and sform code 0)"),
    ],
)
def test_qform_and_sform(qform_mm, codes, expected, tmp_path):
    image = nib.Nifti1Image(np.ones((4, 5, 6), np.float32), np.eye(4))
    shifted = np.eye(4)
    shifted[0, 3] = qform_mm
    image.set_qform(shifted, codes[0])
    image.set_sform(np.eye(4), codes[1])
    nib.save(image, tmp_path / "a.nii")
    found = orientation_warnings(Role.SWI, read_volume(tmp_path / "a.nii"))
    assert len(found) == (expected is not None)
    assert expected is None or expected in found[0]
