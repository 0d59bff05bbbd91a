"""A made-up aseg: an ellipsoidal brain with deep structures where MNI152 has them, nine tenths of its size."""

from functools import cache

import nibabel as nib
import numpy as np
import pytest
import torch

from cmb_autoseg.errors import InputError
from cmb_autoseg.simulation.anatomy.freesurfer import MNI_LANDMARKS, tissue_table
from cmb_autoseg.simulation.anatomy.head import build_head
from cmb_autoseg.simulation.anatomy.label_files import find_label_maps, load_label_map
from cmb_autoseg.simulation.anatomy.person import Person
from cmb_autoseg.simulation.anatomy.shapes import Ellipsoid, paint
from cmb_autoseg.simulation.grids import Grid

STEP_MM = 1.6
SHIFT_MM = np.array([4.0, 20.0, -6.0])
TO_MNI = np.diag([1 / 0.9, 1 / 0.9, 1 / 0.9, 1.0])
TO_MNI[:3, 3] = -SHIFT_MM / 0.9


@cache
def labels():
    """Codes and affine (right, front, top)."""
    grid = Grid((92, 108, 92), (STEP_MM,) * 3, tuple(np.array([-72.0, -104.0, -70.0]) + SHIFT_MM))
    x = (grid.axes_mm(torch.device("cpu"))[0].numpy() - SHIFT_MM[0])[:, None, None]

    def inside(centre, axes):
        return paint([Ellipsoid(centre, axes)], grid, TO_MNI).numpy() > 0.5

    codes = np.zeros(grid.shape, np.int16)
    codes[inside((0, -18, 10), (70, 87, 66))] = 3
    codes[inside((0, -18, 10), (58, 74, 54))] = 2
    codes[(codes > 0) & (x > 0)] += 39
    codes[inside((0, -62, -38), (46, 26, 18))] = 8
    codes[inside((0, -28, -40), (11, 10, 24))] = 16
    codes[inside((12, -10, 20), (6, 26, 7))] = 43
    codes[inside((-12, -10, 20), (6, 26, 7))] = 4
    for members, centre in MNI_LANDMARKS.items():
        codes[inside(centre, (5, 6, 5))] = members[0]
    return codes, grid.affine


def write(path, codes, affine):
    nib.save(nib.Nifti1Image(codes, affine), path)
    return path


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return load_label_map(write(tmp_path_factory.mktemp("labels") / "aseg.nii.gz", *labels()))


def centre_mni(template, name):
    """Middle of a structure's right half in MNI152 millimetres."""
    structure = template.structures[name]
    voxels = torch.nonzero(structure.map > 128).numpy()
    points = structure.grid.to_mm(voxels) @ TO_MNI[:3, :3].T + TO_MNI[:3, 3]
    return points[points[:, 0] > 0].mean(axis=0)


def test_structures_that_the_labels_lack_lie_where_mni_has_them(template):
    np.testing.assert_allclose(centre_mni(template, "pallidum"), (19.5, -4, -1), atol=1.5)
    np.testing.assert_allclose(centre_mni(template, "red nucleus"), (5, -20.5, -9), atol=4)
    np.testing.assert_allclose(centre_mni(template, "dentate"), (16, -58, -35), atol=5)


def test_a_head_of_plain_brain_labels_gets_a_skull_and_keeps_its_size(template, tiny):
    codes, _ = labels()
    head = build_head(template, Person(60, "F", atrophy=template.atrophy), tiny, torch.device("cpu"), 2.0)

    expected = (np.isin(codes, (2, 3, 41, 42, 8, 16)) | (codes >= 10) & (codes < 60)).sum() * STEP_MM**3
    assert float((head.grey + head.white).sum()) * 8 == pytest.approx(expected, rel=0.08)
    assert float(head.bone.sum()) * 8e-3 > 200
    total = sum(getattr(head, name) for name in ("grey", "white", "fluid", "bone", "soft", "air", "blood"))
    assert total.max() < 1.02
    assert set(head.regions.unique().tolist()) == {0, 1, 2, 3}
    middle = torch.nonzero(head.landmarks["ventricles"]).float().mean(dim=0).long().tolist()
    assert head.mni_mm[:, middle[0], middle[1], middle[2]].abs().max() < 40


def test_orientation_of_the_file_does_not_matter(template, tmp_path):
    codes, affine = labels()
    image = nib.Nifti1Image(codes, affine)
    turn = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt("PIL"))
    nib.save(image.as_reoriented(turn), tmp_path / "turned.nii.gz")

    turned = load_label_map(tmp_path / "turned.nii.gz")

    assert (turned.maps.int() - template.maps.int()).abs().max() <= 1  # sums in another order
    np.testing.assert_allclose(turned.to_mni, template.to_mni, atol=0.02)


def test_labels_outside_the_brain_are_taken_and_a_few_unknown_ones_are_soft_tissue(tmp_path, capsys):
    codes, affine = labels()
    head = codes.copy()
    head[2:-2, 2:-2, 2:-2][head[2:-2, 2:-2, 2:-2] == 0] = 507
    head[20:24, 50:54, 2:12] = 0  # an unlabelled airway
    head[30:34, 50:54, 4:12] = 515
    head[2:5, 2:10, 2:10] = 9000

    found = load_label_map(write(tmp_path / "head.nii.gz", head, affine))

    bone, soft, air = (found.maps[index].float().sum() / 255 * STEP_MM**3 for index in (3, 4, 5))
    assert float(bone) == pytest.approx(4 * 4 * 8 * STEP_MM**3, rel=0.1)
    assert float(soft) > 1e5
    assert float(air) > 100
    assert "head.nii.gz: unknown label codes 9000 are taken as soft tissue" in capsys.readouterr().err


def test_parcels_are_cortex_and_its_white_matter():
    assert tissue_table(np.array([1002, 2035, 3001, 4034, 11101, 5001, 0, 9999])) == [
        *("grey", "grey", "white", "white", "grey", "white"),
        None,
        None,
    ]


def unknown(share):
    codes, affine = labels()
    codes = codes.copy()
    there = np.flatnonzero(codes == 2)
    codes.reshape(-1)[there[: int(share * np.count_nonzero(codes))]] = 9000
    return codes, affine


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: (labels()[0] * 0.37, labels()[1]), "not whole numbers"),
        (lambda: (labels()[0] * 1000.0, labels()[1]), "no label map: it has values from 0 to"),
        (lambda: (np.stack([labels()[0]] * 2, axis=3), labels()[1]), "has 4 axes"),
        (lambda: (np.zeros((60, 60, 60), np.int16), np.eye(4)), "hold 0 ml of grey and white matter"),
        (lambda: (labels()[0][40:44, 40:44, 40:44], labels()[1]), "ml of grey and white matter"),
        (lambda: (labels()[0], labels()[1] @ np.diag([3, 3, 3, 1])), "voxels of 4.80 x 4.80 x 4.80 mm"),
        (lambda: unknown(0.2), "unknown labels 9000 fill"),
        (lambda: (np.where(np.isin(labels()[0], (2, 3)), labels()[0], 0), labels()[1]), "deep structures"),
    ],
)
def test_a_bad_label_map_is_refused_in_one_line(make, message, tmp_path):
    path = write(tmp_path / "bad.nii.gz", *make())

    with pytest.raises(InputError, match=message) as caught:
        load_label_map(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_image_is_refused(tmp_path):
    (tmp_path / "aseg.nii.gz").write_bytes(b"not an image")

    with pytest.raises(InputError, match="cannot be read as an image"):
        load_label_map(tmp_path / "aseg.nii.gz")


def test_folder_of_label_maps(tmp_path):
    for name in ("b.nii.gz", "a.mgz", "notes.txt", ".hidden.nii"):
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()

    assert [path.name for path in find_label_maps(tmp_path)] == ["a.mgz", "b.nii.gz"]
    with pytest.raises(InputError, match="holds no label map"):
        find_label_maps(tmp_path / "empty")
    with pytest.raises(InputError, match="is not a folder"):
        find_label_maps(tmp_path / "absent")
