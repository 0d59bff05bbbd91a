"""Members of archives: equal to their files, and no archive can do harm or stop the others."""

import errno
import io
import os
import stat
import struct
import tarfile
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import read_grid as read_file_grid
from cmb_autoseg.readers import read_bytes, read_grid, read_volume, source_files
from cmb_autoseg.readers.archive import list_members, open_member, split_path
from cmb_autoseg.records import ImageSource

AFFINE = np.array([[0.0, 0.9, 0.2, -30], [-0.8, 0.0, 0.1, 20], [0.1, 0.0, 2.0, -5], [0, 0, 0, 1]])
NAMES = ("a.zip", "a.tar", "a.tar.gz", "a.tgz")


@pytest.fixture
def volume(tmp_path) -> Path:
    data = np.random.default_rng(1).normal(size=(9, 7, 5)).astype(np.float32)
    nib.save(nib.Nifti1Image(data, AFFINE), tmp_path / "SWI.nii.gz")
    return tmp_path / "SWI.nii.gz"


def pack(archive: Path, files: dict[str, bytes]) -> Path:
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
            for name, content in files.items():
                opened.writestr(name, content)
        return archive
    with tarfile.open(archive, "w" if archive.suffix == ".tar" else "w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return archive


@pytest.mark.parametrize("name", NAMES)
def test_member_is_read_like_its_file(name, volume, tmp_path):
    archive = pack(tmp_path / name, {"x/one.txt": b"1", "./x/SWI.nii.gz": volume.read_bytes(), "y.txt": b"2"})
    source = ImageSource(path=f"{archive}!/x/SWI.nii.gz")
    shape, affine = read_grid(source)
    assert (shape, affine.tolist()) == ((9, 7, 5), read_file_grid(volume)[1].tolist())
    read = read_volume(source)
    np.testing.assert_array_equal(read.data, nib.load(volume).get_fdata(dtype=np.float32))
    assert read.name == source.path
    assert source_files(source) == (archive,)
    assert [member.name for member in list_members(archive)] == ["x/SWI.nii.gz", "x/one.txt", "y.txt"]
    assert read_bytes(f"{archive}!/y.txt") == b"2"


def test_header_alone_is_unpacked(volume, tmp_path, monkeypatch):
    archive = pack(tmp_path / "a.zip", {"SWI.nii.gz": volume.read_bytes()})
    monkeypatch.setattr("cmb_autoseg.readers.archive.unpacked", lambda path: pytest.fail("unpacked a whole member"))
    assert read_grid(ImageSource(path=f"{archive}!/SWI.nii.gz"))[0] == (9, 7, 5)


def test_header_and_voxels_of_one_name_go_together(tmp_path):
    pixels = np.arange(24, dtype="<i2").reshape(4, 3, 2)
    header = "NDims = 3\nDimSize = 2 3 4\nElementType = MET_SHORT\nElementSpacing = 1 2 3\nElementDataFile = s.raw\n"
    archive = pack(tmp_path / "a.zip", {"f/s.mhd": header.encode(), "f/s.raw": pixels.tobytes()})
    read = read_volume(ImageSource(path=f"{archive}!/f/s.mhd"))
    np.testing.assert_array_equal(read.data, pixels.T)
    assert read.spacing_mm == (1, 2, 3)


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("/d/a.zip!/b/c.nii", ("/d/a.zip", "b/c.nii")),
        ("/odd!/b.tgz!/c.nii", ("/odd!/b.tgz", "c.nii")),
        ("/odd!/c.nii", None),
        ("/d/a.zip", None),
    ],
)
def test_archive_and_member(path, parts):
    assert split_path(path) == (None if parts is None else (Path(parts[0]), parts[1]))


def zipped(tmp_path, **changes) -> Path:
    """An archive with one member whose directory entry was changed."""
    path = pack(tmp_path / "a.zip", {"m.nii": bytes(100_000)})
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")
    for field, (at, form, value) in {
        "flags": (8, "<H", 1), "method": (10, "<H", 9), "size": (24, "<I", 4_000_000_000),
        "mode": (38, "<I", (stat.S_IFLNK | 0o777) << 16),
    }.items():  # fmt: skip
        if field in changes:
            struct.pack_into(form, data, entry + at, value)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("flags", "m.nii: encrypted; unpack the archive with its password"),
        ("method", "m.nii: packed by method 9, which is not read; pack the archive anew"),
        ("size", "m.nii: claims 4 GB, more than the archive can hold"),
        ("mode", "m.nii: a link, no file"),
    ],
)
def test_member_that_is_not_read_is_told_in_one_line(field, message, tmp_path):
    archive = zipped(tmp_path, **{field: True})
    for read in (read_grid, read_volume):
        with pytest.raises(InputError, match=message) as error:
            read(ImageSource(path=f"{archive}!/m.nii"))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["../m.nii", "/m.nii", "a/../../m.nii", "C:/m.nii", "..\\m.nii"])
@pytest.mark.parametrize("archive", ["a.zip", "a.tar"])
def test_names_that_lead_out_are_refused(name, archive, tmp_path):
    path = pack(tmp_path / archive, {name: b"x"})
    with pytest.raises(InputError, match="leads out of the archive"), open_member(f"{path}!/{name}"):
        pass


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_tars_are_refused(kind, tmp_path):
    entry = tarfile.TarInfo("m.nii")
    entry.type, entry.linkname = kind, "/etc/passwd"
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.addfile(entry)
    with pytest.raises(InputError, match="no plain file"), open_member(f"{tmp_path / 'a.tar'}!/m.nii"):
        pass


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("harm", ["cut", "flip", "text", "empty", "absent"])
def test_damaged_archive_is_one_line(name, harm, volume, tmp_path):
    archive = pack(tmp_path / name, {"m.nii.gz": volume.read_bytes(), "n.nii.gz": volume.read_bytes()})
    data = bytearray(archive.read_bytes())
    middle = len(data) // 2
    if name == "a.tar":  # its other half is padding: the header of the second member is harmed
        middle = 512 + -(-volume.stat().st_size // 512) * 512
    if harm == "flip":
        data[middle : middle + 300] = np.random.default_rng(3).bytes(300)
    content = {"cut": bytes(data[:middle]), "flip": bytes(data), "text": b"no archive" * 60, "empty": b""}
    archive.unlink() if harm == "absent" else archive.write_bytes(content[harm])
    told = []
    for member in ("m", "n"):
        try:
            read_volume(ImageSource(path=f"{archive}!/{member}.nii.gz"))
        except InputError as error:
            told.append(str(error))
    assert told
    assert all("\n" not in line and str(archive) in line for line in told)
    if name == "a.tar" and harm == "flip":
        assert all("damaged archive (no member's header at byte" in line for line in told)
        assert len(told) == 2


def test_absent_member_is_named(volume, tmp_path):
    archive = pack(tmp_path / "a.zip", {"m.nii.gz": volume.read_bytes()})
    with pytest.raises(InputError, match="no such member in the archive"):
        read_grid(ImageSource(path=f"{archive}!/n.nii.gz"))


def test_fault_of_a_member_names_it_and_not_its_temporary_copy(tmp_path):
    archive = pack(tmp_path / "a.zip", {"m.nii.gz": b"nothing of the kind"})
    with pytest.raises(InputError, match=r"a\.zip!/m\.nii\.gz: not readable as NIfTI"):
        read_volume(ImageSource(path=f"{archive}!/m.nii.gz"))


def test_full_disk_is_not_taken_for_a_damaged_archive(volume, tmp_path, monkeypatch):
    archive = pack(tmp_path / "a.zip", {"m.nii.gz": volume.read_bytes()})

    def full_write(path, _target):
        with open_member(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("cmb_autoseg.readers.archive._write", full_write)
    with pytest.raises(InputError, match=r"no space in .* to unpack it; free some, or set TMPDIR"):
        read_volume(ImageSource(path=f"{archive}!/m.nii.gz"))
