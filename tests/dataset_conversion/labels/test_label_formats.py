"""Masks in every format of scans, and labels in archives."""

import zipfile

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from cmb_autoseg.dataset_conversion.labels import read_label
from cmb_autoseg.errors import InputError
from cmb_autoseg.records import LabelSource

from .conftest import boxes, components, grid_of, voc, write, yolo

GRID = grid_of("oblique")
DATA = np.zeros(GRID.shape, np.uint8)
DATA[3, 4, 5], DATA[9:11, 8, 2] = 1, 1


def test_a_mask_in_matlab_lies_on_its_scan(tmp_path):
    savemat(tmp_path / "m.mat", {"mask": DATA, "other": np.ones((2, 2))})
    source = LabelSource(kind="mask", path=str(tmp_path / "m.mat"), values={"cmb": 1}, variable="mask")
    result = read_label(source, GRID)
    np.testing.assert_array_equal(result.volume.data, DATA)
    assert result.n_lesions == 2


def test_a_mask_in_metaimage(tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    nib.save(nib.Nifti1Image(DATA, GRID.affine), tmp_path / "m.nii.gz")
    sitk.WriteImage(sitk.ReadImage(str(tmp_path / "m.nii.gz")), str(tmp_path / "m.mha"))
    result = read_label(LabelSource(kind="mask", path=str(tmp_path / "m.mha"), values={"cmb": 1}), GRID)
    np.testing.assert_array_equal(result.volume.data, DATA)


def test_masks_as_pictures_of_slices(tmp_path):
    files = [""] * GRID.shape[2]
    for k in (2, 5):
        Image.fromarray(np.ascontiguousarray(255 * DATA[:, :, k].T)).save(tmp_path / f"{k}.png")
        files[k] = str(tmp_path / f"{k}.png")
    source = LabelSource(kind="mask", path=str(tmp_path), files=tuple(files), values={"cmb": 255})
    np.testing.assert_array_equal(read_label(source, GRID).volume.data, DATA)


def test_labels_in_archives(tmp_path):
    nib.save(nib.Nifti1Image(DATA, GRID.affine), tmp_path / "m.nii.gz")
    box = ((3, 4, 5), (3, 4, 5))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "m.nii.gz", "x/m.nii.gz")
        archive.writestr("p.tsv", "x\ty\tz\n3\t4\t5\n")
        archive.writestr("b.txt", yolo([box]))
        archive.writestr("b.xml", voc([box]))
    inside = f"{tmp_path / 'a.zip'}!/"
    assert read_label(LabelSource(kind="mask", path=inside + "x/m.nii.gz", values={"cmb": 1}), GRID).n_lesions == 2
    point = LabelSource(kind="points", path=inside + "p.tsv", space="voxel0", radius_mm=0.1)
    for source in (point, boxes(inside + "b.txt", "yolo"), boxes(inside + "b.xml", "voc")):
        assert components(read_label(source, GRID).volume).tolist() == [[3, 4, 5]]
    with pytest.raises(InputError, match=r"a\.zip!/q\.tsv: no such member"):
        read_label(point.model_copy(update={"path": inside + "q.tsv"}), GRID)


@pytest.mark.parametrize("suffix", [".nii.gz", ".mat", ".tsv", ".xlsx", ".json", ".txt"])
def test_a_file_that_is_gone_is_told(suffix, tmp_path):
    path = tmp_path / f"gone{suffix}"
    kind = {".nii.gz": "mask", ".txt": "boxes"}.get(suffix, "points")
    marks = {"values": {"cmb": 1}} | ({"format": "yolo"} if kind == "boxes" else {})
    with pytest.raises(InputError, match="gone"):
        read_label(LabelSource(kind=kind, path=str(path), **marks), GRID)


def test_a_mask_of_another_shape_in_a_format_without_geometry(tmp_path):
    savemat(tmp_path / "m.mat", {"mask": DATA[:-1]})
    with pytest.raises(InputError, match=r"m\.mat: shape \(15, 14, 10\) differs from scan\.nii\.gz"):
        read_label(LabelSource(kind="mask", path=str(tmp_path / "m.mat"), values={"cmb": 1}), GRID)
    write(tmp_path / "bad.mat", "nonsense" * 30)
    with pytest.raises(InputError, match=r"bad\.mat: not readable as a \.mat file"):
        read_label(LabelSource(kind="mask", path=str(tmp_path / "bad.mat"), values={"cmb": 1}), GRID)
