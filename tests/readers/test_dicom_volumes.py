"""Series of DICOM files as volumes."""

import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom.uid import ImplicitVRLittleEndian, RLELossless

from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import Volume, to_canonical
from cmb_autoseg.readers import read_grid, read_volume, source_files
from cmb_autoseg.readers.dicom import source_of
from cmb_autoseg.readers.dicom_frames import is_dicom, read_frames, tag_number
from cmb_autoseg.readers.dicom_stacks import find_stacks
from cmb_autoseg.records import ImageSource

SCAN = Path(__file__).parents[3] / "shared" / "data" / "real" / "dicom_gre"
needs_scan = pytest.mark.skipif(not SCAN.is_dir(), reason="the real DICOM scan is not on this machine")


def stacks_of(folder):
    return find_stacks(frame for path in sorted(folder.rglob("*")) for frame in read_frames(path))


def only(folder):
    (stack,) = stacks_of(folder)
    return source_of(stack, "series 3")


def plain_dcm2niix(folder, out):
    """The volumes that dcm2niix makes of a folder by itself."""
    import dcm2niix

    out.mkdir()
    subprocess.run([dcm2niix.bin, "-b", "n", "-z", "n", "-w", "2", "-f", "%s_%e", "-o", out, folder], check=True)
    return {path.stem: nib.load(path) for path in out.glob("*.nii")}


def shuffled(seed, count=5):
    return [int(n) for n in np.random.default_rng(seed).permutation(count)]


@pytest.mark.parametrize("acquisition", ["2D", "3D"])
@pytest.mark.parametrize("seed", [27, 55, 81, 215, 300])
def test_grid_and_voxels_are_those_of_dcm2niix_in_any_orientation(tmp_path, dicom_files, seed, acquisition):
    scan = dicom_files.rotated(seed)
    dicom_files.write_series(tmp_path / "in", scan, order=shuffled(seed), MRAcquisitionType=acquisition)
    source = only(tmp_path / "in")

    shape, affine = read_grid(source)
    volume = read_volume(source)

    (expected,) = plain_dcm2niix(tmp_path / "in", tmp_path / "out").values()
    assert shape == expected.shape == volume.shape
    np.testing.assert_allclose(affine, expected.affine, atol=1e-4)
    np.testing.assert_array_equal(volume.data, expected.get_fdata())
    np.testing.assert_allclose(volume.affine, expected.affine, atol=1e-4)
    scan.assert_equals(volume)


@pytest.mark.parametrize(
    ("row", "column"),
    [((1, 0, 0), (0, 1, 0)), ((0, 1, 0), (0, 0, -1)), ((1, 0, 0), (0, 0, -1)), ((-1, 0, 0), (0, 1, 0))],
)
@pytest.mark.parametrize("step_mm", [1.5, -1.5])
def test_slices_along_every_axis(tmp_path, dicom_files, row, column, step_mm):
    geometry = {"row": np.array(row, float), "column": np.array(column, float), "spacing_mm": (0.9, 0.8, step_mm)}
    scan = dicom_files.scan(1, **geometry)
    dicom_files.write_series(tmp_path, scan, MRAcquisitionType="2D", ScanningSequence=["EP", "GR"])
    source = only(tmp_path)
    volume = read_volume(source)
    np.testing.assert_allclose(volume.affine, read_grid(source)[1], atol=1e-4)
    scan.assert_equals(volume)


def test_an_enhanced_file_is_taken_apart_into_echoes_magnitude_and_phase(tmp_path, dicom_files):
    scans = [dicom_files.rotated(4) for _ in range(4)]
    for number, scan in enumerate(scans):
        scan.data = scan.data // 2 + number * 100
    kinds = [(6.0, "MAGNITUDE"), (6.0, "PHASE"), (20.0, "MAGNITUDE"), (20.0, "PHASE")]
    dicom_files.write_enhanced(
        tmp_path / "enhanced.dcm", [(scan, *kind) for scan, kind in zip(scans, kinds, strict=True)]
    )

    stacks = stacks_of(tmp_path)

    assert len(stacks) == 4
    for stack in stacks:
        kind = stack.first.echo_time_ms, str(stack.first.part).upper()
        assert stack.echo == (1 if kind[0] == 6 else 2)
        assert (stack.n_echoes, len(stack.frames), stack.fault) == (2, 5, "")
        source = source_of(stack, "series 3")
        volume = read_volume(source)
        np.testing.assert_allclose(volume.affine, read_grid(source)[1], atol=1e-4)
        scale = {"scale": 2, "shift": -4096} if kind[1] == "PHASE" else {}
        scans[kinds.index(kind)].assert_equals(volume, **scale)
    with pytest.raises(InputError, match="series 3: 2 volumes where one is needed; choose one by echo"):
        read_grid(ImageSource(path="series 3", kind="dicom", files=stacks[0].files, part="phase"))


def test_an_enhanced_file_of_one_volume_lies_where_dcm2niix_puts_it(tmp_path, dicom_files):
    scan = dicom_files.rotated(6)
    dicom_files.write_enhanced(tmp_path / "in" / "one.dcm", [(scan, 20, "MAGNITUDE")])
    volume = to_canonical(read_volume(only(tmp_path / "in")))
    (image,) = plain_dcm2niix(tmp_path / "in", tmp_path / "out").values()
    expected = to_canonical(Volume(image.get_fdata(), image.affine))
    np.testing.assert_allclose(volume.affine, expected.affine, atol=1e-3)
    np.testing.assert_array_equal(volume.data, expected.data)


@pytest.mark.parametrize("enhanced", [False, True])
def test_compressed_pixels_are_read(tmp_path, dicom_files, enhanced):
    scan = dicom_files.scan(2)
    if enhanced:
        dicom_files.write_enhanced(tmp_path / "a.dcm", [(scan, 20, "MAGNITUDE")], compress=RLELossless)
    else:
        dicom_files.write_series(tmp_path, scan, compress=RLELossless)
    scan.assert_equals(read_volume(only(tmp_path)))


def test_implicit_transfer_syntax_and_names_in_other_scripts(tmp_path, dicom_files):
    scan = dicom_files.scan(3)
    folder = tmp_path / "прибор é (1)"
    tags = {"SpecificCharacterSet": "ISO_IR 192", "PatientName": "Пётр^Ж", "PatientID": "Ü-7"}
    dicom_files.write_series(folder, scan, syntax=ImplicitVRLittleEndian, **tags)
    for path in sorted(folder.iterdir()):
        path.rename(folder / path.stem)
    source = only(tmp_path)
    scan.assert_equals(read_volume(source))
    assert read_frames(source_files(source)[0], [tag_number("PatientID")])[0].tags == {0x00100020: "Ü-7"}


def test_nothing_of_the_person_is_in_the_header(tmp_path, dicom_files):
    dicom_files.write_series(tmp_path, dicom_files.scan(), ImageComments="Doe Jane", ProtocolName="doe protocol")
    header = read_volume(only(tmp_path)).header
    for field in ("descrip", "aux_file", "db_name", "intent_name"):
        assert header[field].tobytes().strip(b"\0") == b""


def test_phase_keeps_its_scaling(tmp_path, dicom_files):
    scan = dicom_files.scan(5)
    image_type = ["ORIGINAL", "PRIMARY", "P", "ND"]
    dicom_files.write_series(tmp_path, scan, ImageType=image_type, RescaleSlope="2", RescaleIntercept="-4096")
    source = only(tmp_path)
    assert source.part == "phase"
    scan.assert_equals(read_volume(source), scale=2, shift=-4096)


GE_PRIVATE = 0x0043102F


@pytest.mark.parametrize(
    ("tags", "part"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "NORM"]}, "magnitude"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]}, "phase"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M_FFE", "M", "FFE"]}, "magnitude"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "PHASE MAP", "P", "FFE"]}, "phase"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "R_FFE", "R", "FFE"]}, "real"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "I", "FFE"]}, "imaginary"),
        ({"ImageType": ["DERIVED", "PRIMARY", "OTHER"], "ComplexImageComponent": "PHASE"}, "phase"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "OTHER"]}, None),
        ({"ImageType": ["DERIVED", "PRIMARY", "MNIP", "SWI"]}, None),
    ],
)
def test_magnitude_and_phase_of_every_vendor(tmp_path, dicom_files, tags, part):
    (path, *_) = dicom_files.write_series(tmp_path, dicom_files.scan(), **tags)
    assert read_frames(path)[0].part == part


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, None])
def test_ge_says_the_part_in_a_tag_of_its_own(tmp_path, dicom_files, syntax):
    from pydicom import dcmread

    tags = {"Manufacturer": "GE MEDICAL SYSTEMS", "ImageType": ["ORIGINAL", "PRIMARY", "OTHER"]}
    paths = dicom_files.write_series(tmp_path, dicom_files.scan(shape=(7, 6, 4)), **tags)
    for value, path in enumerate(paths):
        dataset = dcmread(path)
        dataset.add_new(0x00430010, "LO", "GEMS_PARM_01")
        dataset.add_new(GE_PRIVATE, "SS", value)
        if syntax is not None:
            dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(path)
    assert [read_frames(path)[0].part for path in paths] == ["magnitude", "phase", "real", "imaginary"]


def test_echoes_and_parts_of_one_series_are_apart(tmp_path, dicom_files):
    """As Philips and GE export them: one series, one folder, interleaved instances."""
    expected = {}
    for index, (echo, part) in enumerate((echo, part) for echo in (1, 2) for part in "MP"):
        scan = dicom_files.scan(index)
        image_type = ["ORIGINAL", "PRIMARY", part, "FFE"]
        tags = {"EchoTime": str(10 * echo), "EchoNumbers": echo, "ImageType": image_type}
        dicom_files.write_series(tmp_path, scan, first=1 + 5 * index, **tags)
        expected[echo, "magnitude" if part == "M" else "phase"] = scan
    stacks = stacks_of(tmp_path)
    assert {(stack.echo, stack.first.part) for stack in stacks} == set(expected)
    for stack in stacks:
        source = source_of(stack, stack.title)
        assert len(source.files) == 5
        expected[stack.echo, stack.first.part].assert_equals(read_volume(source))
    assert sorted(stack.title for stack in stacks)[0] == "series 3 echo 1 magnitude"


def test_volumes_that_follow_each_other_in_time_are_numbered(tmp_path, dicom_files):
    scans = [dicom_files.scan(seed) for seed in range(3)]
    for number, scan in enumerate(scans):
        dicom_files.write_series(tmp_path, scan, first=1 + 5 * number, AcquisitionNumber=number + 1)
    stacks = stacks_of(tmp_path)
    assert [stack.echo for stack in stacks] == [1, 2, 3]
    for stack, scan in zip(stacks, scans, strict=True):
        scan.assert_equals(read_volume(source_of(stack, "series 3")))


def test_slices_that_are_missing_uneven_or_crooked_are_told(tmp_path, dicom_files):
    def fault(name, positions):
        scan = dicom_files.scan(shape=(7, 6, len(positions)))
        scan.position = lambda k: scan.origin_mm + np.array(positions[k], float)
        dicom_files.write_series(tmp_path / name, scan)
        (stack,) = stacks_of(tmp_path / name)
        if stack.fault:
            with pytest.raises(InputError, match=r"^series 3: "):
                read_grid(source_of(stack, "series 3"))
        return stack.fault

    assert fault("gap", [(0, 0, 2 * k) for k in (0, 1, 2, 5, 6, 7)]) == (
        "2 of 8 slices are missing (distances from 2 to 6 mm); export the series again"
    )
    assert "1 of 4 slices are missing" in fault("few", [(0, 0, 0), (0, 0, 2), (0, 0, 6)])
    assert fault("uneven", [(0, 0, z) for z in (0, 2, 4.5, 6, 8)]).startswith("slices lie unevenly (distances from 1.5")
    assert "shifted sideways by 4 mm in all" in fault("crooked", [(k, 0, 2 * k) for k in range(5)])
    assert fault("single", [(0, 0, 0)]) == "it has a single slice"
    assert fault("rounded", [(0.001 * k, 0, 2 * k + 0.01 * (k % 2)) for k in range(5)]) == ""


def test_a_file_that_is_there_twice_counts_once(tmp_path, dicom_files):
    scan = dicom_files.scan()
    paths = dicom_files.write_series(tmp_path / "a", scan)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "copy").write_bytes(paths[1].read_bytes())
    (stack,) = stacks_of(tmp_path)
    assert (len(stack.frames), stack.n_doubled) == (5, 1)
    scan.assert_equals(read_volume(source_of(stack, "series 3")))


def test_other_files_are_no_frames(tmp_path, dicom_files):
    from pydicom import dcmread

    (path, *_) = dicom_files.write_series(tmp_path, dicom_files.scan())
    (tmp_path / "notes.txt").write_text("DICM")
    (tmp_path / "bare").write_bytes(path.read_bytes()[132:])
    directory = dcmread(path)
    directory.SOPClassUID = directory.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    del directory.Rows
    directory.save_as(tmp_path / "DICOMDIR")
    for name in ("notes.txt", "bare", "DICOMDIR", "absent"):
        assert read_frames(tmp_path / name) == []
    assert not is_dicom(tmp_path)
    (tmp_path / "cut").write_bytes(path.read_bytes()[:400])
    with pytest.raises(InputError, match=r"cut: damaged DICOM header \(EOFError\); copy the file again"):
        read_frames(tmp_path / "cut")
    assert tag_number("EchoTme") is None
    assert tag_number("(0018,0081)") == tag_number("0018,0081") == tag_number("EchoTime") == 0x00180081


def test_damage_after_the_search_is_told_without_the_folder(tmp_path, dicom_files):
    paths = dicom_files.write_series(tmp_path / "Doe Jane", dicom_files.scan())
    source = only(tmp_path)
    paths[2].unlink()
    with pytest.raises(InputError, match="series 3: 1 of 5 slices are missing"):
        read_grid(source)
    paths[3].write_bytes(paths[3].read_bytes()[:400])
    with pytest.raises(InputError) as caught:
        read_volume(source)
    assert str(caught.value).startswith("series 3: one of its files is damaged")
    assert "Doe" not in str(caught.value)
    paths[3].unlink()
    for path in (paths[0], paths[1], paths[4]):
        path.unlink()
    with pytest.raises(InputError, match="series 3: no volume where one is needed"):
        read_volume(source)


@needs_scan
def test_echoes_and_phase_of_a_real_scan_are_those_of_dcm2niix(tmp_path):
    stacks = stacks_of(SCAN)
    found = [(stack.first.series_number, stack.echo, stack.first.part) for stack in stacks]
    assert sorted(found) == [(2, 1, "magnitude"), (2, 2, "magnitude"), (3, 2, "phase")]
    expected = plain_dcm2niix(SCAN, tmp_path / "out")
    for stack in stacks:
        image = expected[f"{stack.first.series_number}_{stack.echo}{'_ph' if stack.first.part == 'phase' else ''}"]
        source = source_of(stack, stack.title)
        shape, affine = read_grid(source)
        volume = read_volume(source)
        assert shape == volume.shape == image.shape
        np.testing.assert_allclose(affine, image.affine, atol=1e-3)
        np.testing.assert_array_equal(volume.data, image.get_fdata())


def test_a_file_that_ends_within_its_pixels_is_told(tmp_path, dicom_files):
    paths = dicom_files.write_series(tmp_path / "classic", dicom_files.scan(shape=(32, 32, 5)))
    paths[2].write_bytes(paths[2].read_bytes()[:-900])
    with pytest.raises(InputError, match=r"^series 3: "):
        read_volume(only(tmp_path / "classic"))
    path = dicom_files.write_enhanced(tmp_path / "enhanced" / "a.dcm", [(dicom_files.scan(), 20, "MAGNITUDE")])
    path.write_bytes(path.read_bytes()[:-90])
    with pytest.raises(InputError, match=r"^series 3: damaged pixels \(EOFError\); copy its files again"):
        read_volume(only(tmp_path / "enhanced"))


def test_echoes_without_a_number_are_counted_by_their_times(tmp_path, dicom_files):
    late, early = dicom_files.scan(0), dicom_files.scan(1)
    dicom_files.write_series(tmp_path, late, EchoTime="20", EchoNumbers=None)
    dicom_files.write_series(tmp_path, early, EchoTime="6", EchoNumbers=None, first=6)
    stacks = stacks_of(tmp_path)
    assert [(stack.echo, stack.first.echo_time_ms) for stack in stacks] == [(1, 6.0), (2, 20.0)]
    early.assert_equals(read_volume(source_of(stacks[0], "series 3")))
