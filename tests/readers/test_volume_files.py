"""MetaImage, NRRD and MATLAB files beside NIfTI of the same volume; headers alone tell what reading gives."""

import zipfile
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
import scipy.io
import SimpleITK

from cmb_autoseg import geometry
from cmb_autoseg.errors import InputError
from cmb_autoseg.readers import count_volumes, files_of_volume, read_grid, read_volume, source_files
from cmb_autoseg.readers.nifti_header import grid_of_file, grid_of_stream
from cmb_autoseg.records import ImageSource

SHAPE = (6, 5, 4)


def rotation(seed: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]


def affine(seed: int) -> np.ndarray:
    """An oblique grid, perhaps a mirrored one."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(seed) * (0.7, 0.9, 2.5)
    matrix[:3, 3] = (-40, 12, 33)
    return matrix


def data(seed: int = 0, shape=SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).integers(-500, 500, shape).astype(np.int16)


def itk_image(array: np.ndarray, ras: np.ndarray) -> SimpleITK.Image:
    """By SimpleITK's own conventions: LPS, array as (k, j, i)."""
    image = SimpleITK.GetImageFromArray(array.T)
    lps = np.diag([-1, -1, 1, 1]) @ ras
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def at(path: Path, **settings) -> ImageSource:
    return ImageSource(path=str(path), **settings)


@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd", ".nhdr"])
@pytest.mark.parametrize("seed", [1, 2])
def test_itk_files_give_the_volume_that_was_written(suffix, seed, tmp_path):
    path = tmp_path / f"s{suffix}"
    SimpleITK.WriteImage(itk_image(data(), affine(seed)), str(path), useCompression=seed == 1)
    shape, grid = read_grid(at(path))
    read = read_volume(at(path))
    np.testing.assert_array_equal(read.data, data())
    for found in (grid, read.affine):
        np.testing.assert_allclose(found, affine(seed), atol=1e-4)
    assert (shape, read.data.dtype) == (SHAPE, np.float32)
    assert len(source_files(at(path))) == (2 if suffix in (".mhd", ".nhdr") else 1)


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_volumes_of_itk_files_are_chosen_by_number(suffix, tmp_path):
    volumes = [data(seed) for seed in range(3)]
    joined = SimpleITK.JoinSeries([itk_image(volume, affine(1)) for volume in volumes])
    vectors = SimpleITK.Compose([itk_image(volume, affine(1)) for volume in volumes])
    for name, image in (("joined", joined), ("vectors", vectors)):
        path = tmp_path / f"{name}{suffix}"
        SimpleITK.WriteImage(image, str(path))
        assert count_volumes(at(path)) == 3
        np.testing.assert_array_equal(read_volume(at(path, echo=2)).data, volumes[1])
        assert read_grid(at(path, echo=2))[0] == SHAPE
        for read in (read_grid, read_volume):
            with pytest.raises(
                InputError, match="a 4D file with 3 volumes; if they are echoes, choose one with --echo"
            ):
                read(at(path))
            with pytest.raises(InputError, match="echo 4 asked for, but the file has 3"):
                read(at(path, echo=4))


META = "NDims = 3\nDimSize = 2 3 4\nElementType = MET_SHORT\nElementSpacing = 1 2 3\nElementDataFile = {}\n"
NRRD = "NRRD0004\ntype: short\ndimension: 3\nsizes: 2 3 4\nencoding: raw\nendian: little\ndata file: {}\n"
HEADERS_ALONE = {".mhd": META, ".mha": META, ".nhdr": NRRD, ".nrrd": NRRD}
PIXELS = np.arange(24, dtype="<i2").reshape(4, 3, 2)


@pytest.fixture
def elsewhere(tmp_path):
    """A folder with a file of other people, and pictures that a pattern or a list would collect."""
    (tmp_path / "f").mkdir()
    (tmp_path / "secret.raw").write_bytes(PIXELS.tobytes())
    for k in range(4):
        (tmp_path / f"f/s_{k}.raw").write_bytes(PIXELS[k].tobytes())
    return tmp_path


LEADING_OUT = (
    "{root}/secret.raw",
    "../secret.raw",
    "./../secret.raw",
    "f/../../secret.raw",
    "..\\secret.raw",
    "..",
    "s_%d.raw 0 3 1",
    "s_%03d.raw 0 3 1",
    "LIST\ns_0.raw\ns_1.raw\ns_2.raw\ns_3.raw",
    "LIST 2\ns_0.raw",
)


@pytest.mark.parametrize("suffix", HEADERS_ALONE)
@pytest.mark.parametrize("named", LEADING_OUT)
def test_headers_that_name_other_files_are_refused(named, suffix, elsewhere):
    header = elsewhere / f"f/s{suffix}"
    header.write_text(HEADERS_ALONE[suffix].format(named.format(root=elsewhere)))
    for read in (read_grid, read_volume, count_volumes):
        with pytest.raises(InputError, match=r"names .* as its data; one file in the header's own folder") as error:
            read(at(header))
        assert "\n" not in str(error.value)
    assert source_files(at(header)) == (header,)
    archive = elsewhere / "a.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.write(header, f"g/s{suffix}")
    for read in (read_grid, read_volume):
        with pytest.raises(InputError, match=rf"a\.zip!/g/s\{suffix}: names .* as its data; one file"):
            read(at(f"{archive}!/g/s{suffix}"))


@pytest.mark.parametrize("suffix", HEADERS_ALONE)
def test_voxels_beside_their_header_are_read_and_are_a_source(suffix, elsewhere):
    header, data_file = elsewhere / f"f/s{suffix}", elsewhere / "f/my voxels.raw"
    header.write_text(HEADERS_ALONE[suffix].format("./my voxels.raw"))
    with pytest.raises(InputError, match=r"its data file my voxels\.raw is not beside it; restore the file"):
        read_grid(at(header))
    data_file.write_bytes(PIXELS.tobytes())
    np.testing.assert_array_equal(read_volume(at(header)).data, PIXELS.T)
    assert source_files(at(header)) == (header, data_file)
    assert files_of_volume(str(header)) == (str(header), str(data_file))
    archive = elsewhere / "a.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in (header, data_file):
            packed.write(path, f"g/{path.name}")
    member = f"{archive}!/g/s{suffix}"
    np.testing.assert_array_equal(read_volume(at(member)).data, PIXELS.T)
    assert read_grid(at(member))[0] == (2, 3, 4)
    assert source_files(at(member)) == (archive,)
    assert files_of_volume(member) == (member, f"{archive}!/g/my voxels.raw")


@pytest.mark.parametrize(
    "first", ["Comment = ElementDataFile = s_0.raw\n", "Comment = a\rElementDataFile = s_0.raw\n", ""]
)
def test_no_data_file_hides_behind_a_long_header(first, elsewhere):
    header = elsewhere / "f/s.mhd"
    lines = META.format(f"{elsewhere}/secret.raw").splitlines(keepends=True)
    header.write_text("".join([*lines[:-1], first, *["Comment = " + "x" * 90 + "\n"] * 12_000, lines[-1]]))
    with pytest.raises(InputError, match="its header has no ElementDataFile"):
        read_volume(at(header))
    long = elsewhere / "f/s.nhdr"
    start, _, end = NRRD.format(f"{elsewhere}/secret.raw").partition("type")
    long.write_text(start + ("# " + "x" * 90 + "\n") * 12_000 + "type" + end)
    with pytest.raises(InputError, match="its header is longer than"):
        read_volume(at(long))


def test_flat_itk_image_is_refused(tmp_path):
    SimpleITK.WriteImage(SimpleITK.Image(4, 5, SimpleITK.sitkInt16), str(tmp_path / "s.mha"))
    with pytest.raises(InputError, match="found 4 x 5 voxels, a 3D volume is needed"):
        read_grid(at(tmp_path / "s.mha"))


@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd", ".mat", ".nii"])
@pytest.mark.parametrize("content", [b"", b"no such thing", b"NRRD0004\ntype: float\n", b"NDims = 3\nDimSize = 9 9"])
def test_foreign_content_is_one_line(suffix, content, tmp_path):
    (tmp_path / f"s{suffix}").write_bytes(content)
    for read in (read_grid, read_volume):
        with pytest.raises(InputError, match=f"s{suffix}: ") as error:
            read(at(tmp_path / f"s{suffix}"))
        assert "\n" not in str(error.value)


def test_cut_and_boastful_itk_files_are_refused(tmp_path):
    SimpleITK.WriteImage(itk_image(data(), affine(1)), str(tmp_path / "s.mha"))
    whole = (tmp_path / "s.mha").read_bytes()
    (tmp_path / "cut.mha").write_bytes(whole[:-40])
    with pytest.raises(InputError, match="damaged or truncated"):
        read_volume(at(tmp_path / "cut.mha"))
    (tmp_path / "big.mha").write_bytes(whole.replace(b"DimSize = 6 5 4", b"DimSize = 60000 50000 40000"))
    with pytest.raises(InputError, match="more than the file can hold"):
        read_grid(at(tmp_path / "big.mha"))


def save_mat(path: Path, arrays: dict, new: bool) -> Path:
    """As MATLAB does: version 7.3 turns the axes round."""
    if not new:
        scipy.io.savemat(path, arrays, do_compression=True)
        return path
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            stored = file.create_dataset(name, data=np.asarray(array).T)
            kind = {"int16": "int16", "float64": "double", "uint16": "char"}[str(stored.dtype)]
            stored.attrs["MATLAB_class"] = np.bytes_(kind)
    return path


@pytest.mark.parametrize("new", [False, True])
def test_the_only_volume_of_a_mat_file_is_taken_with_the_cards_geometry(new, tmp_path):
    path = save_mat(tmp_path / "s.mat", {"note": np.zeros((2, 2)), "vol": data()}, new)
    rows = tuple(map(tuple, affine(1).tolist()))
    shape, grid = read_grid(at(path, affine=rows))
    read = read_volume(at(path, affine=rows))
    np.testing.assert_array_equal(read.data, data())
    assert (shape, read.shape) == (SHAPE, SHAPE)
    np.testing.assert_array_equal(grid, affine(1))
    np.testing.assert_array_equal(read.affine, affine(1))
    np.testing.assert_array_equal(read_volume(at(path)).affine, np.eye(4))


@pytest.mark.parametrize("new", [False, True])
def test_arrays_of_a_mat_file_are_named(new, tmp_path):
    path = save_mat(tmp_path / "s.mat", {"a": data(1), "b": data(2), "c": np.zeros((3, 3))}, new)
    np.testing.assert_array_equal(read_volume(at(path, variable="b")).data, data(2))
    with pytest.raises(InputError, match=r"2 volumes \(there: a \(6 x 5 x 4 int16\), b .*name one with images"):
        read_volume(at(path))
    with pytest.raises(InputError, match=r"no array d \(there: a .*\); correct images.<name>.variable"):
        read_volume(at(path, variable="d"))
    with pytest.raises(InputError, match=r"c \(3 x 3 double\) is no volume of numbers"):
        read_volume(at(path, variable="c"))


HEADERS = {
    "plain": {},
    "sform": {"sform_code": 2},
    "qform only": {"sform_code": 0, "qform_code": 1},
    "neither": {"sform_code": 0, "qform_code": 0},
    "no size": {"pixdim": [1, 0, 1, 1, 0, 0, 0, 0], "sform_code": 0, "qform_code": 0},
    "negative size": {"pixdim": [1, -1, 1, 1, 0, 0, 0, 0], "sform_code": 0, "qform_code": 1},
    "NaN size": {"pixdim": [1, np.nan, 1, 1, 0, 0, 0, 0], "sform_code": 0, "qform_code": 1},
    "odd qfac": {"pixdim": [0, 1, 1, 1, 0, 0, 0, 0], "sform_code": 0, "qform_code": 1},
    "odd code": {"sform_code": 9},
    "odd offset": {"vox_offset": 17},
    "NaN affine": {"srow_x": [np.nan, 0, 0, 0]},
    "far away": {"srow_x": [1, 0, 0, 1e7]},
    "huge": {"dim": [3, 30000, 30000, 30000, 1, 1, 1, 1]},
    "no voxel": {"dim": [3, 4, 0, 4, 1, 1, 1, 1]},
    "no dimension": {"dim": [0, 4, 4, 4, 1, 1, 1, 1]},
    "odd type": {"datatype": 77},
    "4D": {"dim": [4, 6, 5, 2, 2, 1, 1, 1]},
}


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_quick_headers_say_what_slow_ones_do(name, kind, suffix, order, tmp_path):
    header = kind.header_class(endianness=order)
    image = kind(data(), affine(3), header)
    image.set_qform(affine(3), 1)
    block = image.to_bytes()
    parsed = kind.header_class(block[: kind.header_class.sizeof_hdr], order, check=False)
    for field, value in HEADERS[name].items():
        parsed[field] = value
    path = tmp_path / f"s{suffix}"
    content = parsed.binaryblock + block[kind.header_class.sizeof_hdr :]
    with nib.openers.Opener(str(path), "wb") as stream:
        stream.write(content)

    def told(read):
        try:
            shape, grid = read(path)
        except InputError as error:
            return str(error)
        return shape, grid.tolist()

    assert told(grid_of_file) == told(geometry.read_grid)
    if name in ("plain", "sform", "qform only", "4D"):
        assert grid_of_stream(path.read_bytes()[:4096], path.stat().st_size, path.name) is not None
