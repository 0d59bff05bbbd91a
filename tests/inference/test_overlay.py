import io

import numpy as np
import pytest
from PIL import Image

from cmb_autoseg.errors import GeometryError
from cmb_autoseg.geometry import Volume
from cmb_autoseg.inference import overlay
from cmb_autoseg.inference.overlay import write_overlay
from cmb_autoseg.records import Lesion, LesionTable

AXES = {
    "RAS": np.diag([1.0, 1.0, 3.0, 1.0]),
    "LPS": np.diag([-1.0, -1.0, 3.0, 1.0]),
    "LAI": np.diag([-1.0, 1.0, -3.0, 1.0]),
}


def grey(axes: str = "RAS", shape: tuple[int, int, int] = (40, 48, 12)) -> Volume:
    data = np.random.default_rng(0).uniform(50, 60, shape).astype(np.float32)
    return Volume(data, AXES[axes])


def table(volume: Volume, *lesions: tuple[tuple[int, int, int], float]) -> LesionTable:
    """Lesions of 4 mm at voxels, with their probabilities."""
    return LesionTable(
        case="x",
        lesions=tuple(
            Lesion(
                **dict(zip(("x_mm", "y_mm", "z_mm"), volume.to_ras_mm(np.array([voxel]))[0], strict=True)),
                **dict(zip("ijk", voxel, strict=True)),
                lesion=number,
                volume_mm3=33.5,
                diameter_mm=4.0,
                prob_max=probability,
                prob_mean=probability,
            )
            for number, (voxel, probability) in enumerate(lesions, 1)
        ),
    )


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def yellow_centre(picture: np.ndarray) -> tuple[float, float]:
    """Middle of all yellow pixels of the circle, as shares of width and height."""
    rows, columns = np.nonzero((picture[..., 0] > 200) & (picture[..., 1] > 160) & (picture[..., 2] < 60))
    return columns.mean() / picture.shape[1], rows.mean() / picture.shape[0]


@pytest.mark.parametrize("axes", AXES)
def test_the_persons_left_front_is_drawn_right_top_whatever_the_axes(tmp_path, axes, monkeypatch):
    monkeypatch.setattr(overlay, "_counted", lambda *_: "")
    scan = grey(axes)
    centre = scan.to_ras_mm(np.array([[19.5, 23.5, 6.0]]))
    left_front = centre + np.array([-12.0, 14.0, 0.0])
    voxel = tuple(int(n) for n in np.rint(scan.to_voxels(left_front)[0]))

    write_overlay(tmp_path / "o.png", scan, None, table(scan, (voxel, 0.9)), "x")

    right, down = yellow_centre(pixels(tmp_path / "o.png"))
    assert right > 0.55
    assert down < 0.4


def test_the_lesion_is_circled_and_not_covered(tmp_path):
    scan = grey()
    scan.data[18:23, 22:27, 6] = 1.0
    mask = np.zeros(scan.shape, bool)
    mask[18:23, 22:27, 6] = True
    found = table(scan, ((20, 24, 6), 0.9))
    write_overlay(tmp_path / "o.png", scan, mask, found, "x")
    marked = pixels(tmp_path / "o.png")
    write_overlay(tmp_path / "bare.png", scan, None, LesionTable(case="x"), "x")

    # The dark square is as many dark pixels in the marked picture as 5 x 5 voxels of it must be.
    height = marked.shape[0] - 100 * overlay.HEADING_INCHES
    voxel_pixels = (height - 0.01 * marked.shape[0]) / 48
    middle = marked[int(height / 2) - 40 : int(height / 2) + 100, 180:320]
    dark = (middle.max(axis=-1) < 10).sum()
    assert dark == pytest.approx(25 * voxel_pixels**2, rel=0.12)


def test_voxels_are_drawn_at_their_size(tmp_path):
    data = np.zeros((80, 40, 3), np.float32)
    data[20:60, 10:30] = 50.0
    scan = Volume(data, np.diag([0.5, 1.0, 2.0, 1.0]))  # the bright square is 20 x 20 mm
    write_overlay(tmp_path / "o.png", scan, None, LesionTable(case="x"), "")
    picture = pixels(tmp_path / "o.png")[40:, : pixels(tmp_path / "o.png").shape[1] // 3]
    rows, columns = np.nonzero(picture.min(axis=-1) > 250)
    height, width = (np.median(counts[counts > 20]) for counts in (np.bincount(columns), np.bincount(rows)))
    assert height > 100
    assert height == pytest.approx(width, abs=3)


def test_slices_go_through_the_most_probable_lesions_at_most_eight(tmp_path):
    scan = grey(shape=(20, 20, 30))
    lesions = table(scan, *[((10, 10, 2 * index), 0.3 + 0.02 * index) for index in range(12)])
    assert overlay._planes(scan, lesions) == [22, 20, 18, 16, 14, 12, 10, 8]
    assert overlay._planes(scan, LesionTable(case="x")) == [7, 12, 17, 22]
    assert overlay._planes(grey(shape=(20, 20, 1)), LesionTable(case="x")) == [0]


def test_same_input_gives_same_bytes_without_software_or_date(tmp_path):
    scan = grey()
    for name in ("a.png", "b.png"):
        write_overlay(tmp_path / name, scan, None, table(scan, ((20, 24, 6), 0.9)), "x")
    content = (tmp_path / "a.png").read_bytes()
    assert content == (tmp_path / "b.png").read_bytes()
    info = Image.open(io.BytesIO(content)).info
    assert not {"Software", "Creation Time", "date"} & set(info)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


@pytest.mark.parametrize("fill", [np.nan, 0.0, -3.0])
def test_odd_values_do_not_stop_it(tmp_path, fill):
    scan = grey()
    scan.data[:, :, :] = fill
    scan.data[0, 0, 0] = 1
    write_overlay(tmp_path / "o.png", scan, None, table(scan, ((20, 24, 6), 0.9), ((0, 47, 11), 0.2)), "x")
    assert (tmp_path / "o.png").stat().st_size > 1000


def test_a_mask_of_another_shape_is_refused(tmp_path):
    with pytest.raises(GeometryError, match="does not fit"):
        write_overlay(tmp_path / "o.png", grey(), np.zeros((3, 3, 3)), LesionTable(case="x"), "x")
    assert not (tmp_path / "o.png").exists()


@pytest.mark.parametrize("axes", AXES)
def test_slices_are_told_by_the_index_of_the_table(tmp_path, axes, monkeypatch):
    told = []
    monkeypatch.setattr(overlay, "_draw_index", lambda _, *words: told.append(words))
    scan = grey(axes)
    write_overlay(tmp_path / "x.png", scan, None, table(scan, ((20, 24, 3), 0.9), ((20, 24, 7), 0.8)), "x")
    assert told == [("k", 3), ("k", 7)]
