import json
from pathlib import Path

import nibabel as nib
import numpy as np

from cmb_autoseg.cli.convert import main
from cmb_autoseg.files import read_tsv

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
