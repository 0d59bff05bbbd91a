"""`cmb_cohort init` on folders of every kind: what it drafts passes `cmb_cohort check`."""

import io
import json
import time
import zipfile

import numpy as np
import pytest

from cmb_autoseg.cli.cohort import main
from cmb_autoseg.dataset_conversion import read_card
from cmb_autoseg.records import Role

from .conftest import TWO_BALLS, ball_mask, save, scan
from .test_shipped_cards import LAYOUTS, picture, put, series


def points_book(path, *lines):
    from openpyxl import Workbook

    book = Workbook()
    for line in lines:
        book.active.append(line)
    content = io.BytesIO()
    book.save(content)
    put(path, content.getvalue())


def in_archives(root):
    for name in ("p1", "p2"):
        path = save(root / f"{name}_swi.nii.gz", scan(len(name) + ord(name[1])))
        with zipfile.ZipFile(root / f"{name}.zip", "w") as archive:
            archive.write(path, f"{name}/swi.nii.gz")
        path.unlink()
        save(root / f"readings/{name}_cmb.nii.gz", ball_mask(TWO_BALLS))


def dicom_with_masks(root):
    for name in ("001_S_1", "002_S_2"):
        series(root / f"in/{name}/1", name, "20200101", 1, "SWI_Images")
        series(root / f"in/{name}/2", name, "20200101", 2, "Axial T2 FLAIR")
        series(root / f"in/{name}/3", name, "20200101", 3, "3-plane localizer")
        save(root / f"masks/{name}_CMB.nii.gz", np.zeros((8, 8, 3), np.uint8), np.diag([-0.9, -0.9, 2.0, 1.0]) +
             np.array([[0, 0, 0, 3.0], [0, 0, 0, 4.0], [0, 0, 0, 0], [0, 0, 0, 0]]))  # fmt: skip


def metaimage(root):
    import SimpleITK

    for name in ("a1", "a2"):
        (root / name).mkdir(parents=True)
        image = SimpleITK.GetImageFromArray(scan(ord(name[1])))
        SimpleITK.WriteImage(image, str(root / name / "swi.mha"))
        mask = SimpleITK.GetImageFromArray(ball_mask(TWO_BALLS))
        SimpleITK.WriteImage(mask, str(root / name / "cmb.nrrd"))


def matlab(root):
    from scipy.io import savemat

    for name in ("s1", "s2"):
        (root / name).mkdir(parents=True)
        savemat(root / name / "swi.mat", {"img": scan(ord(name[1]))})
        savemat(root / name / "gt.mat", {"cen": np.array([[6.0, 7, 5], [13, 15, 8]])})


def one_workbook(root):
    for number in (1, 2, 3):
        save(root / f"scans/s{number}_swi.nii.gz", scan(number))
    points_book(root / "readings.xlsx", ["scan", "x", "y", "z"], ["s1", 6, 7, 5], ["s1", 13, 15, 8], ["s2", 5, 5, 5])


def one_wide_workbook(root):
    for number in (1, 2):
        save(root / f"scans/{number}_SWI.nii.gz", scan(number))
    points_book(root / "all.xlsx", ["NIFTI File Name ", "Location 1"], ["1_SWI.nii.gz", 6, 7, 5, 13, 15, 8])


def a_workbook_each(root):
    for number in (1, 2):
        save(root / f"s{number}/swi.nii.gz", scan(number))
        points_book(root / f"s{number}/cmb.xlsx", ["x", "y", "z"], [6, 7, 5], [13, 15, 8])


def bids_with_description(root):
    put(root / "dataset_description.json", '{"Name": "x", "BIDSVersion": "1.10.0"}')
    for number in (1, 2):
        save(root / f"sub-{number}/ses-a/anat/sub-{number}_ses-a_T2starw.nii.gz", scan(number))
        save(root / f"sub-{number}/ses-a/anat/sub-{number}_ses-a_inv-1_MP2RAGE.nii.gz", scan(9 + number))
        save(root / f"readings/sub-{number}_ses-a_cmb.nii.gz", ball_mask(TWO_BALLS))


def coco_pictures(root):
    for k in range(3):
        picture(root / f"p1/slice_{k:02d}.png", k)
    boxes = [{"id": 1, "image_id": 2, "category_id": 7, "bbox": [2, 2, 3, 3]}]
    images = [{"id": k, "file_name": f"slice_{k:02d}.png", "width": 8, "height": 8} for k in range(3)]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 7, "name": "microbleed"}]}
    put(root / "boxes.json", json.dumps(content))


SWI, GRE, FLAIR = Role.SWI, Role.GRE_MAG, Role.FLAIR
FOLDERS = {
    "archives": (in_archives, "!/", {SWI}, [2, 2]),
    "dicom": (dicom_with_masks, "source: dicom", {SWI, FLAIR}, [0, 0]),
    "metaimage": (metaimage, "swi.mha", {SWI}, [2, 2]),
    "matlab": (matlab, "variable: cen, space: voxel1", {SWI}, [2, 2]),
    "one workbook": (one_workbook, "rows: ", {SWI}, [1, 2]),
    "one wide workbook": (one_wide_workbook, "wide: true", {SWI}, [2]),
    "a workbook each": (a_workbook_each, "kind: points, space: voxel1", {SWI}, [2, 2]),
    "bids": (bids_with_description, "extends: bids", {GRE}, [2, 2]),
    "yolo": (LAYOUTS["slices_boxes"].write, "format: yolo", {SWI}, [1]),
    "voc": (LAYOUTS["sysu_boxes"].write, 'format: voc, values: {cmb: "cmb"}', {SWI}, [1]),
    "coco": (coco_pictures, 'format: coco, values: {cmb: "microbleed"}', {SWI}, [1]),
    "valdo": (LAYOUTS["valdo"].write, "extends: valdo", {GRE, Role.T1, Role.T2}, [1, 1]),
    "uk biobank": (LAYOUTS["uk_biobank"].write, "extends: uk_biobank", None, [1]),
    "csiro": (LAYOUTS["momeni_csiro"].write, "extends: momeni_csiro", {SWI}, [0, 1]),
    "dou": (LAYOUTS["dou2016"].write, "extends: dou2016", {SWI}, [0, 1]),
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_draft_of_any_folder_passes_its_check(kind, tmp_path, capsys):
    write, line, roles, lesions = FOLDERS[kind]
    root = tmp_path / "cohort"
    root.mkdir()
    write(root)
    card = tmp_path / "card.yaml"
    assert main(["init", str(root), "-o", str(card)]) == 0
    text = card.read_text()
    assert line in text
    capsys.readouterr()
    assert main(["check", str(card), "--count-lesions"]) == 0, text
    counted = capsys.readouterr().out.partition("  lesions: ")[2].splitlines()[1:]
    assert sorted(int(line.rpartition(": ")[2]) for line in counted) == lesions, text
    if roles is not None:
        assert {frozenset(case.images) for case in read_card(str(card)).cases} == {frozenset(roles)}


def test_guesses_are_marked(tmp_path, capsys):
    matlab(tmp_path / "m")
    picture(tmp_path / "p/a/scan_01.png", 1)
    picture(tmp_path / "p/b/scan_01.png", 2)
    for folder in ("m", "p"):
        assert main(["init", str(tmp_path / folder)]) == 0
    marked = [line for line in capsys.readouterr().out.splitlines() if "# GUESS" in line]
    for what in ("spacing_mm: [1.0, 1.0, 1.0]", "spacing_mm: [0.5, 0.5, 2.0]", "axes: LPS", "space: voxel1"):
        assert any(what in line for line in marked), what


def test_a_dicom_draft_names_nobody(tmp_path, capsys):
    series(tmp_path / "a", "ID-77", "20190102", 1, "SWI")
    series(tmp_path / "b", "ID-78", "20190103", 1, "SWI")
    assert main(["init", str(tmp_path)]) == 0
    shown = "".join(capsys.readouterr())
    assert "hash_ids: true" in shown
    assert not any(text in shown for text in ("ID-77", "ID-78", "Family", "20190102"))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no scans in it"),
        ({"notes.txt": b"hello", "a.pdf": b"%PDF"}, "no scans in it"),
        ({"photo.jpg": b"\xff\xd8\xff"}, "their names do not say whose and which slice"),
        ({"a.zip": b"PK broken"}, "no scans in it"),
        ({"1/a.dcm": b"\0" * 128 + b"DICM" + b"\xff" * 40}, "none of their headers can be read"),
    ],
)
def test_a_folder_without_scans_is_one_line(files, message, tmp_path, capsys):
    root = tmp_path / "c"
    root.mkdir()
    for name, content in files.items():
        put(root / name, content)
    assert main(["init", str(root)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_large_folder_is_drafted_quickly(tmp_path, monkeypatch):
    from cmb_autoseg.dataset_conversion.draft import drafting

    paths = sorted(f"{n:07d}_2025{kind}_2_0.zip" for n in range(10_000) for kind in (1, 2))
    names = sorted(f"c{n:05d}/{kind}.nii" for n in range(10_000) for kind in ("swi", "t1", "cmb"))
    for listed, line in ((paths, "extends: uk_biobank"), (names, "role: swi")):
        monkeypatch.setattr(drafting, "list_files", lambda root, listed=listed: listed)
        start = time.perf_counter()
        assert line in drafting.draft_card(tmp_path)
        assert time.perf_counter() - start < 15
