"""From a simulated cohort's card to a prepared dataset: its lesions are where the truth says, in every layout."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from cmb_autoseg.cli.convert import main as convert
from cmb_autoseg.cli.simulate import main as simulate
from cmb_autoseg.files import read_tsv
from cmb_autoseg.geometry import Volume
from cmb_autoseg.simulation.layouts import LAYOUTS
from cmb_autoseg.simulation.protocols import PROTOCOLS

from ..simulation.layouts.conftest import FLAT, made_up  # noqa: F401  a fixture

TOLERANCE_MM = 0.5
PRINTED = 1e-3
"""Tables have six digits, and a point may lie half a voxel from a lesion's centre."""
PEOPLE = 4
SQUARE = replace(FLAT, name="square", spacing_mm=(0.9, 0.9, 2.0))
"""Pixels of pictures are square."""

pytestmark = pytest.mark.usefixtures("made_up")


def visible_centres_mm(out):
    """By subject, the centres of the components that readers can see, RAS."""
    centres = {row["subject"]: [] for row in read_tsv(out / "truth" / "people.tsv")}
    for row in read_tsv(out / "truth" / "lesions.tsv"):
        if row["visible"] == "1":
            centres[row["subject"]].append([float(row[f"visible_{axis}_mm"]) for axis in "xyz"])
    return {subject: np.array(listed).reshape(-1, 3) for subject, listed in centres.items()}


def label_of(raw, case):
    path = next(raw.glob(f"labelsT?/{case}.nii.gz"))
    image = nib.load(path)
    return Volume(np.asarray(image.dataobj), image.affine, None, path.name)


def component_centres_mm(label):
    numbered, count = ndimage.label(label.data, np.ones((3, 3, 3)))
    voxels = np.array(ndimage.center_of_mass(numbered > 0, numbered, range(1, count + 1))).reshape(-1, 3)
    return label.to_ras_mm(voxels)


def farthest(found_mm, true_mm, label):
    """How far a component is from its truth, along the axis where it is worst: in tolerances, of which 1 is the most.

    A tolerance is the larger of 0.5 mm and half a voxel.
    """
    offsets_mm = np.abs(label.to_voxels(found_mm) - label.to_voxels(true_mm)) * label.spacing_mm
    return float((offsets_mm / np.maximum(TOLERANCE_MM, np.array(label.spacing_mm) / 2)).max())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_prepared_lesions_are_where_the_truth_says(layout, tmp_path, monkeypatch):
    monkeypatch.setitem(PROTOCOLS, SQUARE.name, SQUARE)
    straight = SQUARE.name if layout == "boxes2d" else FLAT.name
    out = tmp_path / "cohort"
    arguments = ["-o", str(out), "-n", str(PEOPLE), "--n-test", "1", "--layout", layout, "--protocol", straight]
    assert simulate([*arguments, "oblique", "--seed", "4", "--lesion-free-share", "0.25"]) == 0

    assert convert([str(out / "card.yaml"), "-d", "501", "--workspace", str(tmp_path / "w")]) == 0

    raw = tmp_path / "w" / "raw" / "Dataset501_SIMULATED"
    truth = visible_centres_mm(out)
    cases = read_tsv(raw / "cases.tsv")
    assert {case["subject"] for case in cases} == set(truth)
    assert sorted(map(len, truth.values())) == [0, 2, 2, 2]
    scanned = {row["subject"]: row["protocol"] for row in read_tsv(out / "truth" / "people.tsv")}
    assert {scanned[subject] for subject in truth if len(truth[subject])} == {straight, "oblique"}
    for case in cases:
        label = label_of(raw, case["case"])
        found_mm, true_mm = component_centres_mm(label), truth[case["subject"]]
        assert len(found_mm) == len(true_mm) == int(case["n_lesions"])
        if len(true_mm):
            nearest = np.linalg.norm(found_mm[:, None] - true_mm[None], axis=-1).argmin(axis=0)
            assert sorted(nearest) == list(range(len(true_mm)))
            assert farthest(found_mm[nearest], true_mm, label) <= 1 + PRINTED
