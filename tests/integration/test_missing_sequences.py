"""Any subset of a model's sequences with a susceptibility sequence in it predicts; what is missing is told."""

from itertools import chain, combinations

import nibabel as nib
import numpy as np
import pytest

from cmb_autoseg.cli import plan_preprocess, predict, train
from cmb_autoseg.files import read_json, read_tsv

CHANNELS = ("swi", "gre_mag", "qsm", "t1")
WORDS = {"swi": "swi", "gre_mag": "T2star", "qsm": "qsm", "t1": "t1"}
"""What each sequence is called in the names of files."""
SUSCEPTIBILITY = {"swi", "gre_mag", "qsm"}
SUBSETS = tuple(chain.from_iterable(combinations(CHANNELS, size) for size in range(1, len(CHANNELS) + 1)))
SHAPE = (24, 24, 10)
CARD = "schema: 1\nname: Four\nroot: .\nimages:\n" + "".join(
    f'  {role}: {{role: {role}, path: "{{sub}}_{word}.nii.gz"}}\n' for role, word in WORDS.items()
)
LABELS = 'labels:\n  cmb: {kind: mask, path: "{sub}_cmb.nii.gz"}\nprep: {brain: already_masked}\n'
RECIPE = """\
schema: 1
name: one
description: one step
epochs: 1
steps_per_epoch: 1
validation_steps: 1
batch_size: 1
network: {features: [4, 8]}
optimizer: {learning_rate: 1.0e-3}
inference: {mirror: [], tile_step: 1.0}
"""


def save(path, data, spacing_mm=1.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, np.diag([spacing_mm, spacing_mm, 2.0, 1.0])), path)


def sequences(seed):
    """One image for each sequence: noise of its own in a box, with a dark lesion."""
    rng = np.random.default_rng(seed)
    images = {}
    for position, role in enumerate(CHANNELS):
        data = np.zeros(SHAPE, np.float32)
        data[2:-2, 2:-2, 1:-1] = 100 * (position + 1) + rng.normal(0, 5, (20, 20, 8))
        data[11:14, 11:14, 4:6] *= 0.3
        images[role] = data
    return images


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model of four sequences with one fold of one step."""
    base = tmp_path_factory.mktemp("four")
    for subject in range(5):
        mask = np.zeros(SHAPE, np.uint8)
        mask[11:14, 11:14, 4:6] = 1
        save(base / "cohort" / f"p{subject}_cmb.nii.gz", mask)
        for role, data in sequences(subject).items():
            save(base / "cohort" / f"p{subject}_{WORDS[role]}.nii.gz", data)
    (base / "cohort" / "card.yaml").write_text(CARD + LABELS)
    (base / "one.yaml").write_text(RECIPE)
    where = ["-d", "9", "--workspace", str(base / "ws"), "-device", "cpu"]
    assert plan_preprocess.main([*where, "-c", str(base / "cohort" / "card.yaml")]) == 0
    assert train.main([*where, "-r", str(base / "one.yaml"), "-f", "0"]) == 0
    return base / "ws" / "results" / "Dataset009_Four" / "CMBTrainer__one__3d"


def run(model, source, out, *options):
    arguments = ["-i", str(source), "-o", str(out), "-m", str(model), "-device", "cpu", "--operating-point", "0.5"]
    return predict.main([*arguments, *options])


def test_every_subset_with_a_susceptibility_sequence_predicts(model, tmp_path, capsys):
    images = sequences(100)
    for subset in SUBSETS:
        for role in subset:
            save(tmp_path / "in" / f"{'+'.join(subset)}_{CHANNELS.index(role):04d}.nii.gz", images[role])
    assert run(model, tmp_path / "in", tmp_path / "out") == 1
    table = {row["case"]: row for row in read_tsv(tmp_path / "out" / "counts.tsv")}
    assert len(table) == len(SUBSETS) == 15
    shown = capsys.readouterr().err
    maps = {}
    for subset in SUBSETS:
        case, row = "+".join(subset), table["+".join(subset)]
        if not set(subset) & SUSCEPTIBILITY:
            assert row["status"] == "failed"
            continue
        missing = [role for role in CHANNELS if role not in subset]
        record = read_json(tmp_path / "out" / f"{case}.json")
        assert (record["sequences_used"], record["sequences_missing"]) == (list(subset), missing)
        assert (row["sequences_used"], row["sequences_missing"]) == (",".join(subset), ",".join(missing) or "n/a")
        assert (f"warning: {case}: missing sequences: {', '.join(missing)};" in shown) == bool(missing)
        maps[subset] = nib.load(tmp_path / "out" / f"{case}_prob.nii.gz").get_fdata()
    (failure,) = read_tsv(tmp_path / "out" / "failures.tsv")
    assert (failure["case"], "no susceptibility sequence (found t1)" in failure["reason"]) == ("t1", True)
    # Each sequence counts: no two subsets give one map.
    assert len({data.tobytes() for data in maps.values()}) == len(maps) == 14


def test_files_of_one_scan_are_one_case_whatever_says_the_sequence(model, tmp_path, capsys):
    images = sequences(100)
    for role in CHANNELS:
        save(tmp_path / "in" / f"sub1_{WORDS[role]}.nii.gz", images[role])
        save(tmp_path / "numbered" / f"sub1_{CHANNELS.index(role):04d}.nii.gz", images[role])
    save(tmp_path / "in" / "sub2-qsm.nii.gz", images["qsm"])
    assert run(model, tmp_path / "in", tmp_path / "out") == 0
    assert run(model, tmp_path / "numbered", tmp_path / "expected") == 0
    table = {row["case"]: row for row in read_tsv(tmp_path / "out" / "counts.tsv")}
    assert {case: row["sequences_used"] for case, row in table.items()} == {
        "sub1_swi": "swi,gre_mag,qsm,t1",
        "sub2-qsm": "qsm",
    }
    ours = nib.load(tmp_path / "out" / "sub1_swi_prob.nii.gz").get_fdata()
    assert np.array_equal(ours, nib.load(tmp_path / "expected" / "sub1_prob.nii.gz").get_fdata())


def test_a_companion_on_another_grid_is_brought_to_the_scans_or_left_out(model, tmp_path, capsys):
    images = sequences(100)
    save(tmp_path / "in" / "sub1_swi.nii.gz", images["swi"])
    save(tmp_path / "in" / "sub1_t1.nii.gz", images["t1"], spacing_mm=1.1)
    save(tmp_path / "in" / "sub1_T2star.nii.gz", images["gre_mag"][:-1])
    assert run(model, tmp_path / "in", tmp_path / "out", "--coregister", "header") == 0
    table = {row["case"]: row for row in read_tsv(tmp_path / "out" / "counts.tsv")}
    assert {case: row["sequences_used"] for case, row in table.items()} == {
        "sub1_swi": "swi,t1",
        "sub1_T2star": "gre_mag",
    }
    steps = read_json(tmp_path / "out" / "sub1_swi.json")["preparation"]
    assert {"step": "registration", "decision": "t1: placed by the headers alone", "figures": {}} in steps
    assert "sub1_T2star.nii.gz is on another grid and a case of its own" in capsys.readouterr().err
    assert run(model, tmp_path / "in", tmp_path / "out", "--coregister", "refuse") == 0
    shown = capsys.readouterr().err
    assert "warning: sub1_swi: t1 left out: " in shown
    assert "prep.coregister is refuse" in shown


def test_a_sequence_that_appears_later_is_used_at_the_next_run(model, tmp_path):
    images = sequences(100)
    save(tmp_path / "in" / "sub1_swi.nii.gz", images["swi"])
    assert run(model, tmp_path / "in", tmp_path / "out") == 0
    save(tmp_path / "in" / "sub1_qsm.nii.gz", images["qsm"])
    assert run(model, tmp_path / "in", tmp_path / "out") == 0
    assert read_json(tmp_path / "out" / "sub1_swi.json")["sequences_used"] == ["swi", "qsm"]
    assert read_json(tmp_path / "out" / "run.json")["skipped_as_finished"] == []
