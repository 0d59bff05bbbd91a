"""Rows and COCO images that speak of no case are told of, by `cmb_cohort check` and by conversion."""

import time

import pytest
import yaml

from cmb_autoseg.cli.cohort import main as cohort_command
from cmb_autoseg.cli.convert import main as convert_command
from cmb_autoseg.dataset_conversion.labels.unclaimed import Unclaimed
from cmb_autoseg.records import LabelSource, TableRows

from ..conftest import save, scan
from .conftest import coco, workbook, write

ROWS = {"column": "who", "equals": "{sub}"}
POINTS = {"kind": "points", "path": "all.tsv", "space": "voxel0", "rows": ROWS, "optional": True}
BOXES = {"kind": "boxes", "format": "coco", "path": "all.json", "values": {"cmb": "microbleed"}, "optional": True}


@pytest.fixture
def scans(tmp_path):
    for number, name in enumerate(("s1", "s2", "p07")):
        save(tmp_path / f"{name}.nii.gz", scan(number))
    return tmp_path


@pytest.fixture
def check(scans, capsys):
    """Write a card with these marks and check it; the warnings."""

    def run(cmb, **more):
        images = {"SWI": {"role": "swi", "path": "{sub}.nii.gz"}}
        card = {"schema": 1, "name": "c", "images": images, "prep": {"brain": "none"}, "labels": {"cmb": cmb}, **more}
        write(scans / "card.yaml", yaml.safe_dump(card))
        assert cohort_command(["check", str(scans / "card.yaml")]) == 0
        return [line for line in capsys.readouterr().err.splitlines() if "labels.cmb" in line]

    return run


def table(*names: str) -> str:
    return "who\tx\ty\tz\n" + "".join(f"{name}\t5\t5\t5\n" for name in names)


def test_rows_that_match_no_case_are_told_with_what_comes_near(scans, check, capsys):
    write(scans / "all.tsv", table("s1", "S2", "S2", "p7", "stranger", ""))
    (warning,) = check(POINTS)
    assert "c: labels.cmb: all.tsv: 3 of 4 names in column who match no case (S2, p7, stranger)" in warning
    assert warning.endswith("write s2 for S2, write p07 for p7")
    assert convert_command([str(scans / "card.yaml"), "-d", "501", "--workspace", str(scans / "w"), "--jobs", "1"]) == 0
    assert warning in capsys.readouterr().err.splitlines()
    write(scans / "all.tsv", table("s1", "s2"))
    assert check(POINTS) == []


def test_rows_of_a_case_that_is_left_out_are_no_strays(scans, check):
    write(scans / "all.tsv", table("s1", "s2", "p07"))
    assert check(POINTS, exclude={"s2": "moved"}) == []


def test_rows_of_a_workbook(scans, check):
    workbook(scans / "all.xlsx", [("who", "x", "y", "z"), *((f"x{n}", 5, 5, 5) for n in range(5))])
    (warning,) = check({**POINTS, "path": "all.xlsx"})
    assert "5 of 5 names in column who match no case (x0, x1, x2, ...) and are not used; correct them" in warning


def test_coco_images_that_are_no_picture_are_told(scans, check):
    box = ((4, 4, 4), (6, 6, 5))
    write(scans / "all.json", coco({"s1.nii.gz": [box], "f/S2.nii": [box], "gone.nii.gz": []}))
    (warning,) = check(BOXES)
    assert "all.json: 2 of 3 images match no picture of any case (f/S2.nii, gone.nii.gz)" in warning
    assert warning.endswith("write s2.nii.gz for f/S2.nii")
    write(scans / "all.json", coco({"s1.nii.gz": [box], "s2.nii.gz": []}))
    assert check(BOXES) == []
    assert check(BOXES, exclude={"s2": "moved"}) == []


@pytest.mark.parametrize("marks", [POINTS, BOXES])
def test_hashed_identifiers_are_not_told(marks, scans, check):
    write(scans / "all.tsv", table("s1", "S2", "stranger"))
    write(scans / "all.json", coco({"s1.nii.gz": [], "S2.nii.gz": [], "stranger.nii.gz": []}))
    (warning,) = check(marks, privacy={"hash_ids": True})
    assert "S2" not in warning
    assert "stranger" not in warning
    assert "2 of 3" in warning
    assert ("line 3, line 4" if marks is POINTS else "images 2, images 3") in warning
    assert warning.endswith("1 would match but for capitals, leading zeros or suffixes")


def test_ten_thousand_rows_take_no_time(tmp_path):
    path = write(tmp_path / "all.tsv", table(*(f"p{n}" for n in range(10_000))))
    begun, unclaimed = time.process_time(), Unclaimed()
    for n in range(1, 10_000):
        rows = TableRows(column="who", equals=f"p{n}")
        unclaimed.claim(LabelSource(kind="points", path=str(path), rows=rows))
    assert "1 of 10000 names in column who match no case (p0)" in unclaimed.warnings(str(tmp_path), True)[0]
    assert time.process_time() - begun < 5


def test_pictures_of_a_coco_file_are_found_by_folder_and_each_reader_counts(tmp_path):
    for who in "ab":
        write(tmp_path / f"{who}.json", coco({"x/p.png": [], "y/p.png": [], f"{who}.png": []}))
    unclaimed = Unclaimed()
    readers = {who: str(tmp_path / f"{who}.json") for who in "ab"}
    pictures = ("/d/x/p.png", "", "/d/a.png")
    unclaimed.claim(LabelSource(kind="boxes", path=readers["a"], raters=readers, format="coco", pictures=pictures))
    one, two = unclaimed.warnings(str(tmp_path), True)
    assert "a.json: 1 of 3 images match no picture of any case (y/p.png)" in one
    assert "b.json: 2 of 3 images match no picture of any case (y/p.png, b.png)" in two
