"""Points and boxes: the same lesion however it is written."""

import json

import numpy as np
import pytest

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.inputs.boxes import BOX_COLUMNS, read_boxes
from cmb_autoseg.evaluation.inputs.points import read_points
from cmb_autoseg.evaluation.inputs.rows import read_rows
from cmb_autoseg.evaluation.inputs.sides import ListGrid
from cmb_autoseg.files import write_text

FLIPPED = np.array([[-0.5, 0, 0, 10], [0, 0, -2, 20], [0, 0.5, 0, -30], [0, 0, 0, 1]], dtype=float)
"""Stored axes to the left, to the top, and to the back: 0.5 x 0.5 x 2 mm."""
GRID = ListGrid(FLIPPED, (40, 30, 12), "scan.nii.gz")


@pytest.fixture
def listed(tmp_path):
    def write(text, name="list.tsv"):
        write_text(tmp_path / name, text)
        return read_rows(tmp_path / name)

    return write


@pytest.mark.parametrize(
    ("columns", "values", "space"),
    [
        ("x_mm\ty_mm\tz_mm", "8.5\t16\t-28", None),
        ("x_mm\ty_mm\tz_mm", "8.5\t16\t-28", "voxel0"),  # _mm says it itself
        ("x\ty\tz", "8.5\t16\t-28", "ras_mm"),
        ("x\ty\tz", "-8.5\t-16\t-28", "lps_mm"),
        ("x\ty\tz", "3\t4\t2", "voxel0"),
        ("x\ty\tz", "4\t5\t3", "voxel1"),
    ],
)
def test_a_point_is_the_same_place_in_every_space(listed, columns, values, space):
    lesions = read_points(listed(f"{columns}\n{values}\n"), space, GRID)

    np.testing.assert_allclose(lesions.centres_mm, [[8.5, 16, -28]])
    assert lesions.kind == "points"
    assert lesions.confidence is None
    assert np.isnan(lesions.volumes_mm3).all()
    # The axes that masks are turned to: right, front, top.
    np.testing.assert_allclose(lesions.affine[:3, :3], np.diag([0.5, 2, 0.5]))


def test_what_a_list_says_of_its_lesions_is_kept(listed):
    text = (
        "x_mm,y_mm,z_mm,probability,prob_mean,volume_mm3,diameter_mm,region\n"
        "1,2,3,0.9,0.5,8,n/a,lobar\n4,5,6,0.25,0.125,,2,\n\n"
    )
    lesions = read_points(listed(text, "list.csv"))

    np.testing.assert_array_equal(lesions.confidence, [0.9, 0.25])
    np.testing.assert_array_equal(lesions.mean_probability, [0.5, 0.125])
    np.testing.assert_allclose(lesions.volumes_mm3, [8, np.pi / 6 * 8])
    np.testing.assert_allclose(lesions.diameters_mm[1], 2)
    assert lesions.regions == ("lobar", "unknown")
    assert lesions.affine is None


@pytest.mark.parametrize("column", ["score", "probability", "confidence", "prob_max", "prob"])
def test_every_name_of_a_score_is_read_and_stands_for_the_mean(listed, column):
    lesions = read_points(listed(f"x_mm\ty_mm\tz_mm\t{column}\n1\t2\t3\t0.5\n"))

    assert lesions.confidence.tolist() == lesions.mean_probability.tolist() == [0.5]


def test_json_lists_and_semicolons_are_read(listed):
    item = {"x_mm": 1, "y_mm": 2.5, "z_mm": 3, "score": 1}
    for content in ([item], {"lesions": [item]}, {"case": "a", "points": [item]}):
        np.testing.assert_array_equal(read_points(listed(json.dumps(content), "a.json")).centres_mm, [[1, 2.5, 3]])
    np.testing.assert_array_equal(read_points(listed("x_mm;y_mm;z_mm\n1;2;3\n", "a.csv")).centres_mm, [[1, 2, 3]])


@pytest.mark.parametrize("text", ["", "x_mm\ty_mm\tz_mm\tscore\n", "x_mm\ty_mm\tz_mm\tscore\nn/a\t\tn/a\tn/a\n"])
def test_an_empty_list_was_read_and_holds_no_lesion(listed, text):
    lesions = read_points(listed(text))

    assert len(lesions) == 0
    assert lesions.centres_mm.shape == (0, 3)
    assert lesions.confidence.shape == (0,)


def test_a_header_without_scores_gives_no_confidence(listed):
    assert read_points(listed("x_mm\ty_mm\tz_mm\n")).confidence is None
    assert read_points(listed("x_mm\ty_mm\tz_mm\tscore\n1\t2\t3\tn/a\n")).confidence is None


@pytest.mark.parametrize(
    ("text", "space", "grid", "message"),
    [
        ("x_mm\ty_mm\tz_mm\n1\t2\t3\n1\tabc\t3\n", None, None, r"list\.tsv line 3: column y_mm holds 'abc', a number"),
        ("x_mm\ty_mm\tz_mm\n1\tn/a\t3\n", None, None, r"line 2: column y_mm holds 'n/a', a number is needed"),
        ("x_mm\ty_mm\tz_mm\n1\tinf\t3\n", None, None, r"line 2: column y_mm holds 'inf'"),
        ("x_mm\ty_mm\tz_mm\tscore\n1\t1\t1\t87\n", None, None, r"line 2: score 87 is not within 0 and 1; write prob"),
        ("x_mm\ty_mm\tz_mm\tscore\n1\t1\t1\t-0.1\n", None, None, r"line 2: score -0\.1 is not within"),
        ("x_mm\ty_mm\tz_mm\tscore\n1\t1\t1\t0.5\n1\t1\t1\t\n", None, None, r"line 3: column score holds ''"),
        ("x_mm\ty_mm\tz_mm\n900\t1\t1\n", None, GRID, r"line 2: point \(900, 1, 1\) lies outside scan\.nii\.gz; check"),
        ("x\ty\tz\n40\t1\t1\n", "voxel0", GRID, r"line 2: point \(40, 1, 1\) lies outside scan"),
        ("x\ty\tz\n1\t2\t3\n", None, GRID, r"list\.tsv: columns x, y, z do not say in which space; give --space"),
        ("x\ty\tz\n1\t2\t3\n", "voxel0", None, r"list\.tsv: counts in voxels \(voxel0\), but neither side"),
        ("x_mm\ty_mm\n1\t2\n", None, None, r"list\.tsv: columns x_mm, y_mm hold no points; name them x_mm, y_mm, z_mm"),
        ("x_mm\ty_mm\tz_mm\tvolume_mm3\n1\t1\t1\t0\n", None, None, r"line 2: volume_mm3 0 is not positive"),
        ("x_mm\ty_mm\tz_mm\tregion\n1\t1\t1\tpons\n", None, None, r"line 2: region 'pons', legal are lobar, deep"),
        ("x_mm\ty_mm\tz_mm\n1\t1\t1\t5\n", None, None, r"line 2: 4 cells, but the header names 3"),
    ],
)
def test_bad_points_are_one_line_with_file_and_line(listed, text, space, grid, message):
    with pytest.raises(InputError, match=message) as raised:
        read_points(listed(text), space, grid)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("columns", "values", "space"),
    [
        ("x_min\ty_min\tz_min\tx_max\ty_max\tz_max", "3\t4\t2\t5\t7\t3", "voxel0"),
        ("x_min\ty_min\tz_min\tx_max\ty_max\tz_max", "4\t5\t3\t6\t8\t4", "voxel1"),
        ("slice\tx_min\ty_min\tx_max\ty_max", "2\t3\t4\t5\t7", None),
        ("slice\tx_min\ty_min\tx_max\ty_max", "3\t4\t5\t6\t8", "voxel1"),
        # Faces at 2.5..4.5, 3.5..6.5 and 1.5..2.5 through the affine.
        (
            "x_min_mm\ty_min_mm\tz_min_mm\tx_max_mm\ty_max_mm\tz_max_mm",
            "7.75\t15\t-28.25\t8.75\t17\t-26.75",
            None,
        ),
        ("x_min\ty_min\tz_min\tx_max\ty_max\tz_max", "-8.75\t-17\t-28.25\t-7.75\t-15\t-26.75", "lps_mm"),
    ],
)
def test_a_box_is_the_same_voxels_in_every_form(listed, columns, values, space):
    lesions = read_boxes(listed(f"{columns}\tscore\n{values}\t0.5\n"), space, GRID)

    mask = np.zeros((40, 30, 12))
    mask[3:5, 4:7, 2:3] = 1
    inside = np.argwhere(mask) @ FLIPPED[:3, :3].T + FLIPPED[:3, 3]
    np.testing.assert_allclose(lesions.centres_mm[0], inside.mean(axis=0))
    np.testing.assert_allclose(lesions.volumes_mm3, 6 * 0.5)
    # In canonical axes the same voxels lie within the faces, and no others.
    voxels = (inside - lesions.affine[:3, 3]) @ np.linalg.inv(lesions.affine[:3, :3]).T
    low, high = lesions.boxes[0].T
    np.testing.assert_allclose(voxels.min(axis=0) - 0.5, low)
    np.testing.assert_allclose(voxels.max(axis=0) + 0.5, high)
    assert lesions.confidence.tolist() == [0.5]


def test_boxes_of_a_picture_lie_on_a_grid_of_pixels(listed):
    coco = json.dumps([{"image_id": 1, "bbox": [10, 20, 4, 2], "score": 0.75}])
    table = "x_min,y_min,x_max,y_max,score\n10,20,14,22,0.75\n"

    for rows in (listed(coco, "a.json"), listed(table, "a.csv")):
        in_pixels = read_boxes(rows)
        in_mm = read_boxes(rows, None, ListGrid.of_spacing((0.5, 0.5)))

        np.testing.assert_array_equal(in_pixels.boxes, [[[9.5, 13.5], [19.5, 21.5], [-0.5, 0.5]]])
        np.testing.assert_array_equal(in_pixels.centres_mm, [[11.5, 20.5, 0]])
        np.testing.assert_array_equal(in_mm.centres_mm, [[5.75, 10.25, 0]])
        np.testing.assert_array_equal(in_mm.volumes_mm3, [2.0])


def test_spacing_must_suit_the_list(listed):
    with pytest.raises(InputError, match=r"--spacing: found 1 sizes, expected x, y and z of a voxel in mm, or x and y"):
        ListGrid.of_spacing((0.5,))
    pixels = ListGrid.of_spacing((0.5, 0.5))
    for read, text in ((read_points, "x,y,z\n1,1,1\n"), (read_boxes, ",".join(BOX_COLUMNS) + "\n1,1,1,2,2,2\n")):
        with pytest.raises(InputError, match=r"list\.csv: counts in voxels of three axes, so --spacing needs three"):
            read(listed(text, "list.csv"), "voxel0", pixels)


def test_boxes_in_millimetres_need_no_grid(listed):
    text = "x_min_mm\ty_min_mm\tz_min_mm\tx_max_mm\ty_max_mm\tz_max_mm\n1\t2\t3\t2\t4\t6\n"
    lesions = read_boxes(listed(text))

    np.testing.assert_allclose(lesions.boxes, [[[1, 2], [2, 4], [3, 6]]])
    np.testing.assert_allclose(lesions.volumes_mm3, 6)


@pytest.mark.parametrize("text", ["", "slice\tx_min\ty_min\tx_max\ty_max\n"])
def test_an_empty_list_of_boxes_has_none(listed, text):
    lesions = read_boxes(listed(text), None, GRID)

    assert lesions.boxes.shape == (0, 3, 2)
    assert len(lesions) == 0


@pytest.mark.parametrize(
    ("text", "space", "grid", "message"),
    [
        ("x_min\ty_min\tx_max\ty_max\n5\t1\t5\t2\n", None, GRID, r"line 2: a box from 5 to 5 along x has no extent"),
        ("x_min\ty_min\tx_max\ty_max\n5\t1\t6\t2\n", "ras_mm", GRID, r"boxes of slices count in voxels; give --space"),
        ("slice\tx_min\ty_min\tx_max\ty_max\n1.5\t5\t1\t6\t2\n", None, GRID, r"line 2: slice 1\.5 is no whole number"),
        ("slice\tx_min\ty_min\tx_max\ty_max\n0\t5\t1\t6\t2\n", "voxel1", GRID, r"slice 0 is no whole number from 1 on"),
        ("slice\tx_min\ty_min\tx_max\ty_max\n12\t5\t1\t6\t2\n", None, GRID, r"line 2: the middle of the box lies out"),
        ("x_min\ty_min\tz_min\tx_max\ty_max\tz_max\n1\t1\t1\t2\t2\t2\n", None, GRID, r"do not say in which space"),
        (
            "x_min\ty_min\tz_min\tx_max\ty_max\tz_max\n1\t1\t1\t2\t2\t2\n",
            "voxel0",
            None,
            r"counts in voxels \(voxel0\)",
        ),
        ("x_mm\ty_mm\tz_mm\n1\t1\t1\n", None, GRID, r"columns x_mm, y_mm, z_mm hold no boxes; name them x_min_mm"),
    ],
)
def test_bad_boxes_are_one_line_with_file_and_line(listed, text, space, grid, message):
    with pytest.raises(InputError, match=message) as raised:
        read_boxes(listed(text), space, grid)
    assert "\n" not in str(raised.value)


def test_files_that_are_no_lists_are_told_in_one_line(listed, tmp_path):
    with pytest.raises(InputError, match=r"a\.json item 1: bbox \[1, 2\], expected \[x, y, width, height\]"):
        read_boxes(listed('[{"bbox": [1, 2]}]', "a.json"))
    with pytest.raises(InputError, match=r"a\.json item 1 bbox: column width holds 'w', a number is needed"):
        read_boxes(listed('[{"bbox": [1, 2, "w", 3]}]', "a.json"))
    with pytest.raises(InputError, match=r"a\.json: expected a list of objects"):
        listed('{"a": 1}', "a.json")
    with pytest.raises(InputError, match=r"a\.json: not readable as JSON"):
        listed('{"a": ', "a.json")
    (tmp_path / "b.tsv").write_bytes(b"x\xff\xfe")
    with pytest.raises(InputError, match=r"b\.tsv: not readable as text in UTF-8; save it as \.tsv"):
        read_rows(tmp_path / "b.tsv")
    with pytest.raises(InputError, match=r"c\.tsv: no such file"):
        read_rows(tmp_path / "c.tsv")
    with pytest.raises(InputError, match=r"d\.csv: line \d is no line of a table"):
        listed('x,y\n"1,2\n3,4\n', "d.csv")
