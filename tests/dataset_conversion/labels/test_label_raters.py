"""Several readers, other grids, and readings without microbleeds."""

import nibabel as nib
import numpy as np
import pytest

from cmb_autoseg.dataset_conversion.labels import read_label
from cmb_autoseg.errors import GeometryError, InputError
from cmb_autoseg.records import LabelSource, Role

from .conftest import components, grid_of, write

GRID = grid_of("oblique")


def mask(path, voxels, grid=GRID):
    data = np.zeros(grid.shape, np.uint8)
    data[tuple(np.array(voxels, dtype=int).reshape(-1, 3).T)] = 1
    nib.save(nib.Nifti1Image(data, grid.affine), path)
    return str(path)


def readers(folder, marked, combine):
    paths = {name: mask(folder / f"{name}.nii.gz", voxels) for name, voxels in marked.items()}
    return LabelSource(
        kind="mask",
        path=next(iter(paths.values())),
        raters=paths,
        combine=combine,
        values={"cmb": 1},
        resample="refuse",
    )


A = [(2, 2, 2), (3, 2, 2), (9, 9, 5)]
B = [(3, 2, 2), (4, 2, 2), (12, 3, 7)]
C = [(3, 2, 2), (12, 3, 7)]


def test_union_joins_lesions_that_meet(tmp_path):
    result = read_label(readers(tmp_path, {"a": A, "b": B, "c": C}, "union"), GRID)
    assert result.n_lesions == 3
    assert result.volume.data.sum() == 5
    assert result.notes == ("union of 3 readers, who marked 2, 2, 2 lesions: 3 lesions",)


@pytest.mark.parametrize(
    ("names", "voxels"),
    [("abc", [(3, 2, 2), (12, 3, 7)]), ("ab", [(3, 2, 2)]), ("a", A)],
)
def test_majority_is_more_than_half(names, voxels, tmp_path):
    marked = {name: {"a": A, "b": B, "c": C}[name] for name in names}
    result = read_label(readers(tmp_path, marked, "majority"), GRID)
    assert np.argwhere(result.volume.data).tolist() == sorted(map(list, voxels))
    assert f"of {len(names)} readers" in result.notes[0]


def test_points_are_drawn_before_they_are_combined(tmp_path):
    first = write(tmp_path / "a.tsv", "x\ty\tz\n5\t5\t5\n")
    second = write(tmp_path / "b.tsv", "x\ty\tz\n6\t5\t5\n12\t10\t8\n")
    settings = {"kind": "points", "space": "voxel0", "radius_mm": 1.0, "path": str(first)}
    source = LabelSource(raters={"a": str(first), "b": str(second)}, combine="union", **settings)
    assert read_label(source, GRID).n_lesions == 2
    both = source.model_copy(update={"combine": "majority"})
    assert components(read_label(both, GRID).volume).tolist() == [[5.5, 5, 5]]


def test_reviewed_is_a_label_of_zeros():
    result = read_label(LabelSource(kind="reviewed", path=""), GRID)
    assert (result.n_lesions, int(result.volume.data.sum()), result.volume.data.shape) == (0, 0, GRID.shape)


def test_lesions_in_a_case_that_is_called_free_of_them_contradict(tmp_path):
    source = LabelSource(kind="mask", path=mask(tmp_path / "m.nii.gz", A), values={"cmb": 1}, reviewed=True)
    with pytest.raises(InputError, match=r"m.nii.gz: marks 2 lesions, but labels.no_cmb says that this case has none"):
        read_label(source, GRID)
    empty = source.model_copy(update={"path": mask(tmp_path / "e.nii.gz", [])})
    assert read_label(empty, GRID).n_lesions == 0


@pytest.mark.parametrize("kind", ["mask", "points"])
def test_marks_on_the_grid_of_another_sequence_stay_there(kind, tmp_path):
    t1 = grid_of("flipped", (8, 9, 7), "t1.nii.gz")
    if kind == "mask":
        marks = {"path": mask(tmp_path / "m.nii.gz", [(4, 5, 6)], t1), "values": {"cmb": 1}}
    else:
        table = write(tmp_path / "p.tsv", "x\ty\tz\n4\t5\t6\n")
        marks = {"path": str(table), "space": "voxel0", "radius_mm": 0.1}
    source = LabelSource(kind=kind, grid=Role.T1, **marks)
    result = read_label(source, GRID, {Role.T1: t1, Role.SWI: GRID})
    assert result.grid is Role.T1
    assert np.argwhere(result.volume.data).tolist() == [[4, 5, 6]]
    np.testing.assert_array_equal(result.volume.affine, t1.affine)
    with pytest.raises(InputError, match=r"marks lie on t1, which this case has not; check labels.cmb.grid"):
        read_label(source, GRID, {Role.SWI: GRID})
    if kind == "mask":
        with pytest.raises(GeometryError, match=r"differs from t1\.nii\.gz"):
            read_label(source, GRID, {Role.T1: grid_of("flipped", (8, 9, 8), "t1.nii.gz")})


def test_a_label_of_this_scan_has_no_other_grid(tmp_path):
    source = LabelSource(kind="mask", path=mask(tmp_path / "m.nii.gz", A), values={"cmb": 1})
    assert read_label(source, GRID).grid is None


def test_resampling_keeps_lesions_on_an_oblique_grid(tmp_path):
    fine = grid_of("oblique", (32, 28, 10))
    fine.affine[:3, :2] /= 2
    voxels = [(5, 5, 2), (15, 9, 6), (24, 20, 8)]
    source = LabelSource(
        kind="mask", path=mask(tmp_path / "m.nii.gz", voxels, fine), values={"cmb": 1}, resample="nearest"
    )
    result = read_label(source, GRID)
    assert result.n_lesions == 3
    assert np.abs(components(result.volume) - np.array(voxels) * (0.5, 0.5, 1)).max() <= 0.5 + 1e-6
    assert "3 lesions kept" in result.notes[0]
