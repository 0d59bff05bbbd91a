import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, inv_ornt_aff

from cmb_autoseg.geometry import Volume, to_canonical
from cmb_autoseg.reporting.slices import stored_slice


@pytest.mark.parametrize(("axes", "axis"), [("RAS", 2), ("LPI", 2), ("PIR", 1), ("SRA", 0)])
def test_an_axial_slice_is_told_as_the_file_counts_it(axes, axis):
    shape = (4, 5, 6)
    data = np.zeros(shape)
    where = [slice(None)] * 3
    where[axis] = 1
    data[tuple(where)] = 1
    affine = inv_ornt_aff(axcodes2ornt(axes), shape)
    stored = Volume(data, np.linalg.inv(affine))
    assert "".join(nib.aff2axcodes(stored.affine)) == axes
    (k,) = np.flatnonzero(to_canonical(stored).data.any(axis=(0, 1)))
    assert stored_slice(stored, int(k)) == ("ijk"[axis], 1)
