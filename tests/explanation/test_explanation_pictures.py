import numpy as np
import pytest
from PIL import Image

from cmb_autoseg.explanation.findings import Finding
from cmb_autoseg.explanation.pictures import FINDING_COLOUR, PREDICTED_COLOUR, REFERENCE_COLOUR, write_picture
from cmb_autoseg.explanation.places import Explanation
from cmb_autoseg.geometry import Volume
from cmb_autoseg.records import Lesion

FOOTER_PIXELS = 40


@pytest.fixture
def drawn(tmp_path):
    """Pixels (row, column, RGB) of the picture of one dark dot, with or without a reference."""

    def draw(with_reference):
        affine = np.diag([1.0, 1.0, 2.0, 1.0])
        data = np.random.default_rng(0).normal(100, 10, (40, 40, 20)).astype(np.float32)
        dot = np.zeros(data.shape, dtype=bool)
        dot[19:22, 19:22, 10] = True
        lesion = Lesion(
            lesion=1, x_mm=20, y_mm=20, z_mm=20, i=20, j=20, k=10, volume_mm3=9, diameter_mm=3, prob_max=1, prob_mean=1
        )
        voxels = np.argwhere(dot)
        explained = Explanation(Finding("hit", lesion, voxels), dot.astype(np.float32), 3.0, {}, 1.0, 0.01)
        scan = Volume(data, affine)
        path = tmp_path / "explained.png"
        reference = dot if with_reference else None
        write_picture(path, scan, scan.with_data(dot.astype(np.float32)), dot, reference, [explained], "one dot")
        return np.asarray(Image.open(path).convert("RGB")).astype(int)

    return draw


@pytest.mark.parametrize("with_reference", [False, True])
def test_the_footer_says_what_colours_mean(drawn, with_reference):
    footer = drawn(with_reference)[-FOOTER_PIXELS:]

    def is_there(colour):
        wanted = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
        return bool((np.abs(footer - wanted).max(axis=-1) <= 16).any())

    assert is_there(PREDICTED_COLOUR)
    assert is_there(FINDING_COLOUR)
    assert is_there(REFERENCE_COLOUR) == with_reference
    # The scale from dark to bright, without a gap.
    scale = footer[:, 600:800].sum(axis=-1).max(axis=0)
    assert scale[-1] > scale[len(scale) // 2] > scale[0]
