"""Quality control, participant flow and exclusions of a conversion, through the command."""

import nibabel as nib
import numpy as np
import pytest

from cmb_autoseg.cli import convert as command
from cmb_autoseg.files import read_json, read_tsv

from .conftest import CARD

RAW = "raw/Dataset501_tiny"


@pytest.fixture
def spoilt_cohort(tiny_cohort):
    """A tenth of one scan's voxels is NaN."""
    path = tiny_cohort / "sub-103/sub-103_T2S.nii.gz"
    image = nib.load(path)
    data = image.get_fdata(dtype=np.float32)
    data[:, :, 6:8] = np.nan
    nib.save(nib.Nifti1Image(data, image.affine), path)
    return tiny_cohort


def lenient(on_fail: str) -> str:
    """Thresholds that blocks of noise of a few millilitres pass."""
    limits = {"brain_volume_ml": [0, 0], "coverage": [0, 0], "lesions_not_dark": [1.01, 1.01], "snr": [0, 0]}
    return f"qc: {{on_fail: {on_fail}, {', '.join(f'{name}: {pair}' for name, pair in limits.items())}}}\n"


def convert(card, workspace):
    return command.main([str(card), "-d", "501", "--workspace", str(workspace)])


def test_what_fails_is_told_of_and_kept_unless_the_card_excludes_it(spoilt_cohort, write_card, tmp_path, capsys):
    workspace, raw = tmp_path / "w", tmp_path / "w" / RAW
    assert convert(write_card(CARD + lenient("keep")), workspace) == 0
    assert {row["case"]: row["verdict"] == "fail" for row in read_tsv(raw / "qc.tsv")} == {
        "sub-101": False, "sub-102": False, "sub-103": True,
    }  # fmt: skip
    assert "fail: sub-103: " in capsys.readouterr().err
    assert len(read_tsv(raw / "cases.tsv")) == 3
    assert b"sub-103" in (raw / "qc.html").read_bytes()
    assert (raw / "qc" / "sub-103.jpg").is_file()

    assert convert(write_card(CARD + lenient("exclude")), workspace) == 0

    assert [row["case"] for row in read_tsv(raw / "cases.tsv")] == ["sub-101", "sub-102"]
    (left_out,) = read_tsv(raw / "exclusions.tsv")
    assert left_out["case"] == "sub-103"
    assert left_out["reason"].startswith("quality control: ")
    assert not list(raw.glob("images*/sub-103*"))
    flow = {(row["stage"], row["reason"]): row["cases"] for row in read_tsv(raw / "participant_flow.tsv")}
    assert flow["found", "n/a"] == "3"
    assert flow["excluded", "failed quality control"] == "1"
    assert flow["included", "n/a"] == "2"
    (cohort,) = read_tsv(raw / "cohorts.tsv")
    assert (cohort["cohort"], cohort["scans"]) == ("tiny", "2")
    assert (raw / "participant_flow.svg").is_file()


def test_what_a_person_decided_is_an_exclusion_by_rule(tiny_cohort, write_card, tmp_path):
    assert convert(write_card(CARD + 'exclude: {sub-102: "motion, seen by KM"}\n'), tmp_path / "w") == 0

    (left_out,) = read_tsv(tmp_path / "w" / RAW / "exclusions.tsv")
    assert (left_out["case"], left_out["reason"]) == ("sub-102", "the card excludes it: motion, seen by KM")


def test_options_go_before_the_card_and_prepare_anew(tiny_cohort, write_card, tmp_path, capsys):
    workspace, raw = tmp_path / "w", tmp_path / "w" / RAW
    card = write_card()
    assert convert(card, workspace) == 0
    options = ["--derive", "frst", "--normalize", "zscore", "--workspace", str(workspace), "-d", "501"]
    assert command.main([str(card), *options]) == 0

    assert list(read_json(raw / "dataset.json")["channel_names"].values()) == ["gre_mag", "t1", "frst"]
    assert " 0 unchanged" in capsys.readouterr().out
    image = nib.load(raw / "imagesTr" / "sub-101_0000.nii.gz").get_fdata()
    assert abs(image[image != 0].mean()) < 1e-3
    assert read_json(raw / "dataset_record.json")["prep"]["tiny"]["normalize"] == "zscore"
    assert {row["case"] for row in read_tsv(workspace / "logs" / "Dataset501_tiny_preparation.tsv")} == {
        "sub-101", "sub-102", "sub-103",
    }  # fmt: skip
    assert command.main([str(card), *options]) == 0
    assert " 3 unchanged" in capsys.readouterr().out


def test_a_network_without_weights_is_refused_before_anything_is_written(tiny_cohort, write_card, tmp_path, capsys):
    arguments = [str(write_card()), "-d", "501", "--workspace", str(tmp_path / "w")]
    assert command.main([*arguments, "--brain", "hd_bet"]) == 2
    assert "--brain-weights DIR or prep.hd_bet.folder" in capsys.readouterr().err
    assert command.main([*arguments, "--brain", "auto", "--brain-weights", str(tmp_path / "no")]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert not (tmp_path / "w" / "raw").exists()
