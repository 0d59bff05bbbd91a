"""2D pictures, one a slice, as a volume: columns become i, rows j, slices k."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.errors import InputError
from cmb_autoseg.readers.archive import open_member, split_path

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["pixel_mm", "read_shape", "read_stack"]

MM_PER_INCH = 25.4
SCREEN_DPI = (72.0, 96.0)
"""What programs write who know nothing of the size."""
PIXEL_MM = (0.1, 4.0)
"""Of a slice of a head; another resolution speaks of something else, such as print."""
EXIF_ORIENTATION = 0x0112
GREY_MODES = ("1", "L", "I", "F", "I;16", "I;16B", "I;16L")
COLOUR_ROUNDING = 3
"""Grey values; JPEG's own rounding of channels that were equal."""


def read_shape(files: Sequence[str]) -> tuple[int, int, int]:
    """Shape (i, j, k) of the volume that pictures make, from their headers.

    Args:
        files: one a slice; "" where a slice is absent. Members of archives may be among them.

    Raises:
        InputError: a picture is missing, is none, is to be shown turned, or differs from the first in size.
    """
    sizes = {}
    for file in filter(None, files):
        with _opened(file) as image:
            sizes[file] = image.size
    if not sizes:
        raise InputError("no picture; name at least one")
    first, size = next(iter(sizes.items()))
    odd = next((file for file, other in sizes.items() if other != size), None)
    if odd is not None:
        raise InputError(
            f"{odd}: {' x '.join(map(str, sizes[odd]))} pixels, but {Path(first).name} of the same case has "
            f"{' x '.join(map(str, size))}; export all slices of a scan alike"
        )
    return (*size, len(files))


def read_stack(files: Sequence[str], dtype: Any = np.float32) -> NDArray[Any]:
    """Grey values of shape (i, j, k); absent slices are zero.

    Raises:
        InputError: as `read_shape`; or a picture is damaged or in colour.
    """
    stack = np.zeros(read_shape(files), dtype=dtype)
    for k, file in enumerate(files):
        if file:
            with _opened(file) as image:
                stack[:, :, k] = _grey(image, file).T
    return stack


def pixel_mm(file: str) -> tuple[float | None, str]:
    """Size of a pixel by the picture's own resolution, and why none is taken from it.

    Raises:
        InputError: it cannot be read.
    """
    with _opened(file) as image:
        dpi = tuple(float(value) for value in image.info.get("dpi", ()))
    if len(dpi) != 2 or min(dpi) <= 0:
        return None, "says nothing of its pixels' size"
    size_mm = MM_PER_INCH / dpi[0]
    # Formats store whole dots a metre or inch, so that 96 dpi may come as 96.01.
    if any(abs(dpi[0] - usual) < 0.5 for usual in SCREEN_DPI):
        return None, f"has {dpi[0]:.0f} dpi, which is a screen's and not the scan's"
    if abs(dpi[0] - dpi[1]) > 0.01 * dpi[0] or not PIXEL_MM[0] <= size_mm <= PIXEL_MM[1]:
        return None, f"has {dpi[0]:.0f} x {dpi[1]:.0f} dpi, which is no scan's"
    return size_mm, ""


@contextmanager
def _opened(file: str) -> "Iterator[Image.Image]":
    """A picture with its header read; refused if it is to be shown turned or holds several."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(_source(file)) as image:
                _check(image, file)
                yield image
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(f"{file}: no picture that can be read; export it again as PNG") from None
    except Image.DecompressionBombError:
        raise InputError(f"{file}: claims more pixels than a slice has; export it again") from None
    except MemoryError:
        raise InputError(f"{file}: does not fit into memory; export it again") from None
    except FileNotFoundError:
        raise InputError(f"{file}: no such file; restore it") from None
    except (OSError, ValueError, SyntaxError, EOFError, LookupError, ArithmeticError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{file}: damaged or truncated ({reason}); copy or export it again") from None


def _source(file: str) -> Path | BytesIO:
    if split_path(file) is None:
        return Path(file)
    with open_member(file) as stream:
        return BytesIO(stream.read())


def _check(image: "Image.Image", file: str) -> None:
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise InputError(f"{file}: holds {frames} pictures; save each slice as a file of its own")
    turned = image.getexif().get(EXIF_ORIENTATION, 1)
    if turned != 1:
        raise InputError(
            f"{file}: is to be shown turned or mirrored (EXIF orientation {turned}), so left and right are in doubt; "
            "turn the pixels themselves and remove that tag"
        )


def _grey(image: "Image.Image", file: str) -> NDArray[Any]:
    """Grey values of shape (rows, columns)."""
    if image.mode in GREY_MODES:
        return np.asarray(image)
    if image.mode not in ("LA", "P", "PA", "RGB", "RGBA"):
        raise InputError(f"{file}: its colours ({image.mode}) are not read; export it as grey values")
    pixels = np.asarray(image.convert("RGBA"))
    if np.ptp(pixels[..., 3]) > 0:
        raise InputError(f"{file}: is transparent in places; export it as plain grey values")
    coloured = int(np.count_nonzero(np.ptp(pixels[..., :3], axis=-1) > COLOUR_ROUNDING))
    if coloured:
        raise InputError(
            f"{file}: {coloured} of {pixels[..., 0].size} pixels are in colour, as marks drawn into a picture or a "
            "colour map are; export it as grey values, without marks"
        )
    return pixels[..., 1]
