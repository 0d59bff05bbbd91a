"""Labels of every kind through a card and `cmb_cohort check --count-lesions`."""

import json

import numpy as np
import pytest
import yaml
from PIL import Image

from cmb_autoseg.cli.cohort import main as cohort_command

from ..conftest import SHAPE, TWO_BALLS, ball_mask, save, scan
from .conftest import coco, workbook, write, yolo


@pytest.fixture
def check(tmp_path, capsys):
    """Write a card with these labels and check it: exit code, lesions by case, all that was said."""

    def run(labels, **more):
        images = {"SWI": {"role": "swi", "path": "{group:with|without}/{sub}_swi.nii.gz"}}
        card = {"schema": 1, "name": "c", "images": images, "prep": {"brain": "none"}, "labels": labels, **more}
        write(tmp_path / "card.yaml", yaml.safe_dump(card))
        code = cohort_command(["check", str(tmp_path / "card.yaml"), "--count-lesions"])
        said = capsys.readouterr().out
        lines = [line.split(": ") for line in said.partition("lesions:")[2].splitlines()[1:]]
        return code, {line[0].strip(): int(line[1]) for line in lines if len(line) == 2 and line[1].isdigit()}, said

    return run


@pytest.fixture
def scans(tmp_path):
    for number, name in enumerate(("with/a", "with/b", "without/c")):
        save(tmp_path / f"{name}_swi.nii.gz", scan(number))
    return tmp_path


def test_a_workbook_and_a_folder_of_those_without(scans, check):
    workbook(scans / "all.xlsx", [("file", "x1", "y1", "z1"), ("a", 5, 5, 5, 12, 12, 9)])
    rows = {"column": "file", "equals": "{sub}", "wide": True}
    points = {"kind": "points", "path": "all.xlsx", "space": "voxel1", "rows": rows, "optional": True}
    code, lesions, said = check({"cmb": points, "no_cmb": {"from": "group", "is": "without"}})
    assert (code, lesions) == (0, {"a": 2, "c": 0})
    assert "unlabelled: 1 (in no fold)" in said
    by_file = {"cmb": points, "no_cmb": {"path": "without/{sub}_swi.nii.gz"}}
    assert check(by_file)[1] == {"a": 2, "c": 0}
    assert check({"no_cmb": {"from": "group", "is": ["without", "with"]}})[1] == {"a": 0, "b": 0, "c": 0}


def test_lesions_where_the_card_says_none_leave_the_case_out(scans, check):
    for name in "ac":
        save(scans / f"marks/{name}.nii.gz", ball_mask(TWO_BALLS))
    masks = {"kind": "mask", "path": "marks/{sub}.nii.gz", "optional": True}
    code, lesions, said = check({"cmb": masks, "no_cmb": {"from": "group", "is": "without"}})
    assert code == 2
    assert lesions == {"a": 2}
    assert "c.nii.gz: marks 2 lesions, but labels.no_cmb says that this case has none; correct one of them" in said


@pytest.mark.parametrize(("combine", "expected"), [("union", 2), ("majority", 1), ("one", 1)])
def test_readers(combine, expected, scans, check):
    for name in "abc":
        save(scans / f"r1/{name}.nii.gz", ball_mask(TWO_BALLS))
        save(scans / f"r2/{name}.nii.gz", ball_mask(TWO_BALLS[:1]))
    raters = {"combine": combine, **({"one": "r2"} if combine == "one" else {})}
    masks = {"kind": "mask", "path": "{rater:r\\d}/{sub}.nii.gz", "raters": raters}
    code, lesions, _ = check({"cmb": masks})
    assert (code, lesions) == (0, dict.fromkeys("abc", expected))


def test_one_coco_file_of_volumes(scans, check):
    box = ((4, 4, 4), (6, 6, 5))
    write(scans / "all.json", coco({"a_swi.nii.gz": [box], "c_swi.nii.gz": []}, SHAPE))
    boxes = {"kind": "boxes", "format": "coco", "path": "all.json", "values": {"cmb": "microbleed"}, "optional": True}
    code, lesions, said = check({"cmb": boxes})
    assert (code, lesions) == (0, {"a": 1, "c": 0})
    assert "unlabelled: 1 (in no fold)" in said
    content = json.loads((scans / "all.json").read_text())
    content["categories"][0]["name"] = "vessel"
    write(scans / "all.json", json.dumps(content))
    code, _, said = check({"cmb": boxes})
    assert code == 2
    assert "found class vessel, legal are cmb = microbleed" in said


def test_pictures_with_boxes(tmp_path, check):
    rng = np.random.default_rng(0)
    for sub in "ab":
        for k in range(3, 7):
            picture = Image.fromarray(rng.integers(60, 90, (14, 16), dtype=np.uint8))
            (tmp_path / "p").mkdir(exist_ok=True)
            picture.save(tmp_path / "p" / f"{sub}_{k:03d}.png")
    for k in (4, 5):
        write(tmp_path / f"boxes/a_{k}.txt", yolo([((4, 4), (6, 6))]))
    write(tmp_path / "boxes/b_3.txt", "")
    images = {"SWI": {"role": "swi", "path": "p/{sub}_{slice}.png", "stack": "slice", "spacing_mm": [0.5, 0.5, 2.0]}}
    boxes = {"kind": "boxes", "format": "yolo", "path": "boxes/{sub}_{slice}.txt"}
    code, lesions, said = check({"cmb": boxes}, images=images, dim=2)
    assert (code, lesions) == (0, {"a": 1, "b": 0}), said
