import numpy as np
import pytest

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.inputs.naming import find_masks
from cmb_autoseg.evaluation.inputs.pairing import find_cases
from cmb_autoseg.files import write_json, write_text
from cmb_autoseg.geometry import write_volume


@pytest.fixture
def place(tmp_path):
    """Make files by name, empty ones: pairing reads names alone."""

    def make(folder, *names):
        for name in names:
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path / folder

    return make


def kinds(found):
    return {case.name: (case.predicted.path.name, case.predicted.kind) for case in found.cases}


def test_masks_of_every_spelling_are_paired_and_nothing_is_read(place):
    reference = place("r", "a.nii.gz", "b_mask.nii.gz", "c_dseg.nii.gz", "sub-01/anat/sub-01_label-CMB_mask.nii.gz")
    predicted = place("p", "a_mask.nii.gz", "b.nii.gz", "c.nii", "sub-01_mask.nii.gz", "c_0000.nii.gz", ".d.nii.gz")

    found = find_cases(predicted, reference)

    assert [case.name for case in found.cases] == ["a", "b", "c", "sub-01"]
    assert found.failures == {}
    assert found.warnings == (
        f"{predicted / 'c_0000.nii.gz'}: taken for an image by its name, not scored; if it is a mask, name it as one "
        "of <case>.nii.gz, <case>_mask.nii.gz, <case>_dseg.nii.gz",
    )


def test_probabilities_are_found_beside_masks_and_alone(place):
    reference = place("r", "a.nii.gz", "b.nii.gz", "c.nii.gz", "sub-1.nii.gz")
    predicted = place("p", "a.nii.gz", "a.npz", "a.pkl", "b_mask.nii.gz", "b_prob.nii.gz", "c_prob.nii.gz")
    place(
        "p", "sub-1/anat/sub-1_dseg.nii.gz", "sub-1/anat/sub-1_label-CMB_probseg.nii.gz", "sub-1/anat/sub-1_dseg.json"
    )
    place("p", "sub-1/anat/sub-1_desc-lesions_dseg.nii.gz", "sub-1/anat/sub-1_desc-lesions_dseg.tsv", "dataset.json")

    found = find_cases(predicted, reference)

    beside = {case.name: case.probability.path.name for case in found.cases}
    assert beside == {
        "a": "a.npz",
        "b": "b_prob.nii.gz",
        "c": "c_prob.nii.gz",
        "sub-1": "sub-1_label-CMB_probseg.nii.gz",
    }
    assert kinds(found)["c"] == ("c_prob.nii.gz", "mask")
    assert kinds(found)["sub-1"] == ("sub-1_dseg.nii.gz", "mask")
    assert found.warnings == ()


def test_lists_are_taken_where_there_is_no_mask_or_where_they_are_asked_for(place):
    reference = place("r", "a.nii.gz", "b.nii.gz", "c.nii.gz", "d.nii.gz", "e.nii.gz")
    predicted = place("p", "a.tsv", "b_lesions.tsv", "c_points.csv", "d_boxes.json", "e.json", "e.tsv", "failures.tsv")

    assert kinds(find_cases(predicted, reference)) == {
        "a": ("a.tsv", "list"),
        "b": ("b_lesions.tsv", "list"),
        "c": ("c_points.csv", "points"),
        "d": ("d_boxes.json", "boxes"),
        "e": ("e.tsv", "list"),
    }
    asked = find_cases(predicted, reference, predicted_kind="points")
    assert kinds(asked)["a"] == ("a.tsv", "points")
    assert asked.failures == {"d": f"d: no prediction in {predicted}; predict this case; leaving it out flatters"}


def test_a_case_with_mask_and_list_takes_the_mask_and_says_so(place):
    reference = place("r", "a.nii.gz", "b.nii.gz")
    predicted = place("p", "a_mask.nii.gz", "a_points.csv", "b_boxes.csv", "b_points.csv", "notes.csv")

    found = find_cases(predicted, reference)

    assert kinds(found) == {"a": ("a_mask.nii.gz", "mask"), "b": ("b_boxes.csv", "boxes")}
    assert found.warnings == (
        f"{predicted}: several kinds of files of a, b; scored are those like a_mask.nii.gz, --predicted-kind chooses "
        "others",
    )
    assert kinds(find_cases(predicted, reference, predicted_kind="points"))["a"] == ("a_points.csv", "points")


def test_own_predictions_are_taken_without_a_remark(place):
    """cmb_predict's table repeats its mask."""
    reference = place("r", "a.nii.gz")
    predicted = place("p", "a_mask.nii.gz", "a_prob.nii.gz", "a_lesions.tsv", "a.json", "a_overlay.png", "run.json")
    place("p", "lesions.tsv", "counts.tsv", "failures.tsv")

    found = find_cases(predicted, reference)

    assert kinds(found) == {"a": ("a_mask.nii.gz", "mask")}
    assert found.warnings == ()
    as_points = find_cases(predicted, reference, predicted_kind="points")
    assert kinds(as_points) == {"a": ("a_lesions.tsv", "points")}


@pytest.mark.parametrize("given", ["file", "folder", "lesions.tsv"])
def test_one_table_speaks_of_all_cases(place, given):
    reference = place("r", "a.nii.gz", "b.nii.gz", "c.nii.gz")
    predicted = place("p", *(["counts.tsv", "failures.tsv", "run.json"] if given == "lesions.tsv" else []))
    predicted.mkdir(exist_ok=True)
    table = predicted / ("lesions.tsv" if given == "lesions.tsv" else "found.tsv")
    write_text(table, "case\tx_mm\ty_mm\tz_mm\na.nii.gz\t1\t2\t3\na\t4\t5\t6\nb\tn/a\tn/a\tn/a\nz\t0\t0\t0\n")

    found = find_cases(table if given == "file" else predicted, reference)

    assert [len(case.predicted.rows) for case in found.cases] == [2, 1, 0]
    assert [case.predicted.columns for case in found.cases] == [("x_mm", "y_mm", "z_mm")] * 3
    assert found.failures == {}
    extra, absent = found.warnings
    assert extra == f"z: predicted, but without reference in {reference}; not scored"
    assert absent == (
        f"{table}: no row for c; since it is the list of all cases, this is taken for no predicted lesion"
    )


def test_coco_results_find_their_pictures_by_the_numbers_of_the_reference(tmp_path):
    images = [{"id": 7, "file_name": "x/p1_03.jpg"}, {"id": 8, "file_name": "p1_04.jpg"}]
    marked = [{"id": 1, "image_id": 7, "bbox": [1, 2, 3, 4], "category_id": 1}]
    write_json(tmp_path / "reference.json", {"images": images, "annotations": marked, "categories": []})
    write_json(tmp_path / "found.json", [{"image_id": 8, "bbox": [1, 2, 3, 4], "score": 0.5, "category_id": 1}])

    found = find_cases(tmp_path / "found.json", tmp_path / "reference.json")

    rows = [(case.name, len(case.predicted.rows), len(case.reference.rows)) for case in found.cases]
    assert rows == [("p1_03", 0, 1), ("p1_04", 1, 0)]

    write_json(tmp_path / "found.json", [])
    nothing = find_cases(tmp_path / "found.json", tmp_path / "reference.json")
    assert [len(case.predicted.rows) for case in nothing.cases] == [0, 0]
    assert "found.json: no row for p1_03, p1_04; since it is the list of all cases" in nothing.warnings[0]

    write_json(tmp_path / "found.json", [{"image_id": 8, "bbox": [1, 2, 3, 4], "category_id": n} for n in (1, 2)])
    with pytest.raises(InputError, match=r"found\.json: holds categories 1, 2; keep the boxes of microbleeds alone"):
        find_cases(tmp_path / "found.json", tmp_path / "reference.json")


def test_two_files_are_one_case_however_they_are_called(place):
    reference, predicted = place("r", "truth.nii.gz"), place("p", "detector_output.nii.gz")

    (case,) = find_cases(predicted / "detector_output.nii.gz", reference / "truth.nii.gz").cases

    assert (case.name, case.predicted.path.name) == ("truth", "detector_output.nii.gz")
    (mapped,) = find_cases(place("p", "a_prob.nii.gz") / "a_prob.nii.gz", reference / "truth.nii.gz").cases
    assert (mapped.name, mapped.probability) == ("truth", mapped.predicted)


def test_regions_are_found_by_case(place):
    reference, predicted = place("r", "a.nii.gz", "b.nii.gz"), place("p", "a.nii.gz", "b.nii.gz")
    regions = place("g", "a.nii.gz")

    found = find_cases(predicted, reference, regions=regions)

    assert [case.regions for case in found.cases] == [regions / "a.nii.gz", None]
    assert found.warnings == (f"{regions}: no map for b; the regions of their lesions are unknown",)


def test_a_missing_prediction_fails_and_an_extra_one_warns(place):
    reference, predicted = place("r", "a.nii.gz", "b.nii.gz"), place("p", "a.nii.gz", "c.nii.gz")

    found = find_cases(predicted, reference)

    assert found.failures == {"b": f"b: no prediction in {predicted}; predict this case; leaving it out flatters"}
    assert found.warnings == (f"c: predicted, but without reference in {reference}; not scored",)
    assert found.names == ("a", "b")


def test_many_extra_predictions_are_one_warning(place):
    reference, predicted = place("r", "a.nii.gz"), place("p", "a.nii.gz", *(f"x{n:02d}.nii.gz" for n in range(24)))

    (warning,) = find_cases(predicted, reference).warnings

    assert warning.startswith("x00, x01, ")
    assert warning.endswith(f"(24 in all): predicted, but without reference in {reference}; not scored")


@pytest.mark.parametrize(
    ("predicted", "reference", "message"),
    [
        (
            ("a.nii.gz",),
            ("b_mask.nii.gz",),
            r"no case is in both folders: .*p has a, .*r has b; name them alike, as ma",
        ),
        (("a.nii.gz", "a_mask.nii.gz"), ("a.nii.gz",), r"p: a\.nii\.gz and a_mask\.nii\.gz are both masks of a; keep"),
        (("a_lesions.tsv", "a_detections.csv"), ("a.nii.gz",), r"a_detections\.csv and a_lesions\.tsv are both lists"),
        (("x.png", "a_0000.nii.gz"), ("a.nii.gz",), r"p: found no mask \(there: a_0000\.nii\.gz, x\.png\); expected"),
        (("a.npz",), ("a.nii.gz",), r"p: found no mask \(there: a\.npz\)"),
        (
            ("a.nii.gz",),
            ("a_mask.nii.gz", "a_prob.nii.gz"),
            r"-p and --reference look swapped: .*r holds what pred.*a_p",
        ),
        (("a.nii.gz",), ("a.nii.gz", "a.npz"), r"-p and --reference look swapped: .*\(a\.npz\)"),
        (("a.nii.gz",), ("a_mask.nii.gz", "run.json"), r"-p and --reference look swapped: .*\(run\.json\)"),
        (("a.nii.gz",), ("a_prob.nii.gz",), r"look swapped"),
        (("a_prob.nii.gz",), ("a_prob.nii.gz",), r"r: found no mask \(there: a_prob\.nii\.gz\)"),
    ],
)
def test_folders_that_cannot_be_paired_are_told_in_one_line(place, predicted, reference, message):
    with pytest.raises(InputError, match=message) as raised:
        find_cases(place("p", *predicted), place("r", *reference))
    assert "\n" not in str(raised.value)


def test_references_that_look_predicted_are_taken_when_asked_for(place):
    predicted, reference = place("p", "a.nii.gz"), place("r", "a_mask.nii.gz", "a_prob.nii.gz")

    assert len(find_cases(predicted, reference, reference_kind="mask").cases) == 1


def test_places_that_hold_nothing_to_score_are_refused(place, tmp_path):
    masks = place("r", "a.nii.gz")
    with pytest.raises(InputError, match=r"-p and --reference: both are .*; give the predictions and the references"):
        find_cases(masks, tmp_path / "p" / ".." / "r")
    with pytest.raises(InputError, match=r"--predicted-kind points: .* holds none; expected masks <case>"):
        find_cases(place("p", "a.nii.gz"), masks, predicted_kind="points")
    with pytest.raises(InputError, match=r"-p .*none: no such file or folder"):
        find_cases(tmp_path / "none", masks)
    with pytest.raises(InputError, match=r"-p .*a\.npz: neither a mask"):
        find_cases(place("n", "a.npz") / "a.npz", masks)
    with pytest.raises(InputError, match=r"--reference-kind boxes: .*a\.nii\.gz is a mask; give a list of boxes"):
        find_cases(place("p"), masks / "a.nii.gz", reference_kind="boxes")
    write_text(tmp_path / "t.tsv", "case\tx_mm\n\t4\n")
    with pytest.raises(InputError, match=r"t\.tsv line 2: column case is empty"):
        find_cases(tmp_path / "t.tsv", masks)
    write_text(tmp_path / "t.tsv", "case\tx_mm\tx_mm\na\t4\t5\n")
    with pytest.raises(InputError, match=r"t\.tsv: two columns are named x_mm"):
        find_cases(tmp_path / "t.tsv", masks)
    write_text(tmp_path / "t.tsv", "case\tx_mm\tx_mm2\nq\t4\t5\n")
    with pytest.raises(InputError, match=r"no case is in both sides: .*t\.tsv has q, .* has a"):
        find_cases(tmp_path / "t.tsv", masks)


def test_masks_of_a_folder_are_found_as_before(tmp_path, phantom):
    write_volume(tmp_path / "b_dseg.nii.gz", phantom(), np.uint8)
    write_volume(tmp_path / "a.nii.gz", phantom(), np.uint8)
    (tmp_path / "a_prob.nii.gz").touch()

    assert {case: path.name for case, path in find_masks(tmp_path).items()} == {"a": "a.nii.gz", "b": "b_dseg.nii.gz"}
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="found no mask; expected files named <case>"):
        find_masks(tmp_path / "empty")
