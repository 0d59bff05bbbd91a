"""Every layout through the real commands, on scans that are made up."""

import gzip
import io
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from cmb_autoseg.cli.cohort import main as cohort_command
from cmb_autoseg.cli.convert import main as convert
from cmb_autoseg.cli.simulate import main as simulate
from cmb_autoseg.files import file_digest, read_json, read_tsv
from cmb_autoseg.geometry import read_volume, to_canonical
from cmb_autoseg.simulation.layouts import LAYOUTS

from .conftest import FLAT, LESIONS, OBLIQUE, made_up_scan

VALIDATOR = shutil.which("bids-validator-deno", path=str(Path(sys.executable).parent))

pytestmark = pytest.mark.usefixtures("made_up")


def digests(folder):
    files = (path for path in folder.rglob("*") if path.is_file() and "logs" not in path.parts)
    return {str(path.relative_to(folder)): file_digest(path) for path in files if not path.name.startswith(".cmb")}


def simulated(out, layout, *more, people=3):
    arguments = ["-o", str(out), "-n", str(people), "--n-test", "1", "--layout", layout, "--protocol", "flat"]
    assert simulate([*arguments, "oblique", "--seed", "1", *more]) == 0
    return out


def scan_of(out, person):
    """The scan that was made up for the person of that number."""
    row = read_tsv(out / "truth" / "people.tsv")[person]
    protocol = {"flat": FLAT, "oblique": OBLIQUE}[row["protocol"]]
    return made_up_scan(protocol, 1, person, row["n_lesions"] == "0", False)


def assert_same_image(image, data, affine, tolerance=0.51):
    """The same voxels at the same places, whatever the order and direction of the stored axes."""
    image = to_canonical(image)
    assert image.shape == data.shape
    np.testing.assert_allclose(image.affine, affine, atol=2e-3)
    assert np.abs(image.data - data).max() <= tolerance


@pytest.mark.parametrize("labels", [[], ["--unlabelled"]], ids=["labelled", "unlabelled"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_card_is_clean_and_converts(layout, labels, tmp_path, capsys):
    out = simulated(tmp_path / "c", layout, *labels)
    assert cohort_command(["check", str(out / "card.yaml")]) == 0
    said = capsys.readouterr()
    assert "usable cases: 3" in said.out
    assert "files that no pattern matches: 0" in said.out
    assert "warning" not in said.err

    assert convert([str(out / "card.yaml"), "-d", "501", "--workspace", str(tmp_path / "w")]) == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    boxes_labelled = layout == "boxes2d" and not labels
    assert [line for line in warnings if "its labels are boxes" in line] == warnings
    assert len(warnings) == boxes_labelled
    raw = tmp_path / "w" / "raw" / "Dataset501_SIMULATED"
    cases = read_tsv(raw / "cases.tsv")
    groups = {row["participant_id"]: row["group"] for row in read_tsv(out / "participants.tsv")}
    assert list(groups.values()) == ["train", "train", "test"]
    assert {case["subject"]: case["split"] for case in cases} == groups
    assert {case["field_strength_t"] for case in cases} <= {"3.0", "1.5"}
    assert not read_tsv(raw / "exclusions.tsv")
    if labels:
        assert {case["labelled"] for case in cases} == {"0"}
        assert not list(out.rglob("*_CMB*"))
    else:
        people = read_tsv(out / "truth" / "people.tsv")
        seen = {person["subject"]: person["n_visible"] for person in people}
        assert {case["subject"]: case["n_lesions"] for case in cases} == seen
        assert any(person["n_visible"] == "2" for person in people)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_command_writes_the_same_bytes(layout, tmp_path):
    once = digests(simulated(tmp_path / "a", layout))
    assert digests(simulated(tmp_path / "b", layout)) == once
    again = digests(simulated(tmp_path / "fewer", layout, people=2))
    names = {str(path) for path in again} - {"card.yaml", "participants.tsv", "README"}
    shared = {name for name in names if not name.startswith("truth") and not name.endswith(("xlsx", "json"))}
    assert shared
    assert all(again[name] == once[name] for name in shared)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_earlier_cohort_of_another_layout_is_left_alone(layout, tmp_path, capsys):
    out = simulated(tmp_path / "c", layout, people=1)
    before = digests(out)
    other = "dou" if layout != "dou" else "valdo"
    assert simulate(["-o", str(out), "-n", "1", "--layout", other, "--protocol", "flat"]) == 2
    assert "which no earlier simulation of this layout wrote" in capsys.readouterr().err
    assert digests(out) == before


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_label_is_in_an_unlabelled_cohort_but_the_truth_is(layout, tmp_path):
    labelled = set(digests(simulated(tmp_path / "a", layout)))
    bare = set(digests(simulated(tmp_path / "b", layout, "--unlabelled")))
    assert bare <= labelled | {name for name in bare if "UnlabelledSubject" in name}
    assert len(bare) < len(labelled)
    assert "truth/lesions.tsv" in bare
    assert "labels: {}" in (tmp_path / "b" / "card.yaml").read_text()


@pytest.mark.skipif(VALIDATOR is None, reason="bids-validator-deno is not installed")
@pytest.mark.parametrize("labels", [[], ["--unlabelled"]], ids=["labelled", "unlabelled"])
def test_bids_is_valid(labels, tmp_path):
    out = simulated(tmp_path / "c", "bids", *labels)
    for root in (out, out / "derivatives" / "microbleeds"):
        if root.exists():
            done = subprocess.run([VALIDATOR, str(root)], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr


def test_bids_names_echoes_parts_and_derived_images(tmp_path):
    out = simulated(tmp_path / "c", "bids")
    rows = {row["subject"]: row["protocol"] for row in read_tsv(out / "truth" / "people.tsv")}
    for subject, protocol in rows.items():
        names = {path.name.removeprefix(f"{subject}_") for path in (out / subject / "anat").glob("*.nii.gz")}
        derived = {"acq-swi_T2starw.nii.gz", "acq-swi_rec-mIP_T2starw.nii.gz", "Chimap.nii.gz", "T1w.nii.gz"}
        if protocol == "flat":
            echoes = {f"echo-{n}_part-{part}_MEGRE.nii.gz" for n in (1, 2) for part in ("mag", "phase")}
        else:
            echoes = {f"part-{part}_T2starw.nii.gz" for part in ("mag", "phase")}
        assert names == derived | echoes
    flat = next(subject for subject, protocol in rows.items() if protocol == "flat")
    stem = out / flat / "anat" / f"{flat}_echo-1_part-mag_MEGRE"
    assert read_json(stem.with_suffix(".json"))["EchoTime"] == 0.009
    scan = scan_of(out, list(rows).index(flat))
    phase = read_volume(out / flat / "anat" / f"{flat}_echo-2_part-phase_MEGRE.nii.gz")
    np.testing.assert_allclose(phase.data, scan.images["phase"][..., 1])
    mask = read_volume(out / "derivatives/microbleeds" / flat / "anat" / f"{flat}_label-CMB_mask.nii.gz")
    np.testing.assert_array_equal(mask.data, scan.mask)


def test_masks_lie_where_the_truth_says_also_in_oblique_scans(tmp_path):
    out = simulated(tmp_path / "c", "valdo", "--lesion-free-share", "0")
    rows = read_tsv(out / "truth" / "lesions.tsv")
    protocols = {row["subject"]: row["protocol"] for row in read_tsv(out / "truth" / "people.tsv")}
    assert "oblique" in {protocols[row["subject"]] for row in rows}
    for row in rows:
        if row["visible"] == "0":
            assert (row["component"], row["visible_x_mm"]) == ("0", "n/a")
            continue
        mask = read_volume(out / row["subject"] / f"{row['subject']}_space-T2S_CMB.nii.gz")
        components, _ = ndimage.label(mask.data, np.ones((3, 3, 3)))
        voxels = np.argwhere(components == int(row["component"]))
        centre = np.array([float(row[f"visible_{axis}_mm"]) for axis in "xyz"])
        np.testing.assert_allclose(mask.to_ras_mm(voxels).mean(axis=0), centre, atol=1e-3)
        true = np.array([float(row[f"{axis}_mm"]) for axis in "xyz"])
        assert np.linalg.norm(true - centre) == pytest.approx(0.2 * 3**0.5, abs=1e-3)


def test_valdo_is_zero_outside_the_brain(tmp_path):
    out = simulated(tmp_path / "c", "valdo")
    for person, row in enumerate(read_tsv(out / "participants.tsv")):
        scan = scan_of(out, person)
        for name, image in {"T2S": scan.images["mag"][..., -1], "SWI": scan.images["swi"]}.items():
            stem = f"{row['participant_id']}_space-T2S_desc-masked_{name}.nii.gz"
            volume = read_volume(out / row["participant_id"] / stem)
            assert_same_image(volume, image * scan.brain, scan.affine)


def test_ukb_archives_hold_the_echoes(tmp_path):
    out = simulated(tmp_path / "c", "ukb")
    for person, row in enumerate(read_tsv(out / "participants.tsv")):
        scan = scan_of(out, person)
        with zipfile.ZipFile(out / f"{row['participant_id']}_20251_2_0.zip") as archive:
            echoes = len(scan.protocol.echo_times_ms)
            suffixes = ["", "_TE2"][:echoes]
            expected = {f"SWI/SWI_TOTAL_{part}{suffix}.nii.gz" for part in ("MAG", "PHA") for suffix in suffixes}
            assert set(archive.namelist()) == {"SWI/SWI.nii.gz", *expected}
            image = nib.Nifti1Image.from_bytes(gzip.decompress(archive.read(f"SWI/SWI_TOTAL_PHA{suffixes[-1]}.nii.gz")))
        np.testing.assert_allclose(image.affine, scan.affine, atol=1e-4)
        phase = image.get_fdata() / 4096 * np.pi
        np.testing.assert_allclose(phase, scan.images["phase"][..., -1], atol=np.pi / 4096)


def test_dou_points_count_voxels_from_one(tmp_path):
    from scipy.io import loadmat

    out = simulated(tmp_path / "c", "dou", "--lesion-free-share", "0")
    for person in range(3):
        scan = scan_of(out, person)
        points = loadmat(out / "ground_truth" / f"{person + 1:02d}.mat")["cen"]
        np.testing.assert_array_equal(points, np.rint([np.mean(lesion, axis=0) for lesion in LESIONS]) + 1)
        image = read_volume(out / "nii" / f"{person + 1:02d}.nii")
        np.testing.assert_allclose(image.data, np.rint(scan.images["swi"]))
    assert (out / "ground_truth" / "01.mat").read_bytes()[:20] == b"MATLAB 5.0 MAT-file,"


def test_csiro_workbook_points_at_the_stored_voxels(tmp_path):
    from openpyxl import load_workbook

    out = simulated(tmp_path / "c", "csiro")
    share = out / "PublicDataShare_2020"
    people = read_tsv(out / "truth" / "people.tsv")
    rows = list(load_workbook(share / "rCMBInformationInfo.xlsx").active.iter_rows(values_only=True))
    assert [row[0] for row in rows[1:]] == [f"{p['subject']}_SWI.nii.gz" for p in people if p["n_visible"] != "0"]
    for person, row in enumerate(people):
        seen = row["n_visible"] != "0"
        folder = share / ("rCMB_DefiniteSubject" if seen else "NoCMBSubject")
        stored = read_volume(folder / f"{row['subject']}_SWI.nii.gz")
        assert nib.aff2axcodes(stored.affine) == ("L", "P", "S")
        scan = scan_of(out, person)
        assert_same_image(stored, scan.images["swi"] * scan.brain, scan.affine)
    found = np.array(rows[1][1:7], dtype=float).reshape(2, 3) - 1
    first = next(index for index, row in enumerate(people) if row["n_visible"] != "0")
    stored = read_volume(share / "rCMB_DefiniteSubject" / rows[1][0])
    truth = scan_of(out, first)
    centres = truth.to_ras(np.array([truth.grid.to_mm(np.array(lesion)).mean(axis=0) for lesion in LESIONS]))
    assert np.abs(stored.to_voxels(centres) - found).max() <= 0.51


def test_dcm2niix_finds_the_scan_in_the_dicom_series(tmp_path):
    from cmb_autoseg.inference.dicom import convert_dicom
    from cmb_autoseg.records import Role

    out = simulated(tmp_path / "c", "dicom")
    for person, row in enumerate(read_tsv(out / "participants.tsv")):
        scan = scan_of(out, person)
        (tmp_path / str(person)).mkdir()
        volumes = convert_dicom(out / "SIMULATED" / row["participant_id"], tmp_path / str(person))
        echoes = len(scan.protocol.echo_times_ms)
        assert sorted(str(volume.role) for volume in volumes) == sorted(
            ["swi", "t1", *["gre_mag"] * echoes, *["gre_phase"] * echoes]
        )
        for volume in volumes:
            image = read_volume(volume.path)
            if volume.role is Role.GRE_MAG:
                assert volume.echo_time_ms == pytest.approx(scan.protocol.echo_times_ms[volume.echo - 1])
                assert_same_image(image, scan.images["mag"][..., volume.echo - 1], scan.affine)
            elif volume.role is Role.GRE_PHASE:
                phase = image.with_data(image.data / 4096 * np.pi)
                error = to_canonical(phase).data - scan.images["phase"][..., volume.echo - 1]
                assert np.abs(np.angle(np.exp(1j * error))).max() < 2 * np.pi / 4096
            elif volume.role is Role.SWI:
                assert_same_image(image, scan.images["swi"], scan.affine)
        mask = read_volume(out / "masks" / f"{row['participant_id']}_CMB.nii.gz")
        np.testing.assert_array_equal(mask.data, scan.mask)


def test_dicom_files_are_whole_and_say_that_nobody_was_scanned(tmp_path):
    import pydicom

    out = simulated(tmp_path / "c", "dicom", people=1)
    files = sorted((out / "SIMULATED").rglob("*.dcm"))
    datasets = [pydicom.dcmread(io.BytesIO(path.read_bytes())) for path in files]
    assert len({dataset.SOPInstanceUID for dataset in datasets}) == len(files)
    assert len({dataset.SeriesInstanceUID for dataset in datasets}) == 5
    assert len({(dataset.StudyInstanceUID, dataset.FrameOfReferenceUID) for dataset in datasets}) == 1
    for dataset in datasets:
        assert dataset.SOPInstanceUID.is_valid
        assert str(dataset.PatientName).startswith("SIMULATED")
        rows = np.array(dataset.ImageOrientationPatient, dtype=float)
        assert abs(rows[:3] @ rows[3:]) < 1e-6


def test_headers_of_t1w_say_a_spoiled_gradient_echo(tmp_path):
    import pydicom

    folder = simulated(tmp_path / "c", "dicom", people=1) / "SIMULATED"
    (first, *_) = sorted(folder.glob("*/T1_SPGR/*/*/*.dcm"))
    header = pydicom.dcmread(first)
    assert "InversionTime" not in header
    assert (header.ScanningSequence, header.SequenceName, header.MRAcquisitionType) == ("GR", "*fl3d1", "3D")
    timing = float(header.RepetitionTime), float(header.EchoTime), float(header.FlipAngle)
    assert timing == (8.0, 3.0, 18.0)

    out = simulated(tmp_path / "b", "bids", people=1)
    (path,) = out.glob("sub-*/anat/*_T1w.json")
    sidecar = read_json(path)
    assert (sidecar["RepetitionTimeExcitation"], sidecar["EchoTime"], sidecar["FlipAngle"]) == (0.008, 0.003, 18.0)
    assert sidecar["PulseSequenceType"] == "Spoiled gradient echo"
    assert sidecar["MRAcquisitionType"] == "3D"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_truth_names_the_visit_as_the_files_do(layout, tmp_path):
    out = simulated(tmp_path / "c", layout, "--misalign" if layout in ("ukb", "dicom") else "--lesion-free-share=0")
    session = {"ukb": "2", "dicom": "20200101"}.get(layout, "n/a")
    tables = sorted((out / "truth").rglob("*.tsv"))
    assert len(tables) == 5 + (session != "n/a")
    for table in tables:
        rows = read_tsv(table)
        assert {row["session"] for row in rows} == {session}, table
        assert {row["subject"] for row in rows} <= {row["participant_id"] for row in read_tsv(out / "participants.tsv")}
    assert ("{ses" in (out / "card.yaml").read_text() or "ses:" in (out / "card.yaml").read_text()) == (
        session != "n/a"
    )
    if layout == "ukb":
        assert (out / f"9000001_20251_{session}_0.zip").exists()


def test_boxes_cover_the_dark_spots_of_the_pictures(tmp_path):
    from PIL import Image

    out = simulated(tmp_path / "c", "boxes2d", "--lesion-free-share", "0")
    assert (out / "classes.txt").read_text() == "microbleed\n"
    boxes = 0
    for person, row in enumerate(read_tsv(out / "participants.tsv")):
        scan = scan_of(out, person)
        for picture in read_tsv(out / "slices" / f"{row['participant_id']}.tsv"):
            pixels = np.asarray(Image.open(out / "images" / picture["image"]), dtype=float)
            width, height = scan.grid.shape[:2]
            assert pixels.shape == (height, width)
            lines = (out / "labels" / picture["image"]).with_suffix(".txt").read_text().splitlines()
            assert len(lines) == int(picture["n_boxes"])
            mask = scan.mask[::-1, ::-1, int(picture["k"])].T
            covered = np.zeros_like(mask)
            for line in lines:
                x, y, w, h = (float(value) for value in line.split()[1:])
                left, top = (x - w / 2) * width, (y - h / 2) * height
                covered[round(top) : round(top + h * height), round(left) : round(left + w * width)] = 1
                boxes += 1
            assert not (mask & ~covered.astype(bool)).any()
            assert covered.sum() <= 20 * max(len(lines), 0)
            if mask.any():
                assert pixels[mask > 0].mean() < 0.6 * np.median(pixels[covered == 0])
    assert boxes == 3 * 3


def test_a_moved_t1w_is_told_in_the_truth(tmp_path, capsys):
    out = simulated(tmp_path / "c", "valdo", "--misalign")
    rows = read_tsv(out / "truth" / "transforms.tsv")
    assert [row["subject"] for row in rows] == [row["participant_id"] for row in read_tsv(out / "participants.tsv")]
    assert [rows[0][f"m{n}3"] for n in range(3)] == ["1.5", "-2", "0.5"]
    capsys.readouterr()
    assert simulate(["-o", str(tmp_path / "d"), "-n", "1", "--layout", "dou", "--misalign"]) == 2
    assert "--misalign: the layout dou has no T1w to misalign; choose --layout valdo, bids" in capsys.readouterr().err


@pytest.mark.parametrize("protocol", ["flat", "oblique"])
def test_a_bids_cohort_of_one_kind_of_scan_is_checked_and_converted_without_a_warning(protocol, tmp_path, capsys):
    """Scans of one echo have no `MEGRE`, those of several no `T2starw`."""
    out = tmp_path / "c"
    assert simulate(["-o", str(out), "-n", "2", "--layout", "bids", "--protocol", protocol]) == 0
    assert cohort_command(["check", str(out / "card.yaml")]) == 0
    assert convert([str(out / "card.yaml"), "-d", "501", "--workspace", str(tmp_path / "w")]) == 0
    assert "warning" not in capsys.readouterr().err
