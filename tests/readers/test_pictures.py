"""2D pictures as volumes: which way they run, what is refused, what they say of their size."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cmb_autoseg.errors import InputError
from cmb_autoseg.readers import read_grid, read_volume, source_files
from cmb_autoseg.readers.pictures import pixel_mm
from cmb_autoseg.records import ImageSource

ROWS, COLUMNS = 6, 8


def grey(seed: int = 0, high: int = 255) -> np.ndarray:
    """Rows and columns, as a picture is seen."""
    return np.random.default_rng(seed).integers(0, high, (ROWS, COLUMNS))


def save(path: Path, pixels: np.ndarray, **options) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def stack(*files: Path | str, affine=None) -> ImageSource:
    return ImageSource(kind="pictures", path="s", files=tuple(map(str, files)), affine=affine)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_columns_become_i_and_rows_j_and_absent_slices_are_zero(suffix, tmp_path):
    first, third = (save(tmp_path / f"{n}{suffix}", grey(n).astype(np.uint8)) for n in (1, 3))
    source = stack(first, "", third)
    volume = read_volume(source)
    assert volume.shape == read_grid(source)[0] == (COLUMNS, ROWS, 3)
    np.testing.assert_array_equal(volume.data[:, :, 0], grey(1).T)
    np.testing.assert_array_equal(volume.data[:, :, 2], grey(3).T)
    assert not volume.data[:, :, 1].any()
    assert source_files(source) == (first, third)


def test_geometry_is_the_cards(tmp_path):
    affine = ((-0.5, 0.0, 0.0, 10.0), (0.0, -0.5, 0.0, 20.0), (0.0, 0.0, 3.0, -7.0), (0.0, 0.0, 0.0, 1.0))
    source = stack(save(tmp_path / "a.png", grey().astype(np.uint8)), affine=affine)
    assert read_volume(source).affine.tolist() == read_grid(source)[1].tolist() == [list(row) for row in affine]


def test_deep_and_wrapped_greys_keep_their_values(tmp_path):
    values = grey(2, 60_000)
    deep = read_volume(stack(save(tmp_path / "deep.png", values.astype(np.uint16)))).data
    np.testing.assert_array_equal(deep[:, :, 0], values.T)
    plain = grey(3).astype(np.uint8)
    opaque = np.full_like(plain, 255)
    for name, pixels in (("rgb", [plain] * 3), ("rgba", [*[plain] * 3, opaque]), ("la", [plain, opaque])):
        found = read_volume(stack(save(tmp_path / f"{name}.png", np.stack(pixels, axis=-1)))).data
        np.testing.assert_array_equal(found[:, :, 0], plain.T)
    palette = Image.fromarray(plain).convert("P")
    palette.save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_volume(stack(tmp_path / "p.png")).data[:, :, 0], plain.T)


def test_grey_jpeg_in_three_channels_is_grey(tmp_path):
    plain = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (64, 1))
    path = save(tmp_path / "a.jpg", np.stack([plain] * 3, axis=-1), quality=92)
    assert np.abs(read_volume(stack(path)).data[:, :, 0] - plain.T).max() < 8


def coloured(path: Path) -> Path:
    pixels = np.stack([grey().astype(np.uint8)] * 3, axis=-1)
    pixels[2, 3] = (255, 0, 0)
    return save(path, pixels)


def transparent(path: Path) -> Path:
    pixels = np.full((ROWS, COLUMNS, 4), 200, dtype=np.uint8)
    pixels[0, 0, 3] = 0
    return save(path, pixels)


def turned(path: Path) -> Path:
    exif = Image.Exif()
    exif[0x0112] = 6
    return save(path, grey().astype(np.uint8), exif=exif)


def several(path: Path) -> Path:
    pages = [Image.fromarray(grey(n).astype(np.uint8)) for n in range(3)]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    return path


def truncated(path: Path) -> Path:
    save(path, np.random.default_rng(0).integers(0, 255, (200, 200)).astype(np.uint8))
    path.write_bytes(path.read_bytes()[:9000])
    return path


def text(path: Path) -> Path:
    path.write_text("no picture")
    return path


@pytest.mark.parametrize(
    ("make", "name", "message"),
    [
        (coloured, "a.png", "1 of 48 pixels are in colour, as marks drawn into a picture"),
        (transparent, "a.png", "transparent in places"),
        (turned, "a.jpg", r"shown turned or mirrored \(EXIF orientation 6\).*turn the pixels themselves"),
        (several, "a.tif", "holds 3 pictures; save each slice"),
        (truncated, "a.png", "damaged or truncated"),
        (text, "a.png", "no picture that can be read"),
        (lambda path: path, "a.png", "no such file"),
    ],
)
def test_picture_that_cannot_be_used_is_one_line(make, name, message, tmp_path):
    with pytest.raises(InputError, match=message) as error:
        read_volume(stack(make(tmp_path / name)))
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(tmp_path / name))


def test_slices_of_two_sizes_are_refused_by_headers(tmp_path):
    one = save(tmp_path / "a.png", grey().astype(np.uint8))
    other = save(tmp_path / "b.png", grey().astype(np.uint8)[:, :-1])
    with pytest.raises(InputError, match=r"b\.png: 7 x 6 pixels, but a\.png of the same case has 8 x 6"):
        read_grid(stack(one, other))


def test_claim_of_too_many_pixels_is_refused(tmp_path):
    path = save(tmp_path / "a.bmp", grey().astype(np.uint8))
    content = bytearray(path.read_bytes())
    content[18:26] = (100_000).to_bytes(4, "little") * 2
    path.write_bytes(content)
    with pytest.raises(InputError, match="more pixels than a slice has"):
        read_grid(stack(path))


def test_pictures_in_archives(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(grey().astype(np.uint8)).save(buffer, format="PNG")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("s/1.png", buffer.getvalue())
    source = stack(f"{tmp_path / 'a.zip'}!/s/1.png")
    np.testing.assert_array_equal(read_volume(source).data[:, :, 0], grey().T)
    assert source_files(source) == (tmp_path / "a.zip",)


@pytest.mark.parametrize(
    ("dpi", "size_mm", "why"),
    [
        ((50.8, 50.8), 0.5, ""),
        ((96, 96), None, "has 96 dpi, which is a screen's"),
        ((300, 300), None, "has 300 x 300 dpi, which is no scan's"),
        ((50.8, 25.4), None, "which is no scan's"),
        (None, None, "says nothing of its pixels' size"),
    ],
)
def test_size_by_the_pictures_own_resolution(dpi, size_mm, why, tmp_path):
    path = save(tmp_path / "a.png", grey().astype(np.uint8), **({"dpi": dpi} if dpi else {}))
    found, reason = pixel_mm(str(path))
    assert found == (None if size_mm is None else pytest.approx(size_mm, rel=1e-3))
    assert why in reason
