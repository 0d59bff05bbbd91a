import json

import numpy as np
import pytest
from scipy import ndimage

from cmb_autoseg.dataset_conversion.labels import no_lesion_warning, read_label
from cmb_autoseg.errors import GeometryError, InputError
from cmb_autoseg.geometry import Volume
from cmb_autoseg.records import LabelSource

from ..conftest import SHAPE, TWO_BALLS, affine_of, ball_mask, save

REFERENCE = Volume(np.zeros(SHAPE, np.uint8), affine_of(), None, "scan.nii.gz")


def points(tmp_path, text: str, name: str = "p.tsv", **settings) -> LabelSource:
    (tmp_path / name).write_text(text)
    return LabelSource(kind="points", path=str(tmp_path / name), **settings)


def mask(path, **settings) -> LabelSource:
    return LabelSource(kind="mask", path=str(path), values={"cmb": 1, **settings.pop("values", {})}, **settings)


def centres(volume: Volume) -> np.ndarray:
    labelled, count = ndimage.label(volume.data, np.ones((3, 3, 3)))
    return np.array(ndimage.center_of_mass(labelled > 0, labelled, range(1, count + 1)))


def test_mask_counts_components_and_drops_other_values(tmp_path):
    data = ball_mask(TWO_BALLS)
    data[1, 1, 1] = 2
    result = read_label(mask(save(tmp_path / "m.nii.gz", data), values={"mimic": 2}), REFERENCE)
    assert result.n_lesions == 2
    assert result.volume.data[1, 1, 1] == 0


@pytest.mark.parametrize("value", [2, 255, np.nan, 0.999])
def test_value_outside_the_map_is_refused(value, tmp_path):
    data = ball_mask(TWO_BALLS).astype(np.float32)
    data[1, 1, 1] = value
    with pytest.raises(InputError, match=f"found label value {value:g}, legal are 0 and cmb = 1"):
        read_label(mask(save(tmp_path / "m.nii.gz", data)), REFERENCE)


def test_foreign_value_is_refused_with_the_cure_for_either_meaning(tmp_path):
    path = save(tmp_path / "m.nii.gz", 3 * ball_mask(TWO_BALLS))
    with pytest.raises(InputError, match=r"microbleeds' value, write values: \{cmb: 3\}; .* under another name"):
        read_label(mask(path), REFERENCE)


def test_no_lesion_warning_names_the_values_that_occur(tmp_path):
    data = ball_mask(TWO_BALLS)
    several = mask(save(tmp_path / "several.nii.gz", 2 * data + 3 * np.roll(data, 4, axis=2)))
    empty = mask(save(tmp_path / "empty.nii.gz", 0 * data))
    assert no_lesion_warning("c", [several, empty]).endswith("masks (2, 3 occur), write values: {cmb: 2}")
    assert "any of 1 labelled cases: the masks that can be used hold nothing but 0" in no_lesion_warning("c", [empty])
    assert "files of points" in no_lesion_warning("c", [points(tmp_path, "x\ty\tz\n")])


@pytest.mark.parametrize("settings", [{"shape": (20, 24, 13)}, {"affine": affine_of(origin_mm=(-9.1, -11, -14))}])
def test_mask_on_another_grid_is_refused(settings, tmp_path):
    path = save(tmp_path / "m.nii.gz", np.zeros(settings.get("shape", SHAPE), np.uint8), settings.get("affine"))
    with pytest.raises(GeometryError, match=r"labels\.cmb\.resample: nearest"):
        read_label(mask(path), REFERENCE)


def test_nearest_keeps_a_lesion_that_falls_between_the_voxels(tmp_path):
    fine = np.zeros((40, 48, 28), np.uint8)
    fine[11, 13, 9] = 1  # odd indices are never sampled by a grid of twice the spacing
    fine[30, 30, 20] = 1
    fine_affine = affine_of(spacing_mm=(0.45, 0.45, 1.0))
    result = read_label(mask(save(tmp_path / "m.nii.gz", fine, fine_affine), resample="nearest"), REFERENCE)
    assert result.n_lesions == 2
    found_mm = np.sort(REFERENCE.to_ras_mm(centres(result.volume)), axis=0)
    wanted_mm = np.sort(Volume(fine, fine_affine).to_ras_mm(np.argwhere(fine)), axis=0)
    assert np.all(np.abs(found_mm - wanted_mm) <= np.array([0.9, 0.9, 2.0]) / 2 + 1e-6)


def test_nearest_refuses_to_merge_lesions(tmp_path):
    fine = np.zeros((40, 48, 28), np.uint8)
    fine[10, 10, 10] = fine[12, 10, 10] = 1
    path = save(tmp_path / "m.nii.gz", fine, affine_of(spacing_mm=(0.45, 0.45, 1.0)))
    with pytest.raises(GeometryError, match="would merge with a neighbour"):
        read_label(mask(path, resample="nearest"), REFERENCE)


@pytest.mark.parametrize(
    ("space", "triple"),
    [("ras_mm", (1.8, -2.0, -4.0)), ("lps_mm", (-1.8, 2.0, -4.0)), ("voxel0", (12, 10, 5)), ("voxel1", (13, 11, 6))],
)
def test_spaces_mean_the_same_voxel(space, triple, tmp_path):
    result = read_label(points(tmp_path, "x\ty\tz\n" + "\t".join(map(str, triple)), space=space), REFERENCE)
    assert result.n_lesions == 1
    np.testing.assert_allclose(centres(result.volume)[0], (12, 10, 5), atol=0.01)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.csv", "x,y,z\n0,-2,-4\n"),
        ("p.csv", "x;y;z\n0;-2;-4\n"),
        ("p.json", json.dumps([{"x": 0, "y": -2, "z": -4}])),
        ("p.json", json.dumps({"points": [[0, -2, -4]]})),
        ("p.tsv", "\ufeffx\ty\tz\n0\t-2\t-4\n"),
    ],
)
def test_formats(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    assert read_label(points(tmp_path, text, name), REFERENCE).n_lesions == 1


@pytest.mark.parametrize(("name", "text"), [("p.tsv", ""), ("p.tsv", "x\ty\tz\n"), ("p.json", ""), ("p.json", "[]")])
def test_file_without_points_was_read_and_has_no_lesion(name, text, tmp_path):
    assert read_label(points(tmp_path, text, name), REFERENCE).n_lesions == 0


def test_ball_has_its_radius_in_millimetres(tmp_path):
    result = read_label(points(tmp_path, "x\ty\tz\n0\t-2\t-4\n", radius_mm=2.0), REFERENCE)
    offsets_mm = (np.argwhere(result.volume.data) - (10, 10, 5)) * (0.9, 0.9, 2.0)
    by_hand = sum(
        (0.9 * i) ** 2 + (0.9 * j) ** 2 + (2.0 * k) ** 2 <= 4.0
        for i in range(-4, 5)
        for j in range(-4, 5)
        for k in range(-2, 3)
    )
    assert len(offsets_mm) == by_hand
    assert np.linalg.norm(offsets_mm, axis=1).max() <= 2.0


def test_columns_and_radius_per_point(tmp_path):
    source = points(
        tmp_path, "X,Y,slice,r\n10,10,5,0.1\n4,4,9,3\n", "p.csv", space="voxel0",
        columns={"x": "X", "y": "Y", "z": "slice", "radius_mm": "r"},
    )  # fmt: skip
    data = read_label(source, REFERENCE).volume.data
    assert data[9:12, 9:12, 4:7].sum() == 1
    assert data[1:8, 1:8, 7:12].sum() > 50


@pytest.mark.parametrize("gap", [2, 3, 4])
def test_touching_balls_stay_apart(gap, tmp_path):
    source = points(tmp_path, f"x\ty\tz\n8\t10\t6\n{8 + gap}\t10\t6\n", space="voxel0", radius_mm=3.0)
    result = read_label(source, REFERENCE)
    assert (result.n_lesions, result.notes) == (2, ())
    assert result.volume.data[8, 10, 6] == result.volume.data[8 + gap, 10, 6] == 1


def test_crowd_of_points_stays_one_component_each(tmp_path):
    rng = np.random.default_rng(3)
    grid = np.stack(np.meshgrid([4, 7, 10, 13], [5, 8, 11, 14], [4, 6, 8], indexing="ij"), -1).reshape(-1, 3)
    rows = "\n".join("\t".join(f"{v:.2f}" for v in row) for row in grid + rng.uniform(-0.3, 0.3, grid.shape))
    result = read_label(points(tmp_path, f"x\ty\tz\n{rows}\n", space="voxel0", radius_mm=4.0), REFERENCE)
    assert (result.n_lesions, result.notes) == (len(grid), ())


def test_points_in_neighbouring_voxels_are_counted_as_one_and_said(tmp_path):
    result = read_label(points(tmp_path, "x\ty\tz\n8\t10\t6\n9\t10\t6\n3\t3\t3\n", space="voxel0"), REFERENCE)
    assert result.n_lesions == 2
    assert result.notes == ("3 points share or touch voxels and are counted as 2 lesions",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x\ty\tz\n500\t0\t0\n", r"line 2: point \(500, 0, 0\) lies outside scan.nii.gz; check labels.cmb.space"),
        ("a\tb\tc\n1\t2\t3\n", r"no column x \(there: a, b, c\); name it in labels.cmb.columns"),
        ("x\ty\tz\n1,5\t2\t3\n", "column x holds '1,5', a number is needed"),
        ("x\ty\tz\nnan\t2\t3\n", "column x holds 'nan'"),
        ("x\ty\tz\tradius_mm\n0\t0\t-4\t-1\n", "radius_mm -1 is not positive"),
        ("x\ty\tz\n1\n", "column y holds None"),
    ],
)
def test_wrong_points(text, message, tmp_path):
    with pytest.raises(InputError, match=message):
        read_label(points(tmp_path, text), REFERENCE)


@pytest.mark.parametrize("text", ["{", "3", '{"dots": []}', "[3]", '[["a", 1, 2]]', "[[1, 2]]"])
def test_wrong_json(text, tmp_path):
    with pytest.raises(InputError, match=r"p\.json"):
        read_label(points(tmp_path, text, "p.json"), REFERENCE)


def test_a_table_with_other_columns_and_no_rows_is_not_a_reading_without_lesions(tmp_path):
    table = tmp_path / "points.tsv"
    table.write_text("R\tA\tS\n")
    grid = Volume(np.zeros((4, 4, 4)), np.eye(4))
    source = LabelSource(kind="points", path=str(table), columns={"x": "r", "y": "A", "z": "S"})
    with pytest.raises(InputError, match=r"points.tsv header: no column r \(there: R, A, S\)"):
        read_label(source, grid)
    right = source.model_copy(update={"columns": {"x": "R", "y": "A", "z": "S"}})
    assert read_label(right, grid).n_lesions == 0
