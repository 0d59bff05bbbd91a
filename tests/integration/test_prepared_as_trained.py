"""A model that learnt from corrected, normalized and derived channels gets such channels when it predicts."""

import nibabel as nib
import numpy as np
import pytest

from cmb_autoseg.cli import plan_preprocess, predict, train
from cmb_autoseg.files import read_json

from .conftest import RECIPE

SHAPE, AFFINE = (32, 32, 10), np.diag([2.0, 2.0, 4.0, 1.0])
CARD = """\
schema: 1
name: Prepared
images:
  S: {role: swi, path: "{sub}_swi.nii.gz"}
  P: {role: gre_phase, path: "{sub}_pha.nii.gz"}
labels: {cmb: {kind: mask, path: "{sub}_cmb.nii.gz"}}
prep: {brain: already_masked, bias: n4, normalize: zscore, derived: [frst, local_phase]}
"""


def save(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, AFFINE), path)


def write_person(folder, name, seed):
    rng = np.random.default_rng(seed)
    inside = np.zeros(SHAPE, bool)
    inside[3:-3, 3:-3, 1:-1] = True
    i = np.arange(SHAPE[0])[:, None, None]
    swi = np.where(inside, (100 + rng.normal(0, 4, SHAPE)) * (1 + 0.01 * i), 0)
    swi[14:17, 14:17, 4:6] *= 0.3
    phase = np.angle(np.exp(1j * (0.3 * i + rng.normal(0, 0.1, SHAPE) + np.zeros(SHAPE))))
    save(folder / f"{name}_swi.nii.gz", swi.astype(np.float32))
    save(folder / f"{name}_pha.nii.gz", phase.astype(np.float32))
    mask = np.zeros(SHAPE, np.uint8)
    mask[14:17, 14:17, 4:6] = 1
    save(folder / f"{name}_cmb.nii.gz", mask)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    base = tmp_path_factory.mktemp("prepared")
    for number in range(5):
        write_person(base / "cohort", f"p{number}", number)
    (base / "cohort" / "card.yaml").write_text(CARD)
    (base / "tiny.yaml").write_text(RECIPE)
    where = ["-d", "9", "--workspace", str(base / "ws"), "-device", "cpu"]
    assert plan_preprocess.main([*where, "-c", str(base / "cohort" / "card.yaml")]) == 0
    assert train.main([*where, "-r", str(base / "tiny.yaml"), "-f", "0"]) == 0
    return base


def steps(base, out, *options):
    """Decisions of the preparation of one more person, a folder of files without a card."""
    folder = base / f"new_{out}"
    write_person(folder, "ann", 99)
    (folder / "ann_cmb.nii.gz").unlink()
    model = base / "ws" / "results" / "Dataset009_Prepared" / "CMBTrainer__tiny__3d"
    where = ["-m", str(model), "-device", "cpu", "--operating-point", "0.5"]
    assert predict.main(["-i", str(folder), "-o", str(base / out), *where, *options]) == 0
    record = read_json(base / out / "ann_swi.json")
    return record, {step["step"]: step["decision"] for step in record["preparation"]}


def test_channels_and_grey_values_are_made_as_in_training(base):
    assert list(read_json(base / "ws/raw/Dataset009_Prepared/dataset.json")["channel_names"].values()) == [
        "swi", "frst", "local_phase",
    ]  # fmt: skip
    record, decisions = steps(base, "out")
    assert record["sequences_used"] == ["swi", "frst", "local_phase"]
    assert record["sequences_missing"] == []
    assert decisions["normalization"] == "zscore"
    assert decisions["bias of swi"] == "N4"
    assert decisions["channel local_phase"].startswith("made of gre_phase")


def test_what_a_user_may_still_choose_is_chosen(base):
    record, decisions = steps(base, "chosen", "--brain", "none")
    assert decisions["brain"] == "no mask: the whole volume is used"
    assert record["prep"]["bias"] == "n4"
