import gzip
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from cmb_autoseg.cli.convert import main
from cmb_autoseg.dataset_conversion.conversion import workspace_salt
from cmb_autoseg.files import read_tsv
from cmb_autoseg.workspace import Workspace

from .conftest import CARD, SHAPE, TWO_BALLS, affine_of, ball_mask, save, scan

RAW = "raw/Dataset501_tiny"


def convert(*arguments: str, workspace: Path) -> int:
    return main([*arguments, "-d", "501", "--workspace", str(workspace)])


def test_cohort_becomes_nnunets_layout(tiny_cohort, write_card, tmp_path):
    assert convert(write_card(), workspace=tmp_path / "w") == 0

    raw = tmp_path / "w" / RAW
    written = sorted(str(path.relative_to(raw)) for path in raw.rglob("*.nii.gz"))
    assert written == [
        "imagesTr/sub-101_0000.nii.gz",
        "imagesTr/sub-101_0001.nii.gz",
        "imagesTr/sub-102_0000.nii.gz",
        "imagesTr/sub-102_0001.nii.gz",
        "imagesUn/sub-103_0000.nii.gz",
        "imagesUn/sub-103_0001.nii.gz",
        "labelsTr/sub-101.nii.gz",
        "labelsTr/sub-102.nii.gz",
    ]
    content = json.loads((raw / "dataset.json").read_text())
    assert content["channel_names"] == {"0": "gre_mag", "1": "t1"}
    assert (content["numTraining"], content["labels"]) == (2, {"background": 0, "cmb": 1})
    missing = nib.load(raw / "imagesTr/sub-102_0001.nii.gz")
    assert missing.get_data_dtype() == np.float32
    assert not np.any(missing.get_fdata())
    rows = read_tsv(raw / "cases.tsv")
    assert [(row["case"], row["sequences"], row["labelled"], row["n_lesions"]) for row in rows] == [
        ("sub-101", "gre_mag,t1", "1", "2"),
        ("sub-102", "gre_mag", "1", "0"),
        ("sub-103", "gre_mag", "0", "n/a"),
    ]
    assert rows[0]["source_files"].startswith("sub-101/sub-101_T2S.nii.gz;")


def table(workspace: Path, name: str) -> list[dict[str, str]]:
    return read_tsv(workspace / RAW / name)


NEVER_SEEN = """\
schema: 1
name: tiny
root: scans
case: "{sub}_{ses}"
images:
  venogram: {role: swi, path: "{centre}/people/P{sub}/{ses}/export/venogram.nii"}
  weighted: {role: t2, optional: true, path: "{centre}/people/P{sub}/{ses}/export/weighted.nii"}
labels:
  cmb:
    kind: points
    path: "{centre}/reads/P{sub}-{ses}.tsv"
    columns: {x: "R [mm]", y: "A [mm]", z: "S [mm]"}
    radius_mm: 1.9
    optional: true
meta:
  site: {from: centre}
"""
POINTS_MM = {
    ("north", "1", "baseline"): [(-1.8, -0.2, -2.0), (0.9, -0.2, -2.0), (3.6, 5.2, 4.0)],
    ("north", "1", "followup"): [(-1.8, -0.2, -2.0)],
    ("south", "2", "baseline"): [],
    ("south", "3", "baseline"): None,
}
OBLIQUE = np.array([[-0.9, 0.05, 0.0], [0.05, 0.0, -1.9], [0.02, 0.9, 0.1]])
"""Voxel axes run to the left, to the top and to the back, a little tilted."""


def test_layout_never_seen_keeps_every_lesion_in_its_place(tmp_path, write_card):
    affine = np.eye(4)
    affine[:3, :3] = OBLIQUE
    affine[:3, 3] = -OBLIQUE @ (np.array(SHAPE) / 2)
    for number, ((centre, sub, ses), points) in enumerate(POINTS_MM.items()):
        export = tmp_path / f"scans/{centre}/people/P{sub}/{ses}/export"
        save(export / "venogram.nii", scan(number), affine)
        if points is not None:
            reads = tmp_path / f"scans/{centre}/reads/P{sub}-{ses}.tsv"
            reads.parent.mkdir(parents=True, exist_ok=True)
            rows = ["\t".join(f"{value}" for value in point) for point in points]
            reads.write_text("\n".join(["R [mm]\tA [mm]\tS [mm]", *rows]) + "\n")
    save(tmp_path / "scans/south/people/P2/baseline/export/weighted.nii", scan(9), affine)

    assert convert(write_card(NEVER_SEEN), workspace=tmp_path / "w") == 0

    rows = {row["case"]: row for row in table(tmp_path / "w", "cases.tsv")}
    assert {case: row["n_lesions"] for case, row in rows.items()} == {
        "1_baseline": "3",
        "1_followup": "1",
        "2_baseline": "0",
        "3_baseline": "n/a",
    }
    assert [row["subject"] for row in rows.values()] == ["1", "1", "2", "3"]
    assert [row["site"] for row in rows.values()] == ["north", "north", "south", "south"]
    for (_, sub, ses), points in POINTS_MM.items():
        if points:
            image = nib.load(tmp_path / "w" / RAW / f"labelsTr/{sub}_{ses}.nii.gz")
            labelled, count = ndimage.label(image.get_fdata(), np.ones((3, 3, 3)))
            assert count == len(points)
            assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
            for point in points:
                voxel = np.rint(np.linalg.inv(image.affine) @ [*point, 1])[:3].astype(int)
                assert labelled[tuple(voxel)] > 0, f"{point} of {sub}_{ses} was lost"


def test_flipped_mask_keeps_its_place_in_the_world(tmp_path, write_card):
    affine = affine_of() @ np.diag([-1, 1, -1, 1])
    save(tmp_path / "sub-101/sub-101_T2S.nii.gz", scan(1), affine)
    save(tmp_path / "sub-101/sub-101_CMB.nii.gz", ball_mask([((4, 6, 9), 1.0)]), affine)

    assert convert(write_card(), workspace=tmp_path / "w") == 0

    image = nib.load(tmp_path / "w" / RAW / "labelsTr/sub-101.nii.gz")
    centre = ndimage.center_of_mass(image.get_fdata())
    assert np.allclose(image.affine @ [*centre, 1], affine @ [4, 6, 9, 1])


def spoil_all_nan(root: Path) -> None:
    save(root / "sub-101/sub-101_T2S.nii.gz", np.full(SHAPE, np.nan, np.float32))


def spoil_all_zero(root: Path) -> None:
    save(root / "sub-101/sub-101_T2S.nii.gz", np.zeros(SHAPE, np.float32))


def spoil_4d(root: Path) -> None:
    save(root / "sub-101/sub-101_T2S.nii.gz", np.stack([scan(1), scan(2)], axis=-1))


def spoil_gzip(root: Path) -> None:
    path = root / "sub-101/sub-101_T2S.nii.gz"
    path.write_bytes(path.read_bytes()[:4000])


def spoil_values(root: Path) -> None:
    save(root / "sub-101/sub-101_CMB.nii.gz", ball_mask(TWO_BALLS) * 3)


def spoil_mask_affine(root: Path) -> None:
    save(root / "sub-101/sub-101_CMB.nii.gz", ball_mask(TWO_BALLS), affine_of(origin_mm=(0, 0, 0)))


def spoil_mask_shape(root: Path) -> None:
    save(root / "sub-101/sub-101_CMB.nii.gz", np.zeros((20, 24, 13), np.uint8))


def spoil_t1_shape(root: Path) -> None:
    save(root / "sub-101/sub-101_T1.nii.gz", scan(1, (20, 24, 15)))


SPOILERS = {
    spoil_all_nan: "NaN",
    spoil_all_zero: "every voxel is zero",
    spoil_4d: r"a 4D file with 2 volumes; if they are echoes, choose one with .*images\.<name>\.echo",
    spoil_gzip: "damaged or truncated",
    spoil_values: "found label value 3, legal are 0 and cmb = 1",
    spoil_mask_affine: "mm off .*labels.cmb.resample: nearest",
    spoil_mask_shape: r"shape \(20, 24, 13\) differs .*labels.cmb.resample: nearest",
    spoil_t1_shape: "shape .* differs",
}


@pytest.mark.parametrize("spoil", SPOILERS, ids=lambda spoil: spoil.__name__)
def test_bad_case_is_left_out_with_its_reason_and_the_others_go_on(spoil, tiny_cohort, write_card, tmp_path, capsys):
    spoil(tiny_cohort)
    assert convert(write_card(), workspace=tmp_path / "w") == 1
    (exclusion,) = table(tmp_path / "w", "exclusions.tsv")
    assert exclusion["case"] == "sub-101"
    assert re.search(SPOILERS[spoil], exclusion["reason"])
    assert exclusion["reason"] in capsys.readouterr().err
    assert [row["case"] for row in table(tmp_path / "w", "cases.tsv")] == ["sub-102", "sub-103"]
    raw = tmp_path / "w" / RAW
    assert not list(raw.rglob("sub-101*"))
    # T1 was only with the bad case, so its channel is gone and no empty one is left.
    assert json.loads((raw / "dataset.json").read_text())["channel_names"] == {"0": "gre_mag"}
    assert not list(raw.rglob("*_0001.nii.gz"))


@pytest.mark.parametrize("spoil", SPOILERS, ids=lambda spoil: spoil.__name__)
def test_without_any_good_case_nothing_is_written(spoil, tiny_cohort, write_card, tmp_path, capsys):
    for number in (102, 103):
        shutil.rmtree(tiny_cohort / f"sub-{number}")
    spoil(tiny_cohort)
    assert convert(write_card(), workspace=tmp_path / "w") == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("cmb_convert: error:")
    assert re.search(SPOILERS[spoil], error)
    assert not (tmp_path / "w/raw").exists()


def test_truth_of_unlabelled_test_and_training_cases(tiny_cohort, write_card, tmp_path):
    (tiny_cohort / "participants.tsv").write_text(
        "participant_id\tgroup\nsub-101\ttest\nsub-102\ttrain\nsub-103\ttest\n"
    )
    card = CARD + "meta:\n  participants: {path: participants.tsv, key: sub}\n  split: {from: group}\n"
    assert convert(write_card(card), workspace=tmp_path / "w") == 0
    raw = tmp_path / "w" / RAW
    assert sorted(str(p.relative_to(raw)) for p in raw.rglob("*_0000.nii.gz")) == [
        "imagesTr/sub-102_0000.nii.gz",
        "imagesTs/sub-101_0000.nii.gz",
        "imagesTs/sub-103_0000.nii.gz",
    ]
    assert [p.name for p in (raw / "labelsTs").iterdir()] == ["sub-101.nii.gz"]


def test_subject_in_training_and_test_is_refused(tmp_path, write_card, capsys):
    for session in ("a", "b"):
        save(tmp_path / f"1/{session}/swi.nii.gz", scan(1))
    card = """\
schema: 1
name: tiny
images: {s: {role: swi, path: "{sub}/{ses}/swi.nii.gz"}}
meta: {split: {from: ses, map: {a: train, b: test}}}
"""
    assert convert(write_card(card), workspace=tmp_path / "w") == 2
    assert "subject 1 of tiny is in train with 1_a and in test with 1_b" in capsys.readouterr().err


def test_repeated_run_skips_what_is_finished_and_gives_the_same_bytes(tiny_cohort, write_card, tmp_path, capsys):
    card = write_card()
    raw = tmp_path / "w" / RAW
    convert(card, workspace=tmp_path / "w")
    before = {path: path.read_bytes() for path in raw.rglob("*") if path.is_file()}
    times = {path: path.stat().st_mtime_ns for path in raw.rglob("*.nii.gz")}
    assert convert(card, workspace=tmp_path / "w") == 0
    assert "3 unchanged" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in raw.rglob("*") if path.is_file()} == before
    assert {path: path.stat().st_mtime_ns for path in raw.rglob("*.nii.gz")} == times
    convert(card, workspace=tmp_path / "w2")
    assert {path: (tmp_path / "w2" / path.relative_to(tmp_path / "w")).read_bytes() for path in before} == before


def test_changed_and_departed_cases_are_followed(tiny_cohort, write_card, tmp_path, capsys):
    card = write_card()
    raw = tmp_path / "w" / RAW
    convert(card, workspace=tmp_path / "w")
    (raw / "splits_final.json").write_text("[]")
    save(tiny_cohort / "sub-101/sub-101_CMB.nii.gz", ball_mask(TWO_BALLS[:1]))
    convert(card, workspace=tmp_path / "w")
    assert [row["n_lesions"] for row in table(tmp_path / "w", "cases.tsv")] == ["1", "0", "n/a"]
    assert (raw / "splits_final.json").exists()

    shutil.rmtree(tiny_cohort / "sub-103")
    convert(card, workspace=tmp_path / "w")
    assert not list(raw.rglob("sub-103*"))
    assert not (raw / "splits_final.json").exists()
    assert "removed, because the cases changed" in capsys.readouterr().err


def test_interrupted_conversion_has_no_dataset_json_and_goes_on(tiny_cohort, write_card, tmp_path, monkeypatch, capsys):
    from cmb_autoseg.dataset_conversion import case_conversion as module

    prepare = module.prepare_case

    def stop_at_103(case, *marks, **options):
        if case.name == "sub-103":
            raise KeyboardInterrupt
        return prepare(case, *marks, **options)

    monkeypatch.setattr(module, "prepare_case", stop_at_103)
    assert convert(write_card(), workspace=tmp_path / "w") == 130
    assert not (tmp_path / "w" / RAW / "dataset.json").exists()
    monkeypatch.setattr(module, "prepare_case", prepare)
    assert convert(write_card(), workspace=tmp_path / "w") == 0
    assert "2 unchanged" in capsys.readouterr().out

    for number in (101, 103):
        save(tiny_cohort / f"sub-{number}/sub-{number}_T2S.nii.gz", scan(50 + number))
    monkeypatch.setattr(module, "prepare_case", stop_at_103)
    assert convert(write_card(), workspace=tmp_path / "w") == 130
    assert not (tmp_path / "w" / RAW / "dataset.json").exists()


def test_two_cards_become_one_dataset(tiny_cohort, write_card, tmp_path):
    other = tmp_path / "other"
    save(other / "sub-101/swi.nii.gz", scan(5))
    save(other / "sub-900/swi.nii.gz", scan(6))
    second = 'schema: 1\nname: second\nimages: {s: {role: swi, path: "{sub}/swi.nii.gz"}}\n'
    cards = [write_card(), f"{write_card(second, 'second.yaml')}={other}"]
    assert main([*cards, "-d", "501", "--workspace", str(tmp_path / "w")]) == 0
    raw = tmp_path / "w/raw/Dataset501_tinysecond"
    rows = read_tsv(raw / "cases.tsv")
    assert [(row["case"], row["cohort"]) for row in rows] == [
        ("second-sub-101", "second"),
        ("sub-102", "tiny"),
        ("sub-103", "tiny"),
        ("sub-900", "second"),
        ("tiny-sub-101", "tiny"),
    ]
    assert json.loads((raw / "dataset.json").read_text())["channel_names"] == {"0": "swi", "1": "gre_mag", "2": "t1"}


def test_same_card_twice_is_refused(tiny_cohort, write_card, tmp_path, capsys):
    card = write_card()
    assert convert(card, card, workspace=tmp_path / "w") == 2
    assert "case sub-101 of cohort tiny is also in" in capsys.readouterr().err


def test_dataset_of_other_cohorts_is_not_overwritten(tiny_cohort, write_card, tmp_path, capsys):
    convert(write_card(), workspace=tmp_path / "w")
    assert convert(write_card(CARD.replace("name: tiny", "name: foreign")), workspace=tmp_path / "w") == 2
    assert "holds tiny, none of which is given now" in capsys.readouterr().err


GLUED = """\
schema: 1
name: {name}
root: {name}
images:
  swi: {{role: swi, path: "{{sub:[A-Z]\\\\d{{4}}}}/P{{sub}}scan_swi.nii.gz"}}
prep: {{brain: already_masked}}
privacy: {{hash_ids: true}}
"""


def everything(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Names and contents of all files, unpacked."""
    for path in folder.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        yield path, gzip.decompress(content) if path.suffix == ".gz" else content


def test_hashed_identifiers_leave_no_trace(tiny_cohort, write_card, tmp_path, capsys):
    spoil_values(tiny_cohort)
    spoiled = scan(102)
    spoiled[5, 5, 5] = np.nan
    image = nib.Nifti1Image(spoiled, affine_of())
    image.header["descrip"] = b"sub-102"
    nib.save(image, tiny_cohort / "sub-102/sub-102_T2S.nii.gz")
    assert convert(write_card(CARD + "privacy: {hash_ids: true}\n"), workspace=tmp_path / "w") == 1
    shown = capsys.readouterr()
    assert "sub-10" not in shown.out + shown.err
    log = (tmp_path / "w" / RAW / "conversion_log.txt").read_text()
    assert re.search(r"1 NaN or infinite voxels of anon[0-9a-f]{12}_T2S.nii.gz set to 0", log)
    for path, content in everything(tmp_path / "w"):
        assert "sub-10" not in path.name
        assert b"sub-10" not in content, path


def test_hashed_identifiers_of_two_cohorts_leave_no_trace(write_card, tmp_path, capsys):
    people = {"north": ("A7781", "A7782"), "south": ("B4321", "B4322")}
    for number, (cohort, person) in enumerate((c, person) for c in people for person in people[c]):
        data = scan(number)
        data[5, 5, 5] = np.nan
        save(tmp_path / f"{cohort}/{person}/P{person}scan_swi.nii.gz", data)
    same = tmp_path / "north/A7781/PA7781scan_swi.nii.gz"
    shutil.copy(same, tmp_path / "south/B4321/PB4321scan_swi.nii.gz")
    cards = [write_card(GLUED.format(name=name), f"{name}.yaml") for name in people]

    assert convert(*cards, workspace=tmp_path / "w") == 1

    shown = capsys.readouterr()
    (raw,) = (tmp_path / "w/raw").iterdir()
    reasons = [row["reason"] for row in read_tsv(raw / "exclusions.tsv")]
    scan_name = r"anon[0-9a-f]{12}/Panon[0-9a-f]{12}scan_swi.nii.gz"
    assert len(reasons) == 2
    assert all(re.match(f"{scan_name}: the very scan of {scan_name}, ", reason) for reason in reasons)
    assert [bool(re.fullmatch(scan_name, row["source_files"])) for row in read_tsv(raw / "cases.tsv")] == [True, True]
    written = [("terminal", (shown.out + shown.err).encode()), *everything(tmp_path / "w")]
    for person in (person for known in people.values() for person in known):
        for path, content in written:
            assert person not in str(path).removeprefix(str(tmp_path))
            # The salt is random hexadecimal digits, which may hold any number by chance.
            assert str(path).endswith("salt") or person[1:].encode() not in content, path


def test_short_salt_is_refused(tiny_cohort, write_card, tmp_path, capsys):
    card = write_card(CARD + "privacy: {hash_ids: true}\n")
    assert convert(card, workspace=tmp_path / "w") == 0
    salt = tmp_path / "w/salt"
    assert salt.stat().st_mode & 0o777 == 0o600
    for text in ("", "pepper\n"):
        salt.write_text(text)
        assert convert(card, workspace=tmp_path / "w") == 2
        assert f"holds {len(text.strip())} characters, 16 or more are needed" in capsys.readouterr().err


def test_salt_is_never_readable_for_others(tmp_path, monkeypatch):
    """Not even for the moment between its making and a change of its mode."""
    monkeypatch.setattr(Path, "chmod", lambda *_: pytest.fail("made first, closed afterwards"))
    workspace_salt(Workspace(tmp_path / "w"))
    assert (tmp_path / "w/salt").stat().st_mode & 0o777 == 0o600


def test_processes_give_the_same_dataset(tiny_cohort, write_card, tmp_path):
    card = write_card()
    convert(card, workspace=tmp_path / "one")
    convert(card, "--jobs", "2", workspace=tmp_path / "two")
    for path in (tmp_path / "one" / "raw").rglob("*.*"):
        if path.is_file():
            assert (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes() == path.read_bytes()


def test_cohort_without_any_lesion_is_warned_of(tiny_cohort, write_card, tmp_path, capsys):
    save(tiny_cohort / "sub-101/sub-101_CMB.nii.gz", 3 * ball_mask(TWO_BALLS))
    assert convert(write_card(CARD.replace("{cmb: 1}", "{cmb: 1, other: 3}")), workspace=tmp_path / "w") == 0
    warning = "warning: tiny: no lesion in any of 2 labelled cases; "
    assert (
        f"{warning}if microbleeds have another value in the masks, write values: {{cmb: 3}}" in capsys.readouterr().err
    )
    assert convert(write_card(CARD.replace("{cmb: 1}", "{cmb: 3}")), workspace=tmp_path / "w") == 0
    assert "no lesion" not in capsys.readouterr().err


def test_workspace_that_cannot_be_written_is_refused(tiny_cohort, write_card, tmp_path, capsys):
    (tmp_path / "w").write_text("a file")
    assert convert(write_card(), workspace=tmp_path / "w") == 2
    assert "cannot write there (Not a directory); choose another folder\n" in capsys.readouterr().err
