"""One scan under two subjects is left out of both: it could stand on both sides of a fold."""

import shutil

import nibabel as nib
import numpy as np
import pytest

from cmb_autoseg.cli import cohort as cohort_command
from cmb_autoseg.cli import convert
from cmb_autoseg.files import read_tsv

CARD = """\
schema: 1
name: Doubled
images:
  T2S: {role: gre_mag, path: "{sub}/{ses}/T2S.nii.gz"}
labels:
  cmb: {kind: mask, path: "{sub}/{ses}/CMB.nii.gz"}
prep: {brain: already_masked}
"""


@pytest.fixture
def folder(tmp_path):
    """s0, s1 and s2 with scans of their own and equal masks without lesions; s2 has one scan in two sessions."""
    for index, visit in enumerate(("s0/a", "s1/a", "s2/a")):
        data = np.zeros((12, 12, 8), dtype=np.float32)
        data[2:-2, 2:-2, 1:-1] = np.random.default_rng(index).normal(100, 5, (8, 8, 6))
        (tmp_path / "cohort" / visit).mkdir(parents=True)
        nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / "cohort" / visit / "T2S.nii.gz")
        nib.save(nib.Nifti1Image(np.zeros(data.shape, np.uint8), np.eye(4)), tmp_path / "cohort" / visit / "CMB.nii.gz")
    shutil.copytree(tmp_path / "cohort" / "s2" / "a", tmp_path / "cohort" / "s2" / "b")
    (tmp_path / "cohort" / "card.yaml").write_text(CARD)
    return tmp_path / "cohort"


def run_convert(folder):
    return convert.main([str(folder / "card.yaml"), "-d", "7", "--workspace", str(folder.parent / "ws")])


def test_equal_masks_and_sessions_are_no_fault(folder):
    assert cohort_command.main(["check", str(folder / "card.yaml")]) == 0
    assert run_convert(folder) == 0


def test_a_scan_of_two_subjects_is_told_of_and_left_out(folder, capsys):
    shutil.copy(folder / "s0" / "a" / "T2S.nii.gz", folder / "s1" / "a" / "T2S.nii.gz")
    assert cohort_command.main(["check", str(folder / "card.yaml")]) == 2
    assert "s1_a: " in (table := capsys.readouterr().out)
    assert "though subjects s1 and s0 are taken for two people; remove the wrong one" in table
    assert run_convert(folder) == 1
    raw = folder.parent / "ws" / "raw" / "Dataset007_Doubled"
    left_out = read_tsv(raw / "exclusions.tsv")
    assert [row["case"] for row in left_out] == ["s0_a", "s1_a"]
    assert left_out[0]["reason"].startswith("s0/a/T2S.nii.gz: the very scan of s1/a/T2S.nii.gz")
    assert [row["case"] for row in read_tsv(raw / "cases.tsv")] == ["s2_a", "s2_b"]


def test_equal_headers_of_different_voxels_are_two_scans(folder, capsys):
    header = "NDims = 3\nDimSize = 4 4 4\nElementType = MET_SHORT\nElementSpacing = 1 1 1\nElementDataFile = v.raw\n"
    for index in range(3):
        place = folder / f"s{index}/a"
        (place / "T2S.mhd").write_text(header)
        (place / "v.raw").write_bytes(np.arange(64, dtype="<i2").tobytes() if index else bytes(128))
    (folder / "card.yaml").write_text(CARD.partition("labels:")[0].replace(".nii.gz", ".mhd"))
    assert cohort_command.main(["check", str(folder / "card.yaml")]) == 2
    shown = capsys.readouterr().out
    assert "usable cases: 1" in shown
    assert "s1/a/T2S.mhd: the very scan of" in shown
