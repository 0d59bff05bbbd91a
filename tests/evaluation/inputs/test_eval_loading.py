"""Masks, probability maps and lists of one case, read together."""

import numpy as np
import pytest

from cmb_autoseg.errors import GeometryError, InputError
from cmb_autoseg.evaluation.inputs.loading import ListSettings, doubts_of_grids, load_case, refuse_swapped_values
from cmb_autoseg.evaluation.inputs.pairing import find_cases
from cmb_autoseg.files import write_text
from cmb_autoseg.geometry import Volume, from_canonical, to_canonical, write_volume

STORED = np.array([[-0.5, 0, 0, 10], [0, 0, -2, 20], [0, 0.5, 0, -30], [0, 0, 0, 1]], dtype=float)
SHAPE = (12, 10, 8)
HIT = np.s_[3:5, 4:7, 2:3]


@pytest.fixture
def mask(phantom):
    def build(*boxes, value=1.0):
        return phantom(*boxes, value=value, affine=STORED, shape=SHAPE)

    return build


@pytest.fixture
def sides(tmp_path, mask):
    """`a`: one lesion, predicted right."""
    write_volume(tmp_path / "r" / "a.nii.gz", mask(HIT), np.uint8)
    write_volume(tmp_path / "p" / "a.nii.gz", mask(HIT), np.uint8)
    return tmp_path / "p", tmp_path / "r"


def load(sides, lists=None, **more):
    (case,) = find_cases(*sides, **more).cases
    return load_case(case, lists)


def test_a_plain_mask_has_no_probability_and_both_sides_share_canonical_axes(sides, mask):
    case = load(sides)

    assert case.probability is None
    assert case.reference.volume.data.dtype == np.uint8
    np.testing.assert_array_equal(case.reference.volume.data, to_canonical(mask(HIT)).data)
    np.testing.assert_array_equal(case.predicted.volume.data, case.reference.volume.data)


def test_a_prediction_stored_in_other_axes_is_the_same(sides, mask):
    canonical = to_canonical(mask(HIT))
    write_volume(sides[0] / "a.nii.gz", Volume(canonical.data, canonical.affine), np.uint8)

    case = load(sides)

    np.testing.assert_array_equal(case.predicted.volume.data, case.reference.volume.data)


@pytest.mark.parametrize(("name", "dtype"), [("probabilities", np.float32), ("softmax", np.float16)])
def test_nnunet_probabilities_are_turned_to_the_masks_axes(sides, mask, name, dtype):
    rng = np.random.default_rng(0)
    stored = rng.random(SHAPE).astype(dtype)
    both = np.stack([1 - stored, stored]).transpose(0, 3, 2, 1)  # (class, z, y, x)
    np.savez_compressed(sides[0] / "a.npz", **{name: both})

    case = load(sides)

    assert case.probability.data.dtype == np.float32
    np.testing.assert_array_equal(from_canonical(case.probability.data, mask()), stored.astype(np.float32))
    np.testing.assert_array_equal(case.probability.affine, case.predicted.volume.affine)


@pytest.mark.parametrize("prediction", ["a_prob.nii.gz", "a.nii.gz"])
def test_a_map_alone_is_prediction_and_probability(sides, mask, prediction):
    (sides[0] / "a.nii.gz").unlink()
    write_volume(sides[0] / prediction, mask(HIT, value=0.75), np.float32)

    case = load(sides)

    assert case.probability is case.predicted.volume
    assert case.probability.data.max() == 0.75


def test_an_empty_probability_map_is_still_one(sides, mask):
    (sides[0] / "a.nii.gz").unlink()
    write_volume(sides[0] / "a_prob.nii.gz", mask(), np.float32)

    assert load(sides).probability is not None


def test_rounding_above_one_is_cut_off(sides, mask):
    write_volume(sides[0] / "a_prob.nii.gz", mask(HIT, value=1.0005), np.float32)

    assert load(sides).probability.data.max() == 1


@pytest.mark.parametrize(
    ("value", "side", "message"),
    [
        (3, "r", r"a: reference .*r.a\.nii\.gz holds 3, but only 0 and 1 are legal; write a mask with 1 for microble"),
        (0.75, "r", r"holds 0\.75, but only .*; these look like probabilities: are -p and --reference swapped\?"),
        (np.nan, "r", r"a: reference .* holds nan, but only"),
        (1.5, "p", r"a: prediction .*p.a\.nii\.gz holds values from 0 to 1\.5, but a mask"),
        (-0.5, "p", r"a: prediction .* holds values from -0\.5 to 0, but"),
        (np.nan, "p", r"a: prediction .* holds NaN in \d+ of \d+ voxels, but .*; predict this case again"),
    ],
)
def test_illegal_values_name_case_file_and_values(sides, mask, value, side, message):
    write_volume(sides["pr".index(side)] / "a.nii.gz", mask(HIT, value=value), np.float32)

    with pytest.raises(InputError, match=message):
        load(sides)


def test_other_grids_are_told_with_a_cure(sides, phantom, mask):
    write_volume(sides[0] / "a_prob.nii.gz", phantom(affine=STORED, shape=(12, 10, 9)), np.float32)
    with pytest.raises(
        GeometryError, match=r"a_prob\.nii\.gz: shape .* differs .*; save mask and probabilities on one"
    ):
        load(sides)
    (sides[0] / "a_prob.nii.gz").unlink()
    moved = STORED.copy()
    moved[0, 3] += 0.4
    write_volume(sides[0] / "a.nii.gz", phantom(HIT, affine=moved, shape=SHAPE), np.uint8)
    with pytest.raises(GeometryError, match=r"affine is 0\.40 mm off .*; predict on the grid of the reference, or res"):
        load(sides)


@pytest.mark.parametrize(
    ("arrays", "error", "message"),
    [
        (
            {"probabilities": np.zeros((2, 12, 10, 8))},
            GeometryError,
            r"a: a\.npz .* \(2, 12, 10, 8\), but .*\(classes, 8",
        ),
        ({"probabilities": np.zeros((1, 8, 10, 12))}, InputError, r"a: a\.npz holds 1 class, but"),
        ({"logits": np.zeros(3)}, InputError, r"a: a\.npz holds logits, but the array probabilities is needed"),
        ({"probabilities": np.full((2, 8, 10, 12), "x")}, InputError, r"a: a\.npz holds <U1, but probabilities are"),
        (
            {"probabilities": np.full((2, 8, 10, 12), 2.0)},
            InputError,
            r"a: prediction .*a\.npz holds values from 2 to 2",
        ),
        (b"no archive", InputError, r"a: .*a\.npz is damaged or no \.npz of nnU-Net"),
    ],
)
def test_arrays_that_do_not_fit_are_errors_of_the_case(sides, arrays, error, message):
    path = sides[0] / "a.npz"
    path.write_bytes(arrays) if isinstance(arrays, bytes) else np.savez(path, **arrays)

    with pytest.raises(error, match=message):
        load(sides)


def test_a_list_counts_in_the_voxels_of_the_other_sides_mask(sides):
    (sides[0] / "a.nii.gz").unlink()
    write_text(sides[0] / "a_points.csv", "x,y,z,score\n3.5,5,2,0.5\n")

    case = load(sides, ListSettings("voxel0"))

    inside = np.argwhere(case.reference.volume.data)
    np.testing.assert_allclose(
        case.predicted.lesions.centres_mm[0], case.reference.volume.to_ras_mm(inside).mean(axis=0)
    )
    np.testing.assert_allclose(case.predicted.lesions.affine, case.reference.volume.affine)
    assert case.probability is None


@pytest.mark.parametrize(
    ("text", "kind", "count"),
    [("x_mm,y_mm,z_mm\n9,12,-28\n", "points", 1), ("x_min,y_min,x_max,y_max\n3,4,5,7\n", "boxes", 1), ("", "boxes", 0)],
)
def test_the_columns_of_a_list_say_what_it_is(sides, text, kind, count):
    (sides[0] / "a.nii.gz").unlink()
    write_text(sides[0] / "a.csv", text)

    case = load(sides)

    assert (case.predicted.kind, len(case.predicted.lesions)) == (kind, count)


def test_points_against_points_count_in_the_spacing_that_was_given(tmp_path):
    for side in "pr":
        write_text(tmp_path / side / "a_points.csv", "x,y,z\n4,2,1\n")
    (case,) = find_cases(tmp_path / "p", tmp_path / "r").cases

    loaded = load_case(case, ListSettings("voxel0", (0.5, 0.5, 2)))

    assert loaded.predicted.lesions.centres_mm.tolist() == [[2, 1, 2]]
    with pytest.raises(InputError, match="give the voxel size with --spacing"):
        load_case(case, ListSettings("voxel0"))


@pytest.fixture
def boxes_alone(tmp_path):
    """Boxes of slices on both sides of two cases, and an oblong, shifted scan of the first."""
    for side in "pr":
        for case in "ab":
            write_text(tmp_path / side / f"{case}_boxes.tsv", "slice\tx_min\ty_min\tx_max\ty_max\n2\t3\t4\t5\t6\n")
    affine = np.array([[-0.5, 0, 0, 7], [0, 0.5, 0, -3], [0, 0, 4, 10], [0, 0, 0, 1.0]])
    write_volume(tmp_path / "scans" / "a_0000.nii.gz", Volume(np.zeros((20, 20, 5)), affine), np.uint8)
    return tmp_path


def test_boxes_without_a_mask_count_in_the_voxels_of_the_scan(boxes_alone):
    case, _ = find_cases(boxes_alone / "p", boxes_alone / "r").cases

    loaded = load_case(case, ListSettings(spacing_mm=(1, 1, 1), images=boxes_alone / "scans"))

    # Voxels 3 and 4, 4 and 5, slice 2.
    assert loaded.predicted.lesions.centres_mm.tolist() == [[7 - 1.75, -3 + 2.25, 18]]
    assert loaded.reference.lesions.volumes_mm3.tolist() == [4]
    write_text(boxes_alone / "p" / "a_boxes.tsv", "slice,x_min,y_min,x_max,y_max\n9,3,4,5,6\n".replace(",", "\t"))
    with pytest.raises(InputError, match=r"a_boxes\.tsv.*a_0000\.nii\.gz"):
        load_case(case, ListSettings(images=boxes_alone / "scans"))


def test_boxes_whose_voxels_have_no_known_size_are_told(boxes_alone):
    cases = find_cases(boxes_alone / "p", boxes_alone / "r").cases

    (none,) = doubts_of_grids(cases, ListSettings())
    assert none.startswith("no grid given: 1 mm voxels are assumed, figures in mm are of that; give --spacing")
    (some,) = doubts_of_grids(cases, ListSettings(images=boxes_alone / "scans"))
    assert some.startswith("no grid given for 1 of 2 cases: ")
    assert doubts_of_grids(cases, ListSettings(spacing_mm=(0.5, 0.5))) == ()
    for case in "ab":
        write_text(
            boxes_alone / "p" / f"{case}_boxes.tsv",
            "x_min_mm\ty_min_mm\tz_min_mm\tx_max_mm\ty_max_mm\tz_max_mm\n",
        )
        write_text(boxes_alone / "r" / f"{case}_boxes.tsv", "")
    assert doubts_of_grids(cases, ListSettings()) == ()


def test_sides_that_were_swapped_are_told_by_their_values(sides, mask):
    write_volume(sides[1] / "a.nii.gz", mask(HIT, value=0.5), np.float32)
    (case,) = find_cases(*sides).cases
    with pytest.raises(InputError, match=r"-p and --reference look swapped: .*r.a\.nii\.gz holds probabilities, .*p.a"):
        refuse_swapped_values(case)
    (swapped,) = find_cases(*reversed(sides)).cases
    refuse_swapped_values(swapped)
    (sides[1] / "a.nii.gz").write_bytes(b"damaged")
    refuse_swapped_values(case)


def test_lists_that_were_swapped_are_told_by_their_scores(tmp_path):
    write_text(tmp_path / "p" / "a.csv", "x_mm,y_mm,z_mm\n4,2,1\n")
    write_text(tmp_path / "r" / "a.csv", "x_mm,y_mm,z_mm,score\n4,2,1,0.5\n")
    (case,) = find_cases(tmp_path / "p", tmp_path / "r").cases
    with pytest.raises(InputError, match=r"-p and --reference look swapped: .*r.a\.csv holds scores"):
        refuse_swapped_values(case)
    (swapped,) = find_cases(tmp_path / "r", tmp_path / "p").cases
    refuse_swapped_values(swapped)


@pytest.mark.parametrize(("columns", "scored"), [("x_mm,y_mm,z_mm,score", True), ("x_mm,y_mm,z_mm", False)])
@pytest.mark.parametrize("empty", ["", "[]", "\n\n"])
def test_an_empty_list_has_scores_where_its_neighbors_have(tmp_path, columns, scored, empty):
    """Else the curves of a detector without scores would be drawn from its empty lists alone."""
    for name in "abc":
        write_text(tmp_path / "r" / f"{name}_points.csv", "x_mm,y_mm,z_mm\n1,2,3\n")
    write_text(tmp_path / "p" / f"a.{'json' if empty == '[]' else 'csv'}", empty)
    (tmp_path / "p" / "b.csv").write_bytes(b"\xff\xfe")  # fails its own case
    write_text(tmp_path / "p" / "c.csv", f"{columns}\n4,2,1,0.5\n" if scored else f"{columns}\n4,2,1\n")

    case, _, _ = find_cases(tmp_path / "p", tmp_path / "r").cases
    predicted = load_case(case).predicted

    assert (predicted.kind, len(predicted.lesions)) == ("points", 0)
    assert (predicted.lesions.confidence is not None) == scored
