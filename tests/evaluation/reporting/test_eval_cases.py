"""Best and worst cases: which are chosen, which slices are shown, what is marked."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.case_score import CaseScore, Matching, Pair
from cmb_autoseg.evaluation.inputs.images import find_image
from cmb_autoseg.evaluation.matching.lesion_set import LesionSet
from cmb_autoseg.evaluation.reporting.backgrounds import Background
from cmb_autoseg.evaluation.reporting.case_tables import best_cases, best_worst, told, worst_cases
from cmb_autoseg.evaluation.reporting.cases import MARKS, draw_case, gradcam_picture, view_cases
from cmb_autoseg.geometry import Volume


def lesions(centres):
    places = np.array(centres, dtype=float).reshape(-1, 3)
    n = len(places)
    return LesionSet("mask", places, np.full(n, 20.0), ("lobar",) * n, np.full(n, 0.8), np.full(n, 0.7))


def case(name, reference, predicted, pairs, ignored=()):
    matched = tuple(Pair(reference=r, predicted=p, distance_mm=0.5) for r, p in pairs)
    return CaseScore(
        case=name,
        subject=name,
        reference=lesions(reference),
        predicted=lesions(predicted),
        matchings={"valdo": Matching(pairs=matched, ignored=ignored)},
    )


@pytest.fixture
def scan():
    """60 x 50 x 12 voxels of 1 x 1 x 3 mm, gray with some texture."""
    rng = np.random.default_rng(0)
    return Volume(rng.uniform(80, 100, (60, 50, 12)).astype(np.float32), np.diag([1.0, 1.0, 3.0, 1.0]))


@pytest.fixture
def mixed():
    """One lesion found in slice 2, one missed in slice 5, one false positive in slice 8, one ignored in slice 10."""
    reference = [(10, 10, 6), (30, 20, 15)]
    predicted = [(10, 11, 6), (40, 30, 24), (20, 40, 30)]
    return case("b", reference, predicted, [(1, 1)], ignored=(3,))


def test_worst_have_the_lowest_f1_and_best_most_lesions(mixed):
    perfect = case("c", [(1, 1, 1), (2, 2, 2)], [(1, 1, 1), (2, 2, 2)], [(1, 1), (2, 2)])
    smaller = case("a", [(1, 1, 1)], [(1, 1, 1)], [(1, 1)])
    empty = case("d", [], [], [])
    false_alone = case("e", [], [(1, 1, 1), (9, 9, 9)], [])
    one_error = case("a1", [(1, 1, 1)], [], [])
    many = [(n, n, n) for n in range(20)]
    most_errors = case("f", many, many[:17], [(n, n) for n in range(1, 18)])
    cases = [mixed, perfect, smaller, empty, most_errors, false_alone, one_error, replace(mixed, case="a2")]
    assert [c.case for c in worst_cases(cases, "valdo")] == ["e", "a1", "a2"], "f has most errors, but finds most"
    assert [c.case for c in worst_cases(cases, "valdo", 5)] == ["e", "a1", "a2", "b", "f"]
    assert [c.case for c in best_cases(cases, "valdo")] == ["c", "a"]
    assert told(mixed, "valdo") == "1 of 2 reference lesions found, 1 false positive."
    rows = best_worst(cases, "valdo").rows
    assert [(row["kind"], row["case"], row["missed"], row["false"], row["f1"]) for row in rows[:3]] == [
        ("worst", "e", 0, 2, None),
        ("worst", "a1", 1, 0, 0.0),
        ("worst", "a2", 1, 1, 0.5),
    ]


def test_slices_with_errors_come_first_and_hits_where_errors_are_few(mixed, scan):
    pictures = draw_case(mixed, "valdo", Background(scan, "scan"))
    assert [picture.caption for picture in pictures] == [
        "Slice k = 5 (scan): 1 missed.",
        "Slice k = 8 (scan): 1 false.",
    ]
    assert pictures == draw_case(mixed, "valdo", Background(scan, "scan")), "the same bytes"
    one_error = replace(mixed, matchings={"valdo": replaced(mixed, ignored=(2, 3))})
    assert [picture.caption for picture in draw_case(one_error, "valdo", Background(scan, "scan"))] == [
        "Slice k = 5 (scan): 1 missed.",
        "Slice k = 2 (scan): 1 found.",
    ]


def replaced(own, ignored):
    return own.matchings["valdo"].model_copy(update={"ignored": ignored})


@pytest.mark.parametrize(("index", "kind"), [(1, "found"), (0, "missed"), (1, "false")])
def test_marks_are_where_the_lesions_are(mixed, scan, index, kind):
    own = replace(mixed, matchings={"valdo": replaced(mixed, ignored=(2, 3))}) if kind == "found" else mixed
    picture = draw_case(own, "valdo", Background(scan, "scan"))[index]
    pixels = np.asarray(Image.open(io.BytesIO(picture.png)).convert("RGB")).astype(int)
    color = np.array([int(MARKS[kind][1][at : at + 2], 16) for at in (1, 3, 5)])
    close = np.abs(pixels - color).sum(axis=2) < 60
    height_of_scan = round(picture_height(scan))
    rows, columns = np.nonzero(close[:height_of_scan])
    centre = {"found": (10, 10), "missed": (30, 20), "false": (40, 30)}[kind]
    # Right is left in the picture, anterior is up.
    width = pixels.shape[1]
    assert columns.mean() == pytest.approx((59.5 - centre[0]) / 60 * width, abs=3)
    assert rows.mean() == pytest.approx((49.5 - centre[1]) / 50 * height_of_scan, abs=3)


def picture_height(scan):
    return 3.4 * 120 * scan.shape[1] / scan.shape[0]


def test_an_image_that_is_stored_flipped_is_marked_at_the_same_place(mixed, scan):
    flipped = Volume(
        scan.data[::-1].copy(), scan.affine @ np.array([[-1, 0, 0, 59], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    )
    one, other = (draw_case(mixed, "valdo", Background(volume, "scan")) for volume in (scan, flipped))
    assert [picture.png for picture in one] == [picture.png for picture in other]


def test_each_case_is_read_when_it_is_drawn(mixed, scan, tmp_path):
    Image.fromarray(np.zeros((300, 1600, 3), np.uint8)).save(tmp_path / "b_gradcam.png")
    read = []

    def background(name):
        read.append(name)
        return Background(scan, "probability map") if name == "b" else None

    lists_only = replace(mixed, case="e")
    views = view_cases(
        [mixed, lists_only], "valdo", background, lambda name: tmp_path / "b_gradcam.png" if name == "b" else None
    )
    assert read == ["b", "e"]
    assert [(view.case, len(view.pictures)) for view in views] == [("b", 3), ("e", 0)]
    assert Image.open(io.BytesIO(views[0].pictures[-1].png)).size == (1000, 188)


def test_a_broken_gradcam_picture_is_named(tmp_path):
    path = tmp_path / "a_gradcam.png"
    path.write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"a_gradcam.png: not readable as a picture .* cmb_explain"):
        gradcam_picture("a", path)


def test_images_are_found_by_the_names_of_nnunet(tmp_path):
    assert find_image(tmp_path, "a") is None
    (tmp_path / "a.nii.gz").touch()
    assert find_image(tmp_path, "a") == tmp_path / "a.nii.gz"
    (tmp_path / "a_0000.nii.gz").touch()
    assert find_image(tmp_path, "a") == tmp_path / "a_0000.nii.gz"


def test_scans_of_a_bids_dataset_are_found_by_the_names_that_were_predicted(tmp_path):
    scan = tmp_path / "sub-1" / "anat" / "sub-1_T2starw.nii.gz"
    scan.parent.mkdir(parents=True)
    scan.touch()

    assert find_image(tmp_path, "sub-1", ["sub-1_Chimap.nii.gz", scan.name]) == scan
    assert find_image(tmp_path, "sub-1") is None
