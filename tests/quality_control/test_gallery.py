"""The gallery is one file that needs no network, and the table beside it."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from cmb_autoseg.files import read_tsv
from cmb_autoseg.geometry import to_canonical
from cmb_autoseg.lesions.components import find_components
from cmb_autoseg.quality_control.gallery import draw_case, write_gallery
from cmb_autoseg.quality_control.tables import write_quality_table
from cmb_autoseg.quality_control.verdicts import judge
from cmb_autoseg.records import Role

from .faults import FAULTS, measured
from .heads import make_head


@pytest.fixture(scope="module")
def scans():
    heads = [make_head(910 + n, lesions=2) for n in range(2)]
    invert = next(fault for fault in FAULTS if fault.name == "SWI inverted")
    return [heads[0], invert.plant(np.random.default_rng(0), heads[1], heads)]


def draw(scan):
    volumes = {role: to_canonical(volume) for role, volume in scan.volumes.items()}
    return draw_case(volumes, to_canonical(scan.brain), to_canonical(scan.label))


def test_the_strip_has_three_views_and_one_of_each_other_sequence(scans):
    strip = Image.open(io.BytesIO(draw(scans[0])))

    assert strip.size == (112 * 5, 112)
    pixels = np.asarray(strip).astype(int)
    red = (pixels[..., 0] > pixels[..., 1] + 60) & (pixels[..., 0] > 120)
    green = (pixels[..., 1] > pixels[..., 0] + 40) & (pixels[..., 1] > 90)
    assert red[:, : 3 * 112].sum() > 10
    assert not red[:, 3 * 112 :].any()
    assert all(green[:, 112 * n : 112 * (n + 1)].any() for n in range(5))


def test_the_ring_is_at_the_lesion(scans):
    scan = scans[0]
    strip = np.asarray(Image.open(io.BytesIO(draw(scan)))).astype(int)
    axial = strip[:, :112]
    rows, columns = np.nonzero((axial[..., 0] > axial[..., 1] + 60) & (axial[..., 0] > 120))
    label = to_canonical(scan.label)
    height_mm = label.shape[1] * label.spacing_mm[1]
    i, j, _ = find_components(label.data > 0).centres[0]
    scale = 112 / height_mm
    left = (112 - label.shape[0] * label.spacing_mm[0] * scale) / 2
    expected = (112 - (j + 0.5) * label.spacing_mm[1] * scale, 112 - left - (i + 0.5) * label.spacing_mm[0] * scale)
    on_ring = np.abs(np.hypot(rows - expected[0], columns - expected[1]) - 6) < 1.6
    assert on_ring.sum() > 25


def test_the_same_case_is_drawn_the_same(scans):
    assert draw(scans[0]) == draw(scans[0])


def test_the_page_holds_pictures_verdicts_and_reasons(scans, tmp_path):
    cases = [measured(scan) for scan in scans]
    verdicts = judge(cases)
    (tmp_path / "qc").mkdir()
    for scan in scans:
        (tmp_path / "qc" / f"{scan.name}.jpg").write_bytes(draw(scan))

    write_gallery(tmp_path / "qc.html", "Dataset501_<N>", cases, verdicts, tmp_path / "qc", excluded=[scans[1].name])
    page = (tmp_path / "qc.html").read_text()

    assert page.count("data:image/jpeg;base64,") == 2
    assert not re.search(r"https?://|src=\"(?!data:)", page)
    assert "Dataset501_&lt;N&gt;" in page
    assert page.index(scans[1].name) < page.index(scans[0].name)
    assert "lesions are not dark in swi" in page
    assert page.count("left out") == 1
    for verdict in ("pass", "review"):
        assert f'data-verdict="{verdict}"' in page


def test_many_cases_refer_to_their_pictures(scans, tmp_path, monkeypatch):
    monkeypatch.setattr("cmb_autoseg.quality_control.gallery.MOST_EMBEDDED", 1)
    cases = [measured(scan) for scan in scans]
    (tmp_path / "qc").mkdir()
    (tmp_path / "qc" / f"{scans[0].name}.jpg").write_bytes(draw(scans[0]))

    write_gallery(tmp_path / "qc.html", "D", cases, judge(cases), tmp_path / "qc")
    page = (tmp_path / "qc.html").read_text()

    assert f'src="qc/{scans[0].name}.jpg"' in page
    assert "no picture" in page


def test_the_table_has_a_row_a_case(scans, tmp_path):
    cases = [measured(scan) for scan in scans]

    write_quality_table(tmp_path / "qc.tsv", cases, judge(cases))
    rows = read_tsv(tmp_path / "qc.tsv")

    assert [row["verdict"] for row in rows] == ["pass", "review"]
    assert rows[0]["reasons"] == "n/a"
    assert rows[0]["n_lesions"] == "2"
    assert float(rows[0]["swi_snr"]) == pytest.approx(cases[0].quality.sequences[Role.SWI].snr, rel=1e-4)
    assert rows[0]["qsm_snr"] == "n/a"
    assert rows[0]["t1_shape"] == "70x80x34"
