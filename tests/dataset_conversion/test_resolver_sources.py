"""Cohorts whose images lie in archives, pictures and MATLAB files, sorted and checked by the command."""

import gzip
import re
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import scipy.io
from PIL import Image

from cmb_autoseg.cli.cohort import main
from cmb_autoseg.dataset_conversion import read_card
from cmb_autoseg.dataset_conversion.sorting.placement import Slice, affine_by_axes, affine_by_slices
from cmb_autoseg.errors import CardError, InputError
from cmb_autoseg.readers import read_grid, read_volume
from cmb_autoseg.records import Role

from .conftest import ball_mask, save, scan

UKB = r"""schema: 1
name: bulk
case: "{sub}_{ses}"
images:
  SWI: {role: swi, path: "{sub:\\d+}_20251_{ses:\\d}_0.zip!/SWI/SWI.nii.gz"}
  T1: {role: t1, optional: true, path: "{sub:\\d+}_20252_{ses:\\d}_0.zip!/T1/T1.nii.gz"}
labels:
  cmb: {kind: mask, path: "readings/{sub:\\d+}_{ses:\\d}.nii.gz", optional: true}
prep: {brain: already_masked}
"""


def as_bytes(data: np.ndarray) -> bytes:
    return nib.Nifti1Image(data, np.diag([0.9, 0.9, 2, 1])).to_bytes()


def zip_up(path: Path, members: dict[str, np.ndarray]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, gzip.compress(as_bytes(data), mtime=0))
    return path


@pytest.fixture
def bulk(tmp_path, write_card):
    for person in (11, 12, 13):
        zip_up(tmp_path / f"{person}_20251_2_0.zip", {"SWI/SWI.nii.gz": scan(person), "SWI/other.nii.gz": scan(0)})
        zip_up(tmp_path / f"{person}_20252_2_0.zip", {"T1/T1.nii.gz": scan(person + 50)})
    path = tmp_path / "readings/11_2.nii.gz"
    path.parent.mkdir()
    path.write_bytes(gzip.compress(as_bytes(ball_mask([((9, 9, 7), 1)]))))
    return write_card(UKB)


def test_bulk_archives_are_one_case_a_visit(bulk, tmp_path, capsys):
    assert main(["check", bulk, "--count-lesions"]) == 0
    out = capsys.readouterr().out
    for line in ("images.SWI: 3 files", "images.T1: 3 files", "usable cases: 3, from 3 subjects", "11_2: 1"):
        assert line in out
    case = read_card(bulk).cases[0]
    assert (case.name, case.session) == ("11_2", "2")
    assert case.images[Role.SWI].path == f"{tmp_path}/11_20251_2_0.zip!/SWI/SWI.nii.gz"
    np.testing.assert_array_equal(read_volume(case.images[Role.SWI]).data, scan(11))


def test_broken_archive_leaves_out_its_cases_alone(bulk, tmp_path, capsys):
    (tmp_path / "12_20251_2_0.zip").write_bytes(b"half an archive")
    (tmp_path / "13_20252_2_0.zip").write_bytes(b"half another")
    assert main(["check", bulk]) == 2
    out = capsys.readouterr().out
    assert "usable cases: 2" in out
    assert "12_20251_2_0.zip: damaged archive (File is not a zip file); copy it again, whole" in out
    cohort = read_card(bulk)
    assert [exclusion.case for exclusion in cohort.exclusions] == ["12_2"]
    # The T1 is optional: the case goes on without it, and says so.
    assert "left out: 13_20252_2_0.zip: damaged archive" in cohort.cases[1].notes[Role.T1]


def test_archives_of_other_names_stay_closed(bulk, tmp_path, monkeypatch):
    zip_up(tmp_path / "backup.zip", {"SWI/SWI.nii.gz": scan(1)})
    from cmb_autoseg.dataset_conversion.sorting import matching

    opened: list[str] = []
    listing = matching.list_members
    monkeypatch.setattr(matching, "list_members", lambda path: opened.append(path.name) or listing(path))
    cohort = read_card(bulk)
    assert len(opened) == len(set(opened)) == 6
    assert cohort.unmatched == ("backup.zip",)


def test_one_archive_of_all_people(tmp_path, write_card, capsys):
    zip_up(tmp_path / "all.zip", {f"top/s{n}/swi.nii.gz": scan(n) for n in (1, 2)})
    card = 'schema: 1\nname: x\nimages: {s: {role: swi, path: "all.zip!/top/{sub}/swi.nii.gz"}}\n'
    assert [case.name for case in read_card(write_card(card)).cases] == ["s1", "s2"]
    with pytest.raises(CardError, match=r"nearest file is all\.zip!/top/s1/swi\.nii\.gz"):
        read_card(write_card(card.replace("/swi.", "/SWAN.")))
    (tmp_path / "all.zip").write_bytes(b"")
    assert main(["check", write_card(card)]) == 2
    error = capsys.readouterr().err
    assert "matches nothing under" in error
    assert "all.zip: damaged archive (File is not a zip file); copy it again, whole" in error
    zip_up(tmp_path / "more.zip", {"top/s5/swi.nii.gz": scan(5)})
    assert main(["check", write_card(card.replace("all.zip", "{part}.zip"))]) == 2
    assert "all.zip: none of its cases are known: " in capsys.readouterr().out


def test_scan_of_two_people_is_found_in_archives(bulk, tmp_path, capsys):
    zip_up(tmp_path / "13_20251_2_0.zip", {"SWI/SWI.nii.gz": scan(11), "SWI/other.nii.gz": scan(4)})
    assert main(["check", bulk]) == 2
    assert "13_20251_2_0.zip!/SWI/SWI.nii.gz: the very scan of" in capsys.readouterr().out


PICTURES = """schema: 1
name: slices
dim: 2
images:
  SWI: {role: swi, path: "{sub}_{slice:\\\\d+}.png", stack: slice%s}
"""


def pictures(folder: Path, person: str, numbers, size=(10, 8)) -> np.ndarray:
    """Slices of noise; returns the stack as (rows, columns, slices)."""
    data = np.random.default_rng(len(person)).integers(1, 255, (*size, max(numbers) + 1)).astype(np.uint8)
    for n in numbers:
        Image.fromarray(data[:, :, n]).save(folder / f"{person}_{n:03d}.png")
    return data


def test_pictures_of_a_case_are_one_volume_in_order_of_numbers(tmp_path, write_card, capsys):
    data = pictures(tmp_path, "a", [8, 9, 11])
    card = write_card(PICTURES % ", spacing_mm: [0.5, 0.5, 3]")
    (case,) = read_card(card).cases
    volume = read_volume(case.images[Role.SWI])
    assert volume.shape == (8, 10, 4)
    np.testing.assert_array_equal(volume.data[:, :, 0], data[:, :, 8].T)
    np.testing.assert_array_equal(volume.data[:, :, 3], data[:, :, 11].T)
    assert not volume.data[:, :, 2].any()
    np.testing.assert_array_equal(volume.affine, np.diag([-0.5, -0.5, 3, 1]))
    assert case.notes == {Role.SWI: "swi: 1 of 4 slices absent and taken as zero"}
    assert main(["check", card]) == 0
    assert "images.SWI: 3 files" in capsys.readouterr().out


def test_a_picture_alone_is_a_volume_of_one_slice(tmp_path, write_card):
    pictures(tmp_path, "a", [8, 9])
    card = PICTURES.replace("stack: slice%s", "axes: LPS, spacing_mm: [1, 1, 2]")
    cohort = read_card(write_card(card + 'case: "{sub}_{slice}"\n'))
    assert [case.name for case in cohort.cases] == ["a_008", "a_009"]
    assert [case.subject for case in cohort.cases] == ["a", "a"]
    assert read_grid(cohort.cases[0].images[Role.SWI])[0] == (8, 10, 1)


@pytest.mark.parametrize(
    ("dpi", "note", "size_mm"),
    [
        ({}, "a_008.png says nothing of its pixels' size: 1 mm assumed; give images.SWI.spacing_mm or slices", 1.0),
        ({"dpi": (96, 96)}, "a_008.png has 96 dpi, which is a screen's and not the scan's: 1 mm assumed", 1.0),
        ({"dpi": (50.8, 50.8)}, "pixels of 0.5 mm by the resolution of a_008.png, slices 1 mm apart assumed", 0.5),
    ],
)
def test_what_is_assumed_of_sizes_is_noted(dpi, note, size_mm, tmp_path, write_card):
    Image.fromarray(np.full((10, 8), 9, np.uint8)).save(tmp_path / "a_008.png", **dpi)
    (case,) = read_card(write_card(PICTURES % "")).cases
    assert note in case.notes[Role.SWI]
    assert read_volume(case.images[Role.SWI]).spacing_mm == pytest.approx((size_mm, size_mm, 1), rel=1e-3)


def test_faulty_stacks_leave_out_their_case_alone(tmp_path, write_card, capsys):
    for person in ("a", "b", "c"):
        pictures(tmp_path, person, [1, 2])
    pictures(tmp_path, "b", [3], size=(9, 8))
    Image.fromarray(np.full((10, 8), 9, np.uint8)).save(tmp_path / "c_01.png")
    assert main(["check", write_card(PICTURES % ", spacing_mm: [1, 1, 1]")]) == 2
    out = capsys.readouterr().out
    assert "usable cases: 1" in out
    assert "b_003.png: 8 x 9 pixels, but b_001.png of the same case has 8 x 10" in out
    assert "c_01.png: slice 1 is also c_001.png; keep one" in out or "c_001.png: slice 1 is also c_01.png" in out


def slice_table(path: Path, stem: str, affine: np.ndarray, size, numbers) -> None:
    rows = ["image\tx_mm\ty_mm\tz_mm\tpixel_mm\tslice_mm"]
    pixel, thick = np.linalg.norm(affine[:3, 0]), np.linalg.norm(affine[:3, 2])
    for n in numbers:
        x, y, z, _ = affine @ [(size[1] - 1) / 2, (size[0] - 1) / 2, n, 1]
        rows.append(f"{stem}_{n:03d}.png\t{x:.3f}\t{y:.3f}\t{z:.3f}\t{pixel:g}\t{thick:g}")
    path.write_text("\n".join(rows) + "\n")


@pytest.mark.parametrize("axes", ["LPS", "LPI", "PSR", "LIA", "RAS"])
@pytest.mark.parametrize("tilt_deg", [0, 17])
def test_tables_of_slices_place_oblique_stacks(axes, tilt_deg, tmp_path, write_card):
    truth = np.array(affine_by_axes((0.6, 0.6, 2.5), axes))
    # Turned about the axis of the columns, as slices along a line of the brain are.
    column = truth[:3, 0] / 0.6
    cosine, sine = np.cos(np.radians(tilt_deg)), np.sin(np.radians(tilt_deg))
    cross = np.array([[0, -column[2], column[1]], [column[2], 0, -column[0]], [-column[1], column[0], 0]])
    turn = cosine * np.eye(3) + sine * cross + (1 - cosine) * np.outer(column, column)
    truth[:3, :3] = turn @ truth[:3, :3]
    truth[:3, 3] = (11, -7, 30)
    pictures(tmp_path, "a", range(4, 9))
    slice_table(tmp_path / "a.tsv", "a", truth, (10, 8), range(4, 9))
    card = PICTURES % f', axes: {axes}, slices: {{path: "{{sub}}.tsv"}}'
    (case,) = read_card(write_card(card)).cases
    expected = truth.copy()
    expected[:3, 3] += 4 * truth[:3, 2]
    np.testing.assert_allclose(read_grid(case.images[Role.SWI])[1], expected, atol=2e-3)
    assert case.notes == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("a_005.png", "x.png"), r"a\.tsv: no row of a_005\.png in column image; add it"),
        (lambda text: text.replace("x_mm", "x"), r"no column x_mm \(there: .*\); name it in images\.<name>\.slices"),
        (lambda text: text.replace("\t0.6\t", "\tn/a\t"), "pixel_mm"),
        (lambda text: text.replace("\t0.6\t", "\t-1\t"), "sizes of -1 and 2.5 mm"),
        (lambda text: text.replace("\t10.000\t", "\t11.500\t"), "off the line of evenly spaced slices"),
    ],
)
def test_wrong_tables_of_slices_leave_out_their_case(change, message, tmp_path, write_card):
    truth = np.array(affine_by_axes((0.6, 0.6, 2.5), "LPS"))
    pictures(tmp_path, "a", range(3, 6))
    slice_table(tmp_path / "a.tsv", "a", truth, (10, 8), range(3, 6))
    (tmp_path / "a.tsv").write_text(change((tmp_path / "a.tsv").read_text()))
    (exclusion,) = read_card(write_card(PICTURES % ', slices: {path: "{sub}.tsv"}')).exclusions
    assert re.search(message, exclusion.reason)
    assert not exclusion.by_rule


def test_slices_across_the_given_axes_are_refused():
    slices = [Slice(n, (0, 3.0 * n, 0), 1, 3) for n in range(3)]
    with pytest.raises(InputError, match=r"90 degrees off the third of axes \(LPS\)"):
        affine_by_slices(slices, "LPS", (4, 4))


def test_matlab_volumes_get_the_cards_sizes_or_a_note(tmp_path, write_card, capsys):
    data = np.random.default_rng(0).integers(1, 99, (6, 5, 4)).astype(np.int16)
    for person in ("a", "b"):
        scipy.io.savemat(tmp_path / f"{person}.mat", {"data": data + ord(person), "more": np.ones((6, 5, 4))})
    card = 'schema: 1\nname: m\nimages: {S: {role: swi, path: "{sub}.mat", variable: data%s}}\n'
    cases = read_card(write_card(card % ", spacing_mm: [0.5, 0.5, 2], axes: LPS")).cases
    volume = read_volume(cases[0].images[Role.SWI])
    np.testing.assert_array_equal(volume.data, data + ord("a"))
    np.testing.assert_array_equal(volume.affine, np.diag([-0.5, -0.5, 2, 1]))
    assert cases[0].notes == {}
    (case, _) = read_card(write_card(card % "")).cases
    assert "a.mat says nothing of its voxels' size: 1 mm assumed; give images.S.spacing_mm" in case.notes[Role.SWI]
    assert main(["check", write_card((card % "").replace(", variable: data", ""))]) == 2
    assert "holds 2 volumes (there: data (6 x 5 x 4 int16), more (6 x 5 x 4 double))" in capsys.readouterr().out


def test_metaimage_and_nrrd_stand_beside_nifti(tmp_path, write_card):
    import SimpleITK

    for suffix in ("mha", "nrrd"):
        image = SimpleITK.GetImageFromArray(scan(1).T)
        image.SetSpacing((0.9, 0.9, 2))
        image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
        SimpleITK.WriteImage(image, str(tmp_path / f"a_swi.{suffix}"))
    save(tmp_path / "a_t1.nii.gz", scan(2), np.diag([0.9, 0.9, 2, 1]))
    card = (
        'schema: 1\nname: m\nimages: {S: {role: swi, path: "{sub}_swi.%s"}, T: {role: t1, path: "{sub}_t1.nii.gz"}}\n'
    )
    for suffix in ("mha", "nrrd"):
        cohort = read_card(write_card(card % suffix))
        grids = [read_grid(source) for source in cohort.cases[0].images.values()]
        np.testing.assert_allclose(grids[0][1], grids[1][1], atol=1e-6)
        assert len(cohort.unmatched) == 1


def test_cases_that_the_card_excludes_keep_their_reason(tiny_cohort, write_card, capsys):
    from .conftest import CARD

    rest = "exclude: {sub-102: moved too much, sub-999: not there}\n"
    assert main(["check", write_card(CARD + rest)]) == 0
    shown = capsys.readouterr()
    assert "left out by rule: 1\n    sub-102: the card excludes it: moved too much" in shown.out
    assert "exclude names sub-999, which is no case here" in shown.err
    cohort = read_card(write_card(CARD + rest + "privacy: {hash_ids: true}\n"), salt="pepper")
    (left_out,) = cohort.exclusions
    assert left_out.case.startswith("anon")
    assert cohort.warnings == ("tiny: exclude holds 1 names that are no case here; check the names",)
    card = write_card(
        CARD + f"exclude: {{{left_out.case}: as written in exclusions.tsv}}\nprivacy: {{hash_ids: true}}\n"
    )
    assert [exclusion.case for exclusion in read_card(card, salt="pepper").exclusions] == [left_out.case]


def test_brain_masks_and_readings_without_lesions(tmp_path, write_card):
    for person, folder in (("1", "with"), ("2", "without"), ("3", "unread")):
        save(tmp_path / folder / f"{person}_swi.nii.gz", scan(int(person)))
    save(tmp_path / "with/1_cmb.nii.gz", ball_mask([((9, 9, 7), 1)]))
    save(tmp_path / "brains/1.nii.gz", (scan(1) > 0).astype(np.uint8))
    card = """schema: 1
name: x
images: {s: {role: swi, path: "{folder}/{sub}_swi.nii.gz"}}
labels:
  cmb: {kind: mask, path: "with/{sub}_cmb.nii.gz", optional: true}
  no_cmb: {path: "without/{sub}_swi.nii.gz"}
brain_mask: {path: "brains/{sub}.nii.gz"}
"""
    cases = read_card(write_card(card)).cases
    assert [case.label and case.label.kind for case in cases] == ["mask", "reviewed", None]
    assert [case.brain_mask is not None for case in cases] == [True, False, False]
    required = card.replace(", optional: true}", "}").replace(
        '{path: "without/{sub}_swi.nii.gz"}', "{from: group, is: control}"
    )
    required += "meta: {group: {from: folder, map: {with: patient, without: control, unread: unknown}}}\n"
    cohort = read_card(write_card(required))
    assert [case.label and case.label.kind for case in cohort.cases] == ["mask", "reviewed"]
    assert [exclusion.case for exclusion in cohort.exclusions] == ["3"]
    told = card.replace('{path: "without/{sub}_swi.nii.gz"}', "{from: folder, is: [without, unread]}")
    cases = read_card(write_card(told)).cases
    assert [case.label and case.label.kind for case in cases] == ["mask", "reviewed", "reviewed"]


def test_the_latest_of_several_files_is_taken_on_request(tmp_path, write_card):
    for name in ("a_2019_swi", "a_2021_swi", "a_2020_swi"):
        save(tmp_path / f"{name}.nii.gz", scan(1))
    card = 'schema: 1\nname: x\nimages: {s: {role: swi, pick: latest, path: "{sub}_{year}_swi.nii.gz"}}\n'
    (case,) = read_card(write_card(card)).cases
    assert case.images[Role.SWI].path.endswith("a_2021_swi.nii.gz")
    assert "took a_2021_swi.nii.gz, not a_2020_swi.nii.gz, a_2019_swi.nii.gz (the latest)" in case.notes[Role.SWI]
