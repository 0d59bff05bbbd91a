"""Text burned into slices is found; slices without are left alone."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from cmb_autoseg.quality_control.burned_in_text import burned_in_text
from cmb_autoseg.records import Role

from .heads import make_head


@pytest.fixture(scope="module")
def slices():
    """Every third slice of a head, 8 bits, four times as large, with a margin."""
    head = make_head(920)
    pictures = []
    for role in (Role.SWI, Role.T1):
        data = head.volumes[role].data
        grey = np.clip(data / np.percentile(data, 99.9) * 255, 0, 255).astype(np.uint8)
        for k in range(0, data.shape[2], 3):
            picture = Image.fromarray(np.pad(grey[:, :, k].T[::-1], 15))
            pictures.append(picture.resize((400, 440), Image.Resampling.BICUBIC))
    return pictures


def exported(picture, quality=85):
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


def test_slices_without_text_are_not_flagged(slices):
    assert [burned_in_text(exported(picture)) for picture in slices] == [[]] * len(slices)


@pytest.mark.parametrize("size", [9, 12, 16, 24, 32])
@pytest.mark.parametrize("text", ["DOE JOHN", "1954-03-12", "Jane Doe 077Y"])
def test_text_is_found_where_it_is(slices, size, text):
    for picture, grey in zip(slices[::5], (255, 230, 255, 230, 255), strict=False):
        copy = picture.copy()
        draw = ImageDraw.Draw(copy)
        font = ImageFont.load_default(size)
        draw.text((4, 4), text, fill=grey, font=font)
        left, top, right, bottom = draw.textbbox((4, 4), text, font=font)

        boxes = burned_in_text(exported(copy))

        assert boxes
        assert all(box.top >= top - 3 and box.bottom <= bottom + 3 for box in boxes)
        assert all(box.left >= left - 3 and box.right <= right + 3 for box in boxes)


def test_noise_and_empty_pictures_hold_no_text():
    noise = np.random.default_rng(0).integers(0, 256, (200, 200)).astype(np.uint8)

    assert burned_in_text(noise) == []
    assert burned_in_text(np.zeros((64, 64), np.uint8)) == []
    assert burned_in_text(np.zeros((0, 0), np.uint8)) == []
