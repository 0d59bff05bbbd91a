import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import read_volume
from cmb_autoseg.inference.dicom import DicomVolume, holds_dicom, pick_volume, role_of_series
from cmb_autoseg.inference.inputs import InputSettings, find_cases
from cmb_autoseg.preprocessing import prepare_case
from cmb_autoseg.records import Role

ROLES = (Role.SWI, Role.GRE_MAG, Role.T1)
SCAN = Path(__file__).parents[3] / "shared" / "data" / "real" / "dicom_gre"
needs_scan = pytest.mark.skipif(not SCAN.is_dir(), reason="the real DICOM scan is not on this machine")


@needs_scan
def test_the_chosen_echo_of_a_real_scan_becomes_one_prepared_case(tmp_path):
    assert holds_dicom(SCAN)

    cases, failures = find_cases(SCAN, InputSettings(ROLES, echo=2, scratch=tmp_path))

    assert failures == []
    (case,) = cases
    assert (case.name, case.subject, case.notes) == ("dicom_gre", "dicom_gre", {})
    assert list(case.images) == [Role.GRE_MAG]
    prepared = prepare_case(case)
    assert prepared.original.shape == (64, 64, 36)
    np.testing.assert_allclose(prepared.original.spacing_mm, (3, 3, 3.6), atol=1e-3)
    head_cm3 = prepared.brain.data.sum() * prepared.brain.voxel_volume_mm3 / 1000
    assert 1200 < head_cm3 < 3500
    assert "classical mask used" in prepared.warnings[0]
    header = nib.load(case.images[Role.GRE_MAG].path).header
    assert {header[field].tobytes().strip(b"\0") for field in ("descrip", "aux_file", "db_name", "intent_name")} == {
        b""
    }


@needs_scan
def test_several_echoes_need_a_choice(tmp_path):
    with pytest.raises(InputError, match=r"several echoes; choose with --echo: 1 \(TE 5\.19 ms\), 2 \(TE 7\.65 ms\)"):
        find_cases(SCAN, InputSettings(ROLES, scratch=tmp_path))
    with pytest.raises(InputError, match=r"no echo 3; choose with --echo: 1 "):
        find_cases(SCAN, InputSettings(ROLES, echo=3, scratch=tmp_path / "again"))


@needs_scan
def test_two_conversions_give_the_same_bytes(tmp_path):
    (first,), _ = find_cases(SCAN, InputSettings(ROLES, echo=1, scratch=tmp_path / "a"))
    (second,), _ = find_cases(SCAN, InputSettings(ROLES, echo=1, scratch=tmp_path / "b"))
    one, two = (Path(case.images[Role.GRE_MAG].path).read_bytes() for case in (first, second))
    assert one == two
    # dcm2niix notes the time of day in the header.
    assert b"Time=" not in one


@needs_scan
def test_any_file_names_and_depth_and_a_model_without_the_sequence(tmp_path):
    folder = tmp_path / "Jane Doe" / "export (1)"
    for number, path in enumerate(sorted((SCAN / "2_me_FieldMap_GRE").glob("*_e2.dcm"))):
        target = folder / "x" / "y" / f"IM{number}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)

    (case,), _ = find_cases(folder, InputSettings((Role.SWI,), scratch=tmp_path / "scratch"))

    assert case.name == "export-1"
    assert list(case.images) == [Role.SWI]
    assert "says gre_mag, which the model does not know; taken as swi" in next(iter(case.notes.values()))


@needs_scan
def test_phase_alone_and_a_damaged_series_are_refused(tmp_path):
    phase = next(path for path in SCAN.iterdir() if path.name.startswith("3_"))
    with pytest.raises(InputError, match=r"no magnitude, SWI or QSM series in it \(found gre_phase\)"):
        find_cases(phase, InputSettings(ROLES, scratch=tmp_path / "scratch"))
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "a.dcm").write_bytes(next(phase.iterdir()).read_bytes()[:3000])
    with pytest.raises(InputError, match=r"damaged: series 3 .* left out: it has a single slice"):
        find_cases(damaged, InputSettings(ROLES, scratch=tmp_path / "scratch2"))


def test_dicom_is_known_by_its_magic_wherever_it_lies(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "short").write_bytes(b"DICM")
    assert not holds_dicom(tmp_path)
    (tmp_path / "a" / "b" / "000001").write_bytes(b"\0" * 128 + b"DICM")
    assert holds_dicom(tmp_path)
    with pytest.raises(InputError, match="DICOM files need a scratch folder"):
        find_cases(tmp_path, InputSettings(ROLES))


@pytest.mark.parametrize(
    ("image_type", "description", "protocol", "sequence", "role"),
    [
        (["ORIGINAL", "PRIMARY", "M", "ND"], "Mag_Images", "t2_swi3d_tra", "GR", Role.GRE_MAG),
        (["ORIGINAL", "PRIMARY", "P", "ND"], "Pha_Images", "t2_swi3d_tra", "GR", Role.GRE_PHASE),
        (["DERIVED", "PRIMARY", "M", "SWI", "ND"], "SWI_Images", "t2_swi3d_tra", "GR", Role.SWI),
        (["DERIVED", "PRIMARY", "MPR", "MNIP", "M"], "mIP_Images(SW)", "t2_swi3d_tra", "GR", None),
        (["DERIVED", "SECONDARY", "M"], "SWI_minIP", "swi", "GR", None),
        (["ORIGINAL", "PRIMARY", "OTHER"], "Ax SWAN", "Ax SWAN", "GR", Role.SWI),
        (["ORIGINAL", "PRIMARY", "M", "ND"], "t2_fl2d_tra_hemo", "", "GR", Role.GRE_MAG),
        (["ORIGINAL", "PRIMARY", "M", "ND"], "ep2d_bold", "", "EP\\GR", None),
        (["ORIGINAL", "PRIMARY", "M", "ND"], "t1_mprage_sag", "", "GR\\IR", Role.T1),
        (["ORIGINAL", "PRIMARY", "M", "ND"], "localizer", "", "GR", None),
        (["DERIVED", "PRIMARY", "M"], "QSM", "swi", "GR", Role.QSM),
        (["ORIGINAL", "PRIMARY", "REAL"], "gre", "", "GR", None),
    ],
)
def test_what_a_series_is(image_type, description, protocol, sequence, role):
    tags = {
        "ImageType": image_type,
        "SeriesDescription": description,
        "ProtocolName": protocol,
        "ScanningSequence": sequence,
    }
    assert role_of_series(tags) == role


def volume(series_number: int, echo: int, role: Role = Role.GRE_MAG) -> DicomVolume:
    return DicomVolume(Path(f"s{series_number}_e{echo}.nii"), series_number, "GRE", role, echo, 5.0 * echo)


def test_several_series_of_one_role_are_listed():
    with pytest.raises(InputError, match=r"several gre_mag series: 4 \(GRE\), 7 \(GRE\); point -i at a folder"):
        pick_volume([volume(4, 1), volume(7, 1)], None, Path("scan"))
    with pytest.raises(InputError, match=r"2 volumes of series 4 \(GRE\)"):
        pick_volume([volume(4, 1), volume(4, 1)], None, Path("scan"))


def test_a_combined_sequence_has_no_echo_to_choose():
    assert pick_volume([volume(5, 1, Role.SWI)], 3, Path("scan")).role is Role.SWI
    with pytest.raises(InputError, match=r"no echo 3"):
        pick_volume([volume(5, 1)], 3, Path("scan"))


def test_several_people_in_one_folder_are_refused(tmp_path, dicom_files):
    folder = tmp_path / "export"
    dicom_files.write_series(folder / "a", dicom_files.scan(0), PatientID="Secret1")
    dicom_files.write_series(folder / "b", dicom_files.scan(1), PatientID="Secret2", StudyInstanceUID="1.2.3")
    with pytest.raises(InputError, match=r"export: scans of 2 people; give the folder of one, or a card") as caught:
        find_cases(folder, InputSettings(ROLES, scratch=tmp_path / "scratch"))
    assert "Secret" not in str(caught.value)


def test_files_without_a_person_are_not_mixed_with_somebodys(tmp_path, dicom_files):
    folder = tmp_path / "export"
    dicom_files.write_series(folder / "a", dicom_files.scan(0))
    dicom_files.write_series(folder / "b", dicom_files.scan(1), PatientID="")
    with pytest.raises(InputError, match="several swi series: 2 volumes of series 3"):
        find_cases(folder, InputSettings((Role.SWI,), echo=1, scratch=tmp_path / "scratch"))


def test_enhanced_files_and_missing_slices(tmp_path, dicom_files):
    folder = tmp_path / "export"
    scans = [dicom_files.scan(seed) for seed in range(2)]
    dicom_files.write_enhanced(folder / "swi", [(scans[0], 20, "MAGNITUDE"), (scans[1], 20, "PHASE")])
    dicom_files.write_series(folder / "t1", dicom_files.scan(2), series=8, SeriesDescription="t1 mprage")
    (folder / "t1" / "S8_0003.dcm").unlink()

    (case,), failures = find_cases(folder, InputSettings((Role.SWI, Role.T1), scratch=tmp_path / "scratch"))

    assert failures == []
    assert list(case.images) == [Role.SWI]
    scans[0].assert_equals(read_volume(Path(case.images[Role.SWI].path)))
    assert case.notes[Role.T1].startswith("series 8 (t1 mprage) left out: 1 of 5 slices are missing")
    dicom_files.write_series(folder / "broken", dicom_files.scan(3), series=9)
    (folder / "swi").unlink()
    (folder / "broken" / "S9_0002.dcm").unlink()
    with pytest.raises(InputError, match=r"series 9 \(swi\) left out: 1 of 5 slices are missing"):
        find_cases(folder, InputSettings((Role.SWI, Role.T1), scratch=tmp_path / "again"))
