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
    before = (raw / "qc.html").read_bytes()
    capsys.readouterr()
    assert convert(write_card(CARD + lenient("exclude")), workspace) == 0
    shown = capsys.readouterr()
    assert " 3 unchanged" in shown.out
    assert "are gone or renamed" not in shown.err
    assert (raw / "qc.html").read_bytes() == before
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


def test_a_channel_that_no_case_can_have_is_none(tiny_cohort, write_card, tmp_path, capsys):
    workspace = tmp_path / "w"
    arguments = [str(write_card()), "-d", "501", "--workspace", str(workspace), "--derive", "qsm_sign"]
    assert command.main(arguments) == 0
    assert capsys.readouterr().err.count("Converting") == 1
    assert list(read_json(workspace / RAW / "dataset.json")["channel_names"].values()) == ["gre_mag", "t1"]


def test_how_labels_are_read_is_part_of_what_a_plan_depends_on(tiny_cohort, write_card, tmp_path):
    from cmb_autoseg.raw_dataset import read_raw_dataset
    from cmb_autoseg.workspace import Workspace

    def digest() -> str:
        return read_raw_dataset(Workspace(tmp_path / "w").dataset("501")).digest

    card, two = write_card(), CARD.replace("values: {cmb: 1}", "values: {cmb: 1, other: 2}")
    convert(card, tmp_path / "w")
    first = digest()
    convert(card, tmp_path / "w")
    assert digest() == first
    convert(write_card(two), tmp_path / "w")
    assert digest() != first


def test_another_member_of_the_same_archive_is_prepared_anew(tiny_cohort, tmp_path, capsys):
    import zipfile

    for number in (1, 2):
        with zipfile.ZipFile(tmp_path / f"p{number}.zip", "w") as archive:
            for name, case in (("swi", 100 + number), ("mag", 103 - number)):
                archive.write(tiny_cohort / f"sub-{case}/sub-{case}_T2S.nii.gz", f"{name}.nii.gz")
    text = """\
schema: 1
name: tiny
images: {A: {role: swi, path: "{sub:p[0-9]}.zip!/MEMBER.nii.gz"}}
prep: {brain: none}
"""
    card, images = tmp_path / "zips.yaml", tmp_path / "w" / RAW / "imagesUn"
    card.write_text(text.replace("MEMBER", "swi"))
    assert convert(card, tmp_path / "w") == 0
    first = (images / "p1_0000.nii.gz").read_bytes()
    card.write_text(text.replace("MEMBER", "mag"))
    capsys.readouterr()
    convert(card, tmp_path / "w")
    assert "0 unchanged" in capsys.readouterr().out
    assert (images / "p1_0000.nii.gz").read_bytes() != first


def test_a_table_of_all_cases_that_changes_for_one_prepares_that_one_anew(tiny_cohort, write_card, tmp_path, capsys):
    table = tiny_cohort / "reads.tsv"
    rows = {"sub-101": "6 7 5", "sub-102": "9 9 6", "sub-103": "12 14 7"}

    def save_reads() -> None:
        lines = [f"{case} {place}" for case, place in rows.items()]
        table.write_text("\n".join(line.replace(" ", "\t") for line in ("scan x y z", *lines)) + "\n")

    label = '{kind: points, path: reads.tsv, space: voxel0, rows: {column: scan, equals: "{sub}"}}'
    head, _, tail = CARD.partition("  cmb: {")
    card = write_card(f"{head}  cmb: {label}\n{tail.partition(chr(10))[2]}")
    save_reads()
    assert convert(card, tmp_path / "w") == 0
    rows["sub-102"] = "8 9 6"
    save_reads()
    capsys.readouterr()
    assert convert(card, tmp_path / "w") == 0
    assert "2 unchanged" in capsys.readouterr().out
    assert convert(card, tmp_path / "w") == 0
    assert "3 unchanged" in capsys.readouterr().out
    assert np.argwhere(nib.load(tmp_path / "w" / RAW / "labelsTr/sub-102.nii.gz").dataobj)[:, 0].min() <= 8


def test_interrupted_after_excluded_cases_were_brought_back_the_dataset_is_unfinished(
    spoilt_cohort, write_card, tmp_path, monkeypatch
):
    from cmb_autoseg.dataset_conversion import conversion

    raw = tmp_path / "w" / RAW
    card = write_card(CARD + lenient("exclude"))
    assert convert(card, tmp_path / "w") == 0

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(conversion, "judge_cases", stop)
        assert convert(card, tmp_path / "w") == 130
    assert not (raw / "dataset.json").exists()
    assert convert(card, tmp_path / "w") == 0
    assert not list(raw.glob("images*/sub-103*"))
