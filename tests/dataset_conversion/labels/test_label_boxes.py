"""Boxes, counted by hand."""

import json

import numpy as np
import pytest

from cmb_autoseg.dataset_conversion.labels import read_label
from cmb_autoseg.errors import InputError

from .conftest import SHAPE, VOC, boxes, coco, components, grid_of, voc, write, yolo

GRID = grid_of("flipped")
FLAT = grid_of("flipped", (16, 14, 1), "p.png")


def stack(folder, by_slice, form="yolo", shape=SHAPE, **settings):
    """YOLO or VOC files of some slices; the others have none."""
    text = {"yolo": yolo, "voc": voc}[form]
    files = tuple(
        str(write(folder / f"{k}.txt", text(by_slice[k], shape))) if k in by_slice else "" for k in range(shape[2])
    )
    return boxes(folder, form, files=files, **settings)


def test_a_box_becomes_the_ellipse_inscribed_in_it(tmp_path):
    source = stack(tmp_path, {4: [((6, 5), (9, 8))]})
    data = read_label(source, GRID).volume.data
    corners_off = np.array([[0, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1], [0, 1, 1, 0]])
    np.testing.assert_array_equal(data[6:10, 5:9, 4], corners_off)
    assert data.sum() == 12


def test_a_box_of_three_dimensions_becomes_an_ellipsoid(tmp_path):
    source = boxes(write(tmp_path / "b.txt", yolo([((3, 3, 3), (7, 5, 5))])), "yolo")
    data = read_label(source, GRID).volume.data
    by_hand = [
        (i, j, k)
        for i in range(16)
        for j in range(14)
        for k in range(10)
        if ((i - 5) / 2.5) ** 2 + ((j - 4) / 1.5) ** 2 + ((k - 4) / 1.5) ** 2 <= 1
    ]
    assert list(map(tuple, np.argwhere(data))) == by_hand
    assert 15 < len(by_hand) < 45


@pytest.mark.parametrize("size", [0.3, 1.0])
def test_the_smallest_box_has_one_voxel(size, tmp_path):
    line = f"0 {4.5 / 16} {6.5 / 14} {size / 16} {size / 14}"
    source = boxes(tmp_path, "yolo", files=("", str(write(tmp_path / "1.txt", line)), *[""] * 8))
    assert np.argwhere(read_label(source, GRID).volume.data).tolist() == [[4, 6, 1]]


def test_boxes_that_overlap_on_neighbouring_slices_are_one_lesion(tmp_path):
    below, above = ((3, 3), (5, 5)), ((4, 4), (6, 6))
    result = read_label(stack(tmp_path, {2: [below], 3: [above], 4: [above], 6: [above]}), GRID)
    assert result.n_lesions == 2
    assert "4 boxes, of which those that overlap on neighbouring slices make 2 lesions" in result.notes
    np.testing.assert_allclose(components(result.volume), [[14 / 3, 14 / 3, 3], [5, 5, 6]])


def test_two_lesions_side_by_side_through_several_slices_stay_two(tmp_path):
    left, right = ((2, 4), (4, 6)), ((6, 4), (8, 6))
    wide, far = ((2, 4), (6, 6)), ((8, 4), (10, 6))  # the wide one overlaps both, and the left one more
    result = read_label(stack(tmp_path, {2: [left, right], 3: [wide, far], 4: [left, right]}), GRID)
    assert result.n_lesions == 2
    assert "6 boxes, of which those that overlap on neighbouring slices make 2 lesions" in result.notes
    assert result.volume.data[3, 5, 2:5].tolist() == result.volume.data[8, 5, 2:5].tolist() == [1, 1, 1]


def test_lesions_on_one_slice_are_kept_a_voxel_apart_or_told_as_merged(tmp_path):
    apart = read_label(stack(tmp_path, {2: [((2, 4), (4, 6)), ((5, 4), (7, 6))]}), GRID)
    assert (apart.n_lesions, apart.notes[:-1]) == (2, ())
    merged = read_label(stack(tmp_path, {2: [((2, 4), (2, 4)), ((3, 4), (3, 4))]}), GRID)
    assert merged.n_lesions == 1
    assert merged.notes[-1] == "2 boxed lesions share or touch voxels and are counted as 1 lesions"


def test_boxes_that_merely_neighbour_on_the_next_slice_stay_two(tmp_path):
    result = read_label(stack(tmp_path, {2: [((2, 4), (4, 6))], 3: [((5, 4), (7, 6))]}), GRID)
    assert result.n_lesions == 2


@pytest.mark.parametrize("form", ["yolo", "voc"])
def test_a_single_picture(form, tmp_path):
    text = {"yolo": yolo, "voc": voc}[form]([((6, 5), (8, 7))])
    source = boxes(write(tmp_path / "b.txt", text), form)
    data = read_label(source, FLAT).volume.data
    assert data[6:9, 5:8, 0].all()
    assert data.sum() == 9


def test_an_empty_file_was_read_and_a_slice_without_one_is_told(tmp_path):
    files = (str(write(tmp_path / "0.txt", "")), *[""] * 9)
    pictures = tuple(f"p{k}.jpg" for k in range(10))
    result = read_label(boxes(tmp_path, "yolo", files=files, pictures=pictures), GRID)
    assert result.n_lesions == 0
    assert result.notes == ("9 of 10 pictures have no file of boxes; taken as read, without microbleed",)


def test_coco_pictures_with_and_without_boxes_and_unlisted_ones(tmp_path):
    path = write(tmp_path / "c.json", coco({"a/p0.jpg": [((2, 2), (4, 4))], "b/p0.jpg": [], "p1.jpg": []}))
    pictures = ("/x/a/p0.jpg", "/x/a/p1.jpg", "/x/a/p2.jpg", *[""] * 7)
    result = read_label(boxes(path, "coco", pictures=pictures), GRID)
    assert result.n_lesions == 1
    assert result.notes == ("1 of 3 pictures are not listed among the COCO images; taken as read, without microbleed",)
    with pytest.raises(InputError, match=r"2 images called p0.jpg; tell them apart by folders"):
        read_label(boxes(path, "coco", pictures=("/x/c/p0.jpg", *[""] * 9)), GRID)


def test_classes_by_number_and_name(tmp_path):
    path = write(tmp_path / "b.txt", yolo([((2, 2, 2), (4, 4, 4))]) + yolo([((9, 9, 5), (9, 9, 5))], number=3))
    assert read_label(boxes(path, "yolo", values={"cmb": 3, "vessel": 0}), GRID).n_lesions == 1
    with pytest.raises(InputError, match=r"line 1: found class 0, legal are cmb = 3; .* write values: \{cmb: 0\}"):
        read_label(boxes(path, "yolo", values={"cmb": 3}), GRID)
    named = write(tmp_path / "c.json", coco({"s.nii.gz": [((2, 2, 2), (4, 4, 4))]}))
    for value in ("microbleed", 7):
        assert read_label(boxes(named, "coco", pictures=("s.nii.gz",), values={"cmb": value}), GRID).n_lesions == 1
    with pytest.raises(InputError, match=r"found class microbleed, legal are none; .* \{cmb: microbleed\}"):
        read_label(boxes(named, "coco", pictures=("s.nii.gz",), values={}), GRID)


def test_voc_counts_pixels_from_1_unless_told_otherwise(tmp_path):
    path = write(tmp_path / "b.xml", voc([((6, 5), (6, 5))]))
    assert np.argwhere(read_label(boxes(path, "voc"), FLAT).volume.data).tolist() == [[6, 5, 0]]
    from_0 = read_label(boxes(path, "voc", space="voxel0"), FLAT)
    assert np.argwhere(from_0.volume.data).tolist() == [[7, 6, 0]]


YOLO_ERRORS = {
    "0 0.5 0.5 0.1": r"line 1: found 4 values, expected class cx cy w h",
    "0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2": "found 9 values",
    "a 0.5 0.5 0.1 0.1": "class 'a' is no whole number",
    "0 0.5 0.5 0.1 x": "numbers are needed",
    "0 0.5 0.5 -0.1 0.1": "width -1.6 is not positive",
    "0 0.5 0.5 0.1 0": "height 0 is not positive",
    "0 0.98 0.5 0.4 0.1": r"box x 12.48..18.88 .* reaches beyond the 16 x 14 voxels",
    "0 0.5 0.5 0.5 0.1 0.1 0.1": "a 3D box in a picture",
    "0 nan 0.5 0.1 0.1": "numbers are needed",
}


@pytest.mark.parametrize("line", YOLO_ERRORS)
def test_wrong_yolo(line, tmp_path):
    files = ("", str(write(tmp_path / "1.txt", line + "\n")), *[""] * 8)
    with pytest.raises(InputError, match=YOLO_ERRORS[line]) as caught:
        read_label(boxes(tmp_path, "yolo", files=files), GRID)
    assert "1.txt" in str(caught.value)
    assert "\n" not in str(caught.value)


VOC_ERRORS = {
    "<annotation": "not readable as XML",
    "<!DOCTYPE a [<!ENTITY b 'c'>]><annotation>&b;</annotation>": "holds a DOCTYPE or ENTITY",
    VOC.format(w=99, h=14, objects=""): "size 99 x 14 but the image has 16 x 14",
    VOC.format(w=16, h=14, objects="<object><name>microbleed</name></object>"): "object 1: no bndbox",
    "<a><object><name>microbleed</name><bndbox><xmin>1</xmin></bndbox></object></a>": "bndbox has no ymin",
    voc([((6, 5), (4, 5))]): "width -1 is not positive",
    voc([((6, 5), (44, 5))]): "reaches beyond the 16 x 14 voxels",
    voc([((6, 5), (7, 7))], name="vessel"): "found class vessel, legal are cmb = microbleed",
}


@pytest.mark.parametrize("text", VOC_ERRORS)
def test_wrong_voc(text, tmp_path):
    with pytest.raises(InputError, match=VOC_ERRORS[text]):
        read_label(boxes(write(tmp_path / "b.xml", text), "voc"), FLAT)


def test_an_entity_in_utf_16_is_not_expanded_either(tmp_path):
    text = "<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b 'c'>]><annotation>&b;</annotation>"
    with pytest.raises(InputError, match="not readable as text in UTF-8"):
        read_label(boxes(write(tmp_path / "b.xml", text.encode("utf-16")), "voc"), FLAT)


def coco_with(**changes):
    content = json.loads(coco({"p.png": [((6, 5), (7, 7))]}))
    return json.dumps({**content, **changes})


COCO_ERRORS = {
    "{": "not readable as JSON",
    "[]": "no COCO file",
    '{"images": 3}': "no COCO file",
    coco_with(images=[{"id": 1}]): "images 1: no file_name",
    coco_with(images=[{"id": 1, "file_name": "p.png"}, {"id": 1, "file_name": "q.png"}]): "images 2: id 1 is another",
    coco_with(annotations=[{"image_id": 9, "category_id": 7}]): "annotations 1: image_id 9 is none of the images",
    coco_with(annotations=[{"image_id": [1], "category_id": 7}]): "annotations 1: no image_id",
    coco_with(annotations=[{"image_id": 1, "category_id": 7}]): r"annotations 1 \(p.png\): found bbox None",
    coco_with(annotations=[{"image_id": 1, "category_id": 7, "bbox": [1, 2, 3]}]): "expected 4 numbers, or 6 in 3D",
    coco_with(annotations=[{"image_id": 1, "category_id": 7, "bbox": [1, 2, 3, "a"]}]): "numbers are needed",
    coco_with(annotations=[{"image_id": 1, "category_id": 7, "bbox": [1, 2, 3, -1]}]): "height -1 is not positive",
    coco_with(annotations=[{"image_id": 1, "category_id": 7, "bbox": [9, 2, 9, 1]}]): "reaches beyond the 16 x 14",
    coco_with(images=[{"id": 1, "file_name": "p.png", "width": 14, "height": 16}]): "p.png 14 x 16 but the image has",
    coco_with(categories=3): "categories is no list",
}


@pytest.mark.parametrize("text", COCO_ERRORS)
def test_wrong_coco(text, tmp_path):
    source = boxes(write(tmp_path / "c.json", text), "coco", pictures=("/data/p.png",))
    with pytest.raises(InputError, match=COCO_ERRORS[text]):
        read_label(source, FLAT)


TABLE = "x_min,x_max,y_min,y_max,z_min,z_max"
TABLE_ERRORS = {
    TABLE.replace("z_max", "zz") + "\n1,2,1,2,1,2\n": "header: no column z_max",
    TABLE + "\n1,2,1,2,5,1\n": "line 2: depth -3 is not positive",
    TABLE + "\n1,2,1,2,x,1\n": "line 2: column z_min holds 'x', a number is needed",
    TABLE + "\n90,92,1,2,1,2\n": r"the box about \(91, 1.5, 1.5\) lies outside scan.nii.gz; check labels.cmb.space",
    TABLE + ",class\n1,2,1,2,1,2,v\n": "found class v, legal are cmb = cmb",
}


@pytest.mark.parametrize("text", TABLE_ERRORS)
def test_wrong_table(text, tmp_path):
    path = write(tmp_path / "b.csv", text)
    values = {"cmb": "cmb"} if "class" in text else {}
    with pytest.raises(InputError, match=TABLE_ERRORS[text]):
        read_label(boxes(path, "table", space="voxel0", values=values), GRID)


def test_table_of_a_single_slice_needs_no_z(tmp_path):
    path = write(tmp_path / "b.csv", "x_min,x_max,y_min,y_max\n6,8,5,7\n")
    data = read_label(boxes(path, "table", space="voxel0", values={}), FLAT).volume.data
    assert data[6:9, 5:8, 0].all()
    assert data.sum() == 9


def test_two_dimensions_in_a_volume_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"line 1: a 2D box in a volume of 10 slices"):
        read_label(boxes(write(tmp_path / "b.txt", "0 0.5 0.5 0.1 0.1\n"), "yolo"), GRID)


def test_more_files_than_slices_are_refused(tmp_path):
    with pytest.raises(InputError, match="3 slices with boxes but the image has 10"):
        read_label(boxes(tmp_path, "yolo", files=("", "", "")), GRID)
