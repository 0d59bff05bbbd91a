"""From a card and files to the label of one case."""

import pytest

from cmb_autoseg.dataset_conversion.card import Card
from cmb_autoseg.dataset_conversion.sorting.label_sources import label_source
from cmb_autoseg.dataset_conversion.sorting.matching import FileMatch
from cmb_autoseg.errors import InputError
from cmb_autoseg.records import ImageSource, LabelSource, Role

from .conftest import coco, workbook, write


def card_of(cmb=None, no_cmb=None, dim=3, **swi) -> Card:
    labels = {key: value for key, value in {"cmb": cmb, "no_cmb": no_cmb}.items() if value}
    images = {"SWI": {"role": "swi", "path": "{sub}.nii.gz", **swi}, "T1": {"role": "t1", "path": "{sub}_T1.nii.gz"}}
    return Card.model_validate({"schema": 1, "name": "c", "dim": dim, "images": images, "labels": labels})


def source_of(card, root, files=(), entities=None, image=None, reviewed=False, columns=None):
    """`files` by path: their entities."""
    found = [FileMatch(path, known) for path, known in dict(files).items()]
    images = {Role.SWI: image or ImageSource(path=str(root / "s1.nii.gz"))}
    return label_source(card, root, found, entities or {"sub": "s1"}, images, columns or {}, reviewed)


MASK = {"kind": "mask", "path": "{sub}_CMB.nii.gz"}
ONE = {"s1_CMB.nii.gz": {"sub": "s1"}}
READERS = {"kind": "mask", "path": "{rater}/{sub}.nii.gz"}
BOTH = {"b/s1.nii.gz": {"sub": "s1", "rater": "b"}, "a/s1.nii.gz": {"sub": "s1", "rater": "a"}}


def test_a_mask_of_its_own(tmp_path):
    source = source_of(card_of(MASK), tmp_path, ONE)
    assert source == LabelSource(kind="mask", path=str(tmp_path / "s1_CMB.nii.gz"), values={"cmb": 1})
    assert source_of(card_of(), tmp_path) is None
    assert source_of(card_of(MASK | {"optional": True}), tmp_path) is None
    assert source_of(card_of(MASK | {"grid": "T1", "values": {"cmb": 3}}), tmp_path, ONE).grid is Role.T1
    assert source_of(card_of(MASK | {"grid": "SWI"}), tmp_path, ONE).grid is None
    with pytest.raises(InputError, match=r"2 files for labels.cmb: .*; make the pattern match one of them"):
        source_of(card_of(MASK), tmp_path, {**ONE, "x.nii.gz": {"sub": "s1"}})


def test_reviewed_cases(tmp_path):
    card = card_of(MASK, {"from": "sub", "is": "s1"})
    assert source_of(card, tmp_path, reviewed=True) == LabelSource(kind="reviewed", path="")
    both = source_of(card, tmp_path, ONE, reviewed=True)
    assert (both.kind, both.reviewed) == ("mask", True)


@pytest.mark.parametrize("combine", ["union", "majority"])
def test_several_readers(combine, tmp_path):
    source = source_of(card_of(READERS | {"raters": {"combine": combine}}), tmp_path, BOTH)
    paths = {name: str(tmp_path / name / "s1.nii.gz") for name in "ab"}
    assert (source.raters, source.combine, source.path) == (paths, combine, paths["a"])
    assert list(source.raters) == ["a", "b"]


def test_one_reader_of_several(tmp_path):
    def of(one):
        return source_of(card_of(READERS | {"raters": {"combine": "one", "one": one}}), tmp_path, BOTH)

    assert (of("b").path, of("b").raters) == (str(tmp_path / "b" / "s1.nii.gz"), {})
    with pytest.raises(
        InputError, match=r"b/s1.nii.gz: the reader c says nothing of this case; set labels.cmb.optional"
    ):
        of("c")
    optional = card_of(READERS | {"optional": True, "raters": {"combine": "one", "one": "c"}})
    assert source_of(optional, tmp_path, BOTH) is None
    with pytest.raises(InputError, match="2 files of reader a"):
        source_of(card_of(READERS | {"raters": {}}), tmp_path, {**BOTH, "x/s1.nii.gz": {"sub": "s1", "rater": "a"}})
    with pytest.raises(InputError, match=r"the path has no \{who\}"):
        source_of(card_of(READERS | {"raters": {"entity": "who"}}), tmp_path, BOTH)


WORKBOOK = {
    "kind": "points",
    "path": "all.xlsx",
    "rows": {"column": "file", "equals": "{sub}_{visit}.nii", "wide": True},
}


def test_rows_of_a_table_of_all_cases(tmp_path):
    workbook(tmp_path / "all.xlsx", [("file", "x1", "y1", "z1"), ("s1_v2.nii", 1, 2, 3)])
    files = {"all.xlsx": {}}
    card = card_of(WORKBOOK | {"optional": True})
    source = source_of(card, tmp_path, files, columns={"visit": "v2"})
    assert (source.rows.column, source.rows.equals, source.rows.wide) == ("file", "s1_v2.nii", True)
    other = {"entities": {"sub": "s2"}, "columns": {"visit": "v2"}}
    assert source_of(card, tmp_path, files, **other) is None
    assert source_of(card, tmp_path, files, reviewed=True, **other).kind == "reviewed"
    with pytest.raises(
        InputError, match=r"all.xlsx: the table says nothing of this case; set labels.cmb.optional: true"
    ):
        source_of(card_of(WORKBOOK), tmp_path, files, **other)
    with pytest.raises(InputError, match=r"rows.equals: \{visit\} is not known; there are sub"):
        source_of(card, tmp_path, files)


STACK = {"dim": 2, "stack": "slice", "path": "images/{sub}_{slice}.jpg"}
YOLO = {"kind": "boxes", "format": "yolo", "path": "labels/{sub}_{slice}.txt"}


def stack_of(root):
    files = tuple(str(root / f"images/s1_{n}.jpg") if n else "" for n in ("007", "", "009"))
    return ImageSource(path=str(root / "images"), kind="pictures", files=files)


def test_boxes_are_put_beside_their_slices(tmp_path):
    image = stack_of(tmp_path)
    files = {"labels/s1_9.txt": {"sub": "s1", "slice": "9"}, "labels/s1_007.txt": {"sub": "s1", "slice": "007"}}
    source = source_of(card_of(YOLO, **STACK), tmp_path, files, image=image)
    assert source.files == (str(tmp_path / "labels/s1_007.txt"), "", str(tmp_path / "labels/s1_9.txt"))
    assert (source.pictures, source.values) == (image.files, {"cmb": 0})
    with pytest.raises(InputError, match=r"s1_8.txt: marks slice 8, of which there is no picture"):
        source_of(card_of(YOLO, **STACK), tmp_path, {"labels/s1_8.txt": {"sub": "s1", "slice": "8"}}, image=image)
    twice = {**files, "labels/s1_09.txt": {"sub": "s1", "slice": "09"}}
    with pytest.raises(InputError, match=r"2 files for labels\.cmb of slice 9"):
        source_of(card_of(YOLO, **STACK), tmp_path, twice, image=image)


def test_readers_of_pictures(tmp_path):
    image = stack_of(tmp_path)
    files = {f"{who}/s1_9.txt": {"sub": "s1", "slice": "9", "rater": who} for who in "ab"}
    path = {"path": "{rater}/{sub}_{slice}.txt"}
    one = source_of(
        card_of(YOLO | path | {"raters": {"combine": "one", "one": "b"}}, **STACK), tmp_path, files, image=image
    )
    assert one.files == ("", "", str(tmp_path / "b/s1_9.txt"))
    with pytest.raises(InputError, match="files of single slices by several readers are not combined"):
        source_of(card_of(YOLO | path | {"raters": {}}, **STACK), tmp_path, files, image=image)
    for who in "ab":
        write(tmp_path / f"{who}.json", coco({f"s1_00{9 if who == 'b' else 1}.jpg": []}))
    listed = {"kind": "boxes", "format": "coco", "path": "{rater}.json", "values": {"cmb": "microbleed"}, "raters": {}}
    both = source_of(card_of(listed, **STACK), tmp_path, {f"{w}.json": {"rater": w} for w in "ab"}, image=image)
    assert (list(both.raters), both.pictures) == (["a", "b"], image.files)


def test_masks_as_pictures_are_put_beside_their_slices(tmp_path):
    card = card_of({"kind": "mask", "path": "masks/{sub}_{slice}.png"}, **STACK)
    files = {"masks/s1_9.png": {"sub": "s1", "slice": "9"}}
    source = source_of(card, tmp_path, files, image=stack_of(tmp_path))
    assert (source.files, source.pictures) == (("", "", str(tmp_path / "masks/s1_9.png")), ())


def test_one_coco_file_for_all(tmp_path):
    write(tmp_path / "all.json", coco({"s1_009.jpg": []}))
    coco_card = {
        "kind": "boxes",
        "format": "coco",
        "path": "all.json",
        "values": {"cmb": "microbleed"},
        "optional": True,
    }
    card = card_of(coco_card, **STACK)
    source = source_of(card, tmp_path, {"all.json": {}}, image=stack_of(tmp_path))
    assert (source.pictures, source.files) == (stack_of(tmp_path).files, ())
    other = ImageSource(path=str(tmp_path), kind="pictures", files=(str(tmp_path / "images/s2_001.jpg"),))
    assert source_of(card, tmp_path, {"all.json": {}}, image=other) is None
    volume = card_of(coco_card)
    assert source_of(volume, tmp_path, {"all.json": {}}) is None
    write(tmp_path / "all.json", coco({"s1_009.jpg": [], "s1.nii.gz": []}))
    assert source_of(volume, tmp_path, {"all.json": {}}).pictures == (str(tmp_path / "s1.nii.gz"),)


@pytest.mark.parametrize(("form", "space"), [("yolo", "voxel1"), ("coco", "ras_mm"), ("voc", "lps_mm")])
def test_a_space_that_says_nothing_is_refused(form, space):
    with pytest.raises(ValueError, match=f"space: {space} says nothing of format: {form}; remove it"):
        card_of({"kind": "boxes", "format": form, "path": "{sub}.b", "space": space})


def test_voc_may_count_from_0():
    card = card_of({"kind": "boxes", "format": "voc", "path": "{sub}.xml", "space": "voxel0"})
    assert card.label.space == "voxel0"
