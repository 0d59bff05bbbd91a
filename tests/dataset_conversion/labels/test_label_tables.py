"""Points in spreadsheets, MATLAB files and tables of many cases."""

import contextlib

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from cmb_autoseg.dataset_conversion.labels import no_lesion_warning, read_label
from cmb_autoseg.errors import InputError
from cmb_autoseg.records import LabelSource, TableRows

from .conftest import components, grid_of, workbook, write

GRID = grid_of("flipped")
WIDE = TableRows(column="NIFTI File Name", equals="b.nii.gz", wide=True)
SCANS = [
    (None, None),
    ("NIFTI File Name", "x1", "y1", "z1", "x2", "y2", "z2"),
    ("a.nii.gz", 3, 3, 3),
    (" b.nii.gz ", 4, 5, 6, "10", " 11 ", 2.0, None, ""),
    ("c.nii.gz",),
]


def points(path, **settings):
    return LabelSource(kind="points", path=str(path), **{"space": "voxel1", "radius_mm": 0.5, **settings})


def found(source):
    return components(read_label(source, GRID).volume).tolist()


def test_wide_rows_of_a_spreadsheet(tmp_path):
    path = workbook(tmp_path / "all.xlsx", SCANS)
    assert found(points(path, rows=WIDE)) == [[3, 4, 5], [9, 10, 1]]
    assert found(points(path, rows=WIDE.model_copy(update={"equals": "c.nii.gz"}))) == []


def test_a_sheet_by_name(tmp_path):
    path = workbook(tmp_path / "p.xlsx", [("x", "y", "z"), (4, 5, 6)], sheet="CMB")
    assert found(points(path, sheet="CMB")) == found(points(path)) == [[3, 4, 5]]
    with pytest.raises(InputError, match=r"no sheet 'Other' \(there: CMB\); correct labels.cmb.sheet"):
        read_label(points(path, sheet="Other"), GRID)


def test_long_rows_of_many_cases(tmp_path):
    text = "scan,x,y,z\n1001,4,5,6\n1002,1,1,1\n1001,10,11,2\n1003,n/a,n/a,n/a\n"
    path = write(tmp_path / "all.csv", text)
    for equals, expected in (("1001", [[3, 4, 5], [9, 10, 1]]), ("1003", [])):
        assert found(points(path, rows=TableRows(column="scan", equals=equals))) == expected
    numbers = workbook(tmp_path / "all.xlsx", [("scan", "x", "y", "z"), (1001, 4, 5, 6), (1001.0, 10, 11, 2)])
    assert len(found(points(numbers, rows=TableRows(column="scan", equals="1001")))) == 2
    listed = write(
        tmp_path / "all.json", '[{"scan": 1001.0, "x": 4, "y": 5, "z": 6}, {"scan": 2, "x": 1, "y": 1, "z": 1}]'
    )
    assert found(points(listed, rows=TableRows(column="scan", equals="1001"))) == [[3, 4, 5]]


def test_a_table_that_changes_is_read_anew(tmp_path):
    path = write(tmp_path / "p.tsv", "x\ty\tz\n4\t5\t6\n")
    assert found(points(path)) == [[3, 4, 5]]
    write(path, "x\ty\tz\n14\t5\t6\n")
    assert found(points(path)) == [[13, 4, 5]]


WIDE_ERRORS = {
    ("b.nii.gz", 1, 2): "row 2: 2 cells follow the name; x, y and z of each lesion are needed",
    ("b.nii.gz", 1, None, 3): "row 2 lesion 1: column y holds None, a number is needed",
    ("b.nii.gz", 1, 2, 3, None, None, None, 4, 5, 6): "row 2 lesion 2: column x holds None",
    ("b.nii.gz", 1, 2, 33): r"row 2 lesion 1: point \(1, 2, 33\) lies outside scan.nii.gz",
}


@pytest.mark.parametrize("row", WIDE_ERRORS)
def test_wrong_wide_rows(row, tmp_path):
    path = workbook(tmp_path / "all.xlsx", [("NIFTI File Name",), row])
    with pytest.raises(InputError, match=WIDE_ERRORS[row]):
        read_label(points(path, rows=WIDE), GRID)


def test_two_wide_rows_of_one_case_are_refused(tmp_path):
    path = workbook(tmp_path / "all.xlsx", [("NIFTI File Name",), ("b.nii.gz", 1, 2, 3), ("b.nii.gz", 3, 2, 3)])
    with pytest.raises(InputError, match=r"row 3: a second row of this case, after .* row 2; keep one"):
        read_label(points(path, rows=WIDE), GRID)
    with pytest.raises(InputError, match=r"no column Scan \(there: NIFTI File Name\); name it in labels.cmb.rows.col"):
        read_label(points(path, rows=TableRows(column="Scan", equals="b", wide=True)), GRID)


def save_newer(path, **arrays):
    """A file as MATLAB 7.3 writes it: HDF5 behind 512 bytes, arrays turned, empty ones by their size."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            if array.size:
                file[name] = array.T
            else:
                file[name] = np.array(array.shape, dtype=np.uint64)
                file[name].attrs["MATLAB_empty"] = np.uint8(1)
    return path


@pytest.mark.parametrize("newer", [False, True])
def test_matlab_arrays(newer, tmp_path):
    def save(name, **arrays):
        if newer:
            return save_newer(tmp_path / name, **arrays)
        savemat(tmp_path / name, arrays)
        return tmp_path / name

    cen = np.array([[4.0, 5, 6], [10, 11, 2], [1, 1, 1]])
    assert found(points(save("one.mat", cen=cen))) == [[0, 0, 0], [3, 4, 5], [9, 10, 1]]
    two = save("two.mat", cen=cen, other=np.ones((2, 2)))
    assert len(found(points(two, variable="cen"))) == 3
    assert found(points(save("none.mat", cen=np.empty((0, 3))))) == found(points(save("no.mat", cen=np.empty(0)))) == []
    for source, message in (
        (points(two), r"2 arrays of numbers \(there: cen, other\); name one in labels.cmb.variable"),
        (points(two, variable="c"), r"no variable c \(there: cen, other\)"),
        (points(two, variable="other"), "found an array of 2 x 2, N x 3 is needed"),
        (points(save("four.mat", cen=np.ones((5, 4)))), "found an array of 5 x 4, N x 3 is needed"),
    ):
        with pytest.raises(InputError, match=message):
            read_label(source, GRID)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.mat", b"nonsense" * 40, "not readable as .mat"),
        ("p.mat", b"\x89HDF\r\n\x1a\n" + b"x" * 900, "not readable as .mat"),
        ("p.xlsx", b"nonsense", "not readable as .xlsx"),
        ("p.xlsx", b"PK\x03\x04" + b"x" * 400, "not readable as .xlsx"),
        ("p.ods", b"x", "tables are read from .tsv, .csv, .xlsx, .json and .mat"),
        ("p.tsv", b"x\ty\n1\t2\n", r"header: no column z \(there: x, y\)"),
        ("p.csv", b"1,2,3,4\n", r"no column x \(there: 1, 2, 3, 4\)"),
        ("p.json", b"[[1, 2, 3, 4]]", r"found \[1, 2, 3, 4\], expected \[x, y, z\]"),
        ("p.tsv", "x\ty\tz\n".encode("utf-16"), "not readable as text in UTF-8"),
    ],
)
def test_malformed_files_are_one_line(name, content, message, tmp_path):
    with pytest.raises(InputError, match=message) as caught:
        read_label(points(write(tmp_path / name, content)), GRID)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["p.mat", "p.xlsx", "p.tsv", "p.json"])
def test_a_file_of_no_bytes_was_read_and_has_none(name, tmp_path):
    assert found(points(write(tmp_path / name, ""))) == []


def test_half_a_matlab_file(tmp_path):
    savemat(tmp_path / "p.mat", {"cen": np.ones((9, 3))})
    whole = (tmp_path / "p.mat").read_bytes()
    for length in (10, 130, len(whole) // 2, len(whole) - 4):
        with pytest.raises(InputError, match=r"p\.mat"):
            read_label(points(write(tmp_path / "p.mat", whole[:length])), GRID)


def test_half_a_spreadsheet(tmp_path):
    whole = workbook(tmp_path / "p.xlsx", [("x", "y", "z"), (4, 5, 6)]).read_bytes()
    for start in range(0, len(whole), 300):
        broken = whole[:start] + bytes(40) + whole[start + 40 :]
        with contextlib.suppress(InputError):
            assert found(points(write(tmp_path / "q.xlsx", broken))) == [[3, 4, 5]]


def test_warning_of_no_lesions_by_kind(tmp_path):
    source = points(tmp_path / "p.tsv")
    assert no_lesion_warning("c", [source]).endswith("check labels.cmb.path and the files of points")
    boxed = LabelSource(kind="boxes", path="b", format="yolo")
    assert no_lesion_warning("c", [boxed]).endswith("the files of boxes")
    read = LabelSource(kind="reviewed", path="")
    assert no_lesion_warning("c", [read]) == (
        "c: no lesion in any of 1 labelled cases: labels.no_cmb says so of all of them"
    )
