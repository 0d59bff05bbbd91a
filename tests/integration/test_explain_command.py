"""`cmb_explain` on the tiny model: maps on the scan's own grid, tables, pictures, resuming, bad input."""

import json
import os
import re
import shutil
import signal

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import nn

from cmb_autoseg.cli import explain
from cmb_autoseg.explanation import Finding
from cmb_autoseg.files import read_tsv
from cmb_autoseg.geometry import read_volume, to_canonical
from cmb_autoseg.inference.patches import PatchEnsemble
from cmb_autoseg.inference.sliding_window import foreground_logits
from cmb_autoseg.pipeline.explainer import Explainer
from cmb_autoseg.preprocessing import prepare_case
from cmb_autoseg.records import Case, ImageSource, Lesion, PrepSettings, Role

CASE = "p2_1"
"""Two lesions."""
LESION = Lesion(lesion=1, x_mm=0, y_mm=0, z_mm=0, i=0, j=0, k=0, volume_mm3=1, diameter_mm=1, prob_max=1, prob_mean=1)
THRESHOLD = "0.015"
"""Of a network that has learned nearly nothing."""


@pytest.fixture(scope="module")
def scans(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans")
    for number, sequence in enumerate(("susc", "mag")):
        there = trained.cohort / "centreA" / "p2" / "visit1" / "scans" / f"p2-{sequence}.nii.gz"
        shutil.copy(there, folder / f"{CASE}_000{number}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def masks(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("masks")
    shutil.copy(trained.raw / "labelsTr" / f"{CASE}.nii.gz", folder)
    return folder


@pytest.fixture(scope="module")
def two_folds(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / trained.model.name
    shutil.copytree(trained.model, folder, ignore=shutil.ignore_patterns("fold_[234]", "crossvalidation"))
    return folder


def explained(scans, out, model, *options):
    return explain.main(
        ["-i", str(scans), "-o", str(out), "-m", str(model), "--operating-point", THRESHOLD, "-device", "cpu", *options]
    )


def test_files_of_a_case_with_a_reference(scans, masks, two_folds, tmp_path, capsys):
    out = tmp_path / "out"
    assert explained(scans, out, two_folds, "--reference", str(masks), "--max-lesions", "2") == 0

    scan = nib.load(scans / f"{CASE}_0000.nii.gz")
    result = nib.load(out / f"{CASE}_gradcam.nii.gz")
    assert result.shape == scan.shape
    np.testing.assert_array_equal(result.affine, scan.affine)
    assert result.get_data_dtype() == np.float32
    values = result.get_fdata()
    assert values.min() >= 0
    assert 0.5 < values.max() <= 1

    rows = read_tsv(out / f"{CASE}_gradcam.tsv")
    kinds = [row["kind"] for row in rows]
    assert set(kinds) <= {"hit", "fp", "missed", "candidate"}
    assert {"hit", "missed"} & set(kinds)
    assert all(kinds.count(kind) <= 2 for kind in kinds)
    first = rows[0]
    assert float(first["prob"]) >= float(THRESHOLD)
    assert first["drop_swi"] != "n/a"
    assert 0 <= float(first["map_within_5mm"]) <= 1
    assert (out / f"{CASE}_gradcam.png").stat().st_size > 10_000
    assert read_tsv(out / "failures.tsv") == []
    run = json.loads((out / "run.json").read_text())
    assert run["model"]["folds"] == [0, 1]
    assert list(run["seconds"]) == [CASE]
    assert f"{CASE}: " in capsys.readouterr().out


def test_a_finished_case_is_skipped_and_another_level_is_not(scans, two_folds, tmp_path, capsys):
    out = tmp_path / "out"
    options = ("-f", "0", "--max-lesions", "1")
    assert explained(scans, out, two_folds, *options) == 0
    before = {path.name: path.read_bytes() for path in out.glob(f"{CASE}*")}
    capsys.readouterr()

    assert explained(scans, out, two_folds, *options) == 0
    assert "by an earlier run" in capsys.readouterr().out
    assert json.loads((out / "run.json").read_text())["skipped_as_finished"] == [CASE]

    shutil.rmtree(out)
    assert explained(scans, out, two_folds, *options) == 0
    assert {path.name: path.read_bytes() for path in out.glob(f"{CASE}*")} == before

    assert explained(scans, out, two_folds, *options, "--level", "0") == 0
    assert "earlier run" not in capsys.readouterr().out
    assert (out / f"{CASE}_gradcam.nii.gz").read_bytes() != before[f"{CASE}_gradcam.nii.gz"]


def test_what_was_explained_in_another_way_is_explained_anew(scans, two_folds, tmp_path, capsys, monkeypatch):
    out, options = tmp_path / "out", ("-f", "0", "--max-lesions", "1")
    record = out / f"{CASE}_gradcam.json"

    def explains_anew(*further):
        written = record.stat().st_mtime_ns
        assert explained(scans, out, two_folds, *options, *further) == 0
        said = capsys.readouterr().out
        anew = record.stat().st_mtime_ns != written
        assert ("by an earlier run" in said) is not anew
        return anew

    assert explained(scans, out, two_folds, *options) == 0
    assert not explains_anew()
    content = json.loads(record.read_text())
    made_before_records_had_a_number = {key: value for key, value in content.items() if key != "schema"}
    record.write_text(json.dumps(made_before_records_had_a_number))
    assert explains_anew()
    assert not explains_anew()
    with monkeypatch.context() as patch:
        patch.setattr("cmb_autoseg.pipeline.explaining.SCHEMA", content["schema"] + 1)
        assert explains_anew()
    assert explains_anew()
    record.write_text(json.dumps({**content, "software": "cmb_autoseg 0.0.9"}))
    assert explains_anew()
    assert explains_anew("--method", "gradcam")
    record.write_text(json.dumps({**content, "model": {**content["model"], "digest": "sha256:another"}}))
    assert explains_anew()


def test_without_any_finding_the_map_is_empty_and_that_is_said(scans, two_folds, tmp_path, capsys):
    assert explained(scans, tmp_path / "out", two_folds, "-f", "0", "--operating-point", "0.99999") == 0

    assert not nib.load(tmp_path / "out" / f"{CASE}_gradcam.nii.gz").get_fdata().any()
    assert read_tsv(tmp_path / "out" / f"{CASE}_gradcam.tsv") == []
    assert (tmp_path / "out" / f"{CASE}_gradcam.png").is_file()
    said = capsys.readouterr()
    assert f"{CASE}: nothing to explain" in said.out
    assert "no lesion and no candidate: the map is empty" in said.err


def one_scan(scans, tmp_path):
    return shutil.copy(scans / f"{CASE}_0000.nii.gz", tmp_path / f"{CASE}.nii.gz")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-m", "nowhere"], "-m nowhere: no such folder"),
        (["-f", "3"], r"found finished folds \[0, 1\], needed \[3\]"),
        (["--level", "9"], "--level 9: this network has the levels 0 encoder 0, 1 encoder 1, 2 decoder 0"),
        (["-device", "cuda"], "-device cuda: torch finds no CUDA device"),
        (["--reference", "nowhere"], "--reference nowhere: no such file or folder"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(options, said, scans, two_folds, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    scan = one_scan(scans, tmp_path)

    assert explained(scan, tmp_path / "out", two_folds, *options) == 2

    errors = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(errors) == 1

    assert re.search(said, errors[0])
    assert not (tmp_path / "out").exists()


def test_a_reference_on_another_grid_is_refused(scans, masks, two_folds, tmp_path, capsys):
    mask = nib.load(masks / f"{CASE}.nii.gz")
    moved = mask.affine.copy()
    moved[0, 3] += 1.5
    (tmp_path / "moved").mkdir()
    nib.save(nib.Nifti1Image(np.asarray(mask.dataobj), moved), tmp_path / "moved" / f"{CASE}.nii.gz")
    scan = one_scan(scans, tmp_path)

    assert explained(scan, tmp_path / "out", two_folds, "-f", "0", "--reference", str(tmp_path / "moved")) == 2

    assert "affine is 1.50 mm off" in capsys.readouterr().err
    assert not (tmp_path / "out" / f"{CASE}_gradcam.nii.gz").exists()


def test_results_into_a_file_are_refused(scans, two_folds, tmp_path, capsys):
    (tmp_path / "out").write_text("mine")

    assert explained(scans, tmp_path / "out", two_folds) == 2

    assert f"-o {tmp_path / 'out'}: is a file; name a folder" in capsys.readouterr().err
    assert (tmp_path / "out").read_text() == "mine"


def changed_mask(masks, folder, change):
    mask = nib.load(masks / f"{CASE}.nii.gz")
    data = mask.get_fdata(dtype=np.float32)
    change(data)
    folder.mkdir()
    nib.save(nib.Nifti1Image(data, mask.affine), folder / f"{CASE}.nii.gz")
    return folder


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.37, "found 1 voxels with values such as 0.37"), (np.nan, "found 1 voxels that are not a number"), (-1, "-1")],
)
def test_a_reference_that_is_no_mask_is_refused_before_anything_is_written(
    value, said, scans, masks, two_folds, tmp_path, capsys
):
    folder = changed_mask(masks, tmp_path / "odd", lambda data: data.__setitem__((3, 3, 3), value))
    options = ("-f", "0", "--reference", str(folder))

    assert explained(one_scan(scans, tmp_path), tmp_path / "single", two_folds, *options) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(errors) == 1
    assert said in errors[0]

    assert explained(scans, tmp_path / "several", two_folds, *options) == 1
    (failure,) = read_tsv(tmp_path / "several" / "failures.tsv")
    assert failure["case"] == CASE
    assert said in failure["reason"]
    assert not list(tmp_path.glob(f"*/{CASE}_gradcam*"))


def test_the_labels_of_a_reference_may_be_numbered(scans, masks, two_folds, tmp_path):
    folder = changed_mask(masks, tmp_path / "numbered", lambda data: np.multiply(data, 3, out=data))
    options = ("-f", "0", "--max-lesions", "1", "--reference")

    assert explained(scans, tmp_path / "numbered_out", two_folds, *options, str(folder)) == 0
    assert explained(scans, tmp_path / "out", two_folds, *options, str(masks)) == 0

    assert read_tsv(tmp_path / "numbered_out" / f"{CASE}_gradcam.tsv") == read_tsv(
        tmp_path / "out" / f"{CASE}_gradcam.tsv"
    )


def test_references_of_other_cases_are_refused(scans, masks, two_folds, tmp_path, capsys):
    (tmp_path / "others").mkdir()
    shutil.copy(masks / f"{CASE}.nii.gz", tmp_path / "others" / "somebody.nii.gz")

    assert explained(scans, tmp_path / "out", two_folds, "--reference", str(tmp_path / "others")) == 2

    assert f"has masks of somebody, but -i has {CASE}" in capsys.readouterr().err


class Brightest(nn.Module):
    """A U-Net by its names, whose answer everywhere is the brightest voxel of one sequence."""

    def __init__(self, sequence=0, scale=1.0):
        super().__init__()
        self.encoder, self.decoder = nn.Module(), nn.Module()
        self.encoder.stages = nn.ModuleList([nn.Conv3d(2, 1, 1, bias=False)])
        self.encoder.stages[0].weight.data[:] = scale * torch.eye(2)[sequence][None, :, None, None, None]
        self.decoder.blocks = nn.ModuleList([nn.Identity()])

    def forward(self, x):
        peak = self.encoder.stages[0](x).amax((2, 3, 4), keepdim=True).expand(-1, 1, *x.shape[2:])
        return torch.cat([torch.zeros_like(peak), peak], dim=1)


def stored_as(scan, axes, turn_deg, path):
    """The scan with its axes in another order and direction, and the head turned in the scanner."""
    angle = np.deg2rad(turn_deg)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    image = nib.Nifti1Image(scan.data, turn @ scan.affine)
    orientation = nib.orientations.ornt_transform(
        nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(tuple(axes))
    )
    nib.save(image.as_reoriented(orientation), path)
    return path


@pytest.mark.parametrize(("axes", "turn_deg"), [("RAS", 0), ("LAS", 12), ("PIR", 0), ("SLA", -9)])
def test_the_map_comes_back_to_the_voxel_that_the_answer_hangs_on(
    axes, turn_deg, scans, two_folds, tmp_path, monkeypatch
):
    scan = to_canonical(read_volume(scans / f"{CASE}_0000.nii.gz"))
    data = scan.data.copy()
    data[13, 25, 5] = 400.0
    path = stored_as(scan.with_data(data), axes, turn_deg, tmp_path / "scan.nii.gz")
    case = Case(name="a", cohort="a", subject="a", images={Role.SWI: ImageSource(path=str(path))}, prep=PrepSettings())
    prepared = prepare_case(case)
    monkeypatch.setattr(PatchEnsemble, "networks", lambda self: iter([(0, Brightest().eval())]))
    explainer = Explainer(PatchEnsemble(two_folds, (0,), "cpu"), 0)
    peak = np.unravel_index(prepared.original.data.argmax(), prepared.original.shape)
    middle = np.array([[n // 2 for n in prepared.original.shape]])

    (found,) = explainer.explain([Finding("lesion", LESION, middle)], prepared)

    assert found.map.shape == prepared.original.shape
    assert np.unravel_index(found.map.argmax(), found.map.shape) == peak
    assert found.map[peak] == pytest.approx(1)
    assert found.drops.keys() == {Role.SWI}
    assert found.drops[Role.SWI] == pytest.approx(found.score)


def test_of_a_model_of_one_sequence_only_that_one_is_blanked(scans, two_folds, monkeypatch):
    images = {
        role: ImageSource(path=str(scans / f"{CASE}_000{number}.nii.gz"))
        for number, role in enumerate((Role.SWI, Role.GRE_MAG))
    }
    prepared = prepare_case(Case(name="a", cohort="a", subject="a", images=images))
    ensemble = PatchEnsemble(two_folds, (0,), "cpu")
    ensemble.channels = (Role.GRE_MAG,)
    monkeypatch.setattr(PatchEnsemble, "networks", lambda self: iter([(0, Brightest(1).eval())]))

    (found,) = Explainer(ensemble, 0).explain([Finding("lesion", LESION, np.array([[20, 22, 7]]))], prepared)

    assert found.score > 0
    assert found.drops == {Role.GRE_MAG: pytest.approx(found.score)}


def test_a_fold_with_larger_features_does_not_outvote_another(scans, two_folds, tmp_path, monkeypatch):
    """Each of two networks hangs on the brightest voxel of its own sequence."""
    images = {}
    for number, (role, place) in enumerate(((Role.SWI, (13, 25, 5)), (Role.GRE_MAG, (25, 15, 8)))):
        scan = read_volume(scans / f"{CASE}_000{number}.nii.gz")
        scan.data[place] = 400.0
        nib.save(nib.Nifti1Image(scan.data, scan.affine), tmp_path / f"{role}.nii.gz")
        images[role] = ImageSource(path=str(tmp_path / f"{role}.nii.gz"))
    prepared = prepare_case(Case(name="a", cohort="a", subject="a", images=images))
    finding = Finding("lesion", LESION, np.array([[20, 22, 7]]))

    def explained_by(*networks):
        folds = list(enumerate(network.eval() for network in networks))
        monkeypatch.setattr(PatchEnsemble, "networks", lambda self: iter(folds))
        (found,) = Explainer(PatchEnsemble(two_folds, (0, 1), "cpu"), 0).explain([finding], prepared)
        return found

    alone = [explained_by(Brightest(sequence)) for sequence in (0, 1)]
    peaks = [np.unravel_index(found.map.argmax(), found.map.shape) for found in alone]
    both = explained_by(Brightest(0, scale=10.0), Brightest(1))

    assert peaks[0] != peaks[1]
    for peak in peaks:
        assert both.map[peak] > 0.9
    assert both.near == pytest.approx(np.mean([found.near for found in alone]), abs=1e-6)


def test_maps_come_back_the_way_probabilities_do(scans, two_folds):
    """Softmax of the logits that were brought back one by one is nnU-Net's probability."""
    ensemble = PatchEnsemble(two_folds, (0,), "cpu")
    volumes = {
        role: to_canonical(read_volume(scans / f"{CASE}_000{number}.nii.gz"))
        for number, role in enumerate(ensemble.channels)
    }
    inputs = ensemble.network_input(volumes)
    logits = foreground_logits(inputs.data, inputs.brain, ensemble.engine, 1, ensemble.windowing)

    on_scan = inputs.grid.in_scan(inputs.grid.back(logits[None])[0])

    expected = ensemble.probability(volumes).data
    brain = expected > 0
    np.testing.assert_allclose(1 / (1 + np.exp(-on_scan[brain])), expected[brain], atol=1e-5)


def test_a_stop_while_a_class_is_made_for_the_model_is_no_damaged_model(
    scans, two_folds, tmp_path, capsys, monkeypatch
):
    class Part:
        def __set_name__(self, *_):
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(PatchEnsemble, "_load", lambda *_: type("Whole", (), {"part": Part()}))
    assert explained(scans, tmp_path / "out", two_folds) == 128 + signal.SIGTERM
    said = capsys.readouterr().err
    assert "cmb_explain: interrupted; run the same command again" in said
    assert "fit together" not in said
