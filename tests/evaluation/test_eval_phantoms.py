"""Hand-counted cases of every protocol: what is found, right, false and set aside."""

import json
import math

import numpy as np
import pytest

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.case_score import CaseScore
from cmb_autoseg.evaluation.evaluate import CaseSource, evaluate_cases
from cmb_autoseg.evaluation.inputs.loading import LoadedCase
from cmb_autoseg.evaluation.inputs.sides import LoadedSide
from cmb_autoseg.evaluation.matching.candidates import find_candidates
from cmb_autoseg.evaluation.matching.lesion_set import LesionSet
from cmb_autoseg.evaluation.matching.match import fits, match
from cmb_autoseg.evaluation.matching.protocols import PROTOCOLS, LesionRule
from cmb_autoseg.evaluation.reporting.metrics_file import metrics_json
from cmb_autoseg.evaluation.scoring import CaseFacts, ScoringSettings, score_case
from cmb_autoseg.evaluation.statistics.intervals import Resampling
from cmb_autoseg.geometry import Volume
from cmb_autoseg.lesions.components import find_components

NAMES = tuple(PROTOCOLS)
TOUCHING = np.s_[4:6, 4, 4], np.s_[6:8, 5, 4]
"""Two lesions that share an edge, no face: one lesion of 18 and 26 neighbors, two of 6."""
AT_A_CORNER = np.s_[4:6, 4, 4], np.s_[6:8, 5, 5]
"""One lesion of 26 neighbors, two of 6 and of 18."""


@pytest.fixture
def scored(phantom):
    """Score masks given as boxes; the map is the predicted mask with 0.75 for 1."""

    def score(predicted, reference, rule=None, affine=None, **settings) -> CaseScore:
        predicted, reference = (phantom(*boxes, affine=affine) for boxes in (predicted, reference))
        probability = predicted.with_data(predicted.data * np.float32(0.75))
        case = LoadedCase(
            "phantom", LoadedSide("mask", volume=predicted), LoadedSide("mask", volume=reference), probability, None
        )
        return score_case(case, CaseFacts("person"), ScoringSettings(rule=rule or LesionRule(), **settings))

    return score


def told(score, name):
    """Found, missed, right, false, ignored."""
    found, right, false = score.counts(name)
    return found, len(score.reference) - found, right, false, len(score.matchings[name].ignored)


def each(**expected):
    """A case of a table: what each protocol says."""
    return [expected[name] for name in NAMES]


PHANTOMS = {
    # reference, predicted: (found, missed, right, false, ignored)
    "the same lesion of four voxels": (
        [np.s_[4:6, 4:6, 4]],
        [np.s_[4:6, 4:6, 4]],
        each(
            valdo=(1, 0, 1, 0, 0),
            overlap=(1, 0, 1, 0, 0),
            overlap40=(1, 0, 1, 0, 0),
            points=(1, 0, 1, 0, 0),
            iou=(1, 0, 1, 0, 0),
        ),
    ),
    "far apart": (
        [np.s_[2, 2, 2]],
        [np.s_[2, 2, 12]],
        each(
            valdo=(0, 1, 0, 1, 0),
            overlap=(0, 1, 0, 1, 0),
            overlap40=(0, 1, 0, 1, 0),
            points=(0, 1, 0, 1, 0),
            iou=(0, 1, 0, 1, 0),
        ),
    ),
    "beside it, without a common voxel": (
        [np.s_[4:6, 4:6, 4]],
        [np.s_[6:8, 4:6, 4]],
        each(
            valdo=(1, 0, 1, 0, 0),
            overlap=(0, 1, 0, 1, 0),
            overlap40=(0, 1, 0, 1, 0),
            points=(1, 0, 1, 0, 0),
            iou=(0, 1, 0, 1, 0),
        ),
    ),
    "one prediction over two lesions": (  # 10 voxels over 4 and 4, the centres 3 mm away
        [np.s_[2:6, 4, 4], np.s_[8:12, 4, 4]],
        [np.s_[2:12, 4, 4]],
        each(
            valdo=(1, 1, 1, 0, 0),
            overlap=(2, 0, 1, 0, 0),
            overlap40=(2, 0, 1, 0, 0),
            points=(1, 1, 1, 0, 0),
            iou=(1, 1, 1, 0, 0),
        ),
    ),
    "two predictions on one lesion": (  # 5 of 11 voxels each, centres 3 mm from that of the lesion
        [np.s_[2:13, 4, 4]],
        [np.s_[2:7, 4, 4], np.s_[8:13, 4, 4]],
        each(
            valdo=(1, 0, 1, 1, 0),
            overlap=(1, 0, 2, 0, 0),
            overlap40=(1, 0, 2, 0, 0),
            points=(1, 0, 1, 0, 1),
            iou=(1, 0, 1, 1, 0),
        ),
    ),
    "a speck and a good prediction on one lesion": (  # 1 and 4 voxels of 6
        [np.s_[2:8, 4, 4]],
        [np.s_[2, 4, 4], np.s_[4:8, 4, 4]],
        each(
            valdo=(1, 0, 1, 1, 0),
            overlap=(1, 0, 2, 0, 0),
            overlap40=(1, 0, 1, 1, 0),
            points=(1, 0, 1, 0, 1),
            iou=(1, 0, 1, 1, 0),
        ),
    ),
    "a duplicate that is nearer to another lesion than five millimetres": (
        # The second prediction is 2 mm from the first lesion and 3 mm from the second, which only `points` gives it.
        [np.s_[2, 4, 4], np.s_[7, 4, 4]],
        [np.s_[2, 4, 4], np.s_[4, 4, 4]],
        each(
            valdo=(1, 1, 1, 1, 0),
            overlap=(1, 1, 1, 1, 0),
            overlap40=(1, 1, 1, 1, 0),
            points=(2, 0, 2, 0, 0),
            iou=(1, 1, 1, 1, 0),
        ),
    ),
    "a chain of overlaps": (
        # p1 covers r1 by 5 of 6 and r2 by 1 of 6; p2 covers r2 by 5 of 6: one to one finds both all the same.
        [np.s_[2:8, 4, 4], np.s_[9:15, 4, 4]],
        [np.s_[3:10, 4, 4], np.s_[11:15, 4, 4]],
        each(
            valdo=(2, 0, 2, 0, 0),
            overlap=(2, 0, 2, 0, 0),
            overlap40=(2, 0, 2, 0, 0),
            points=(2, 0, 2, 0, 0),
            iou=(2, 0, 2, 0, 0),
        ),
    ),
    "one good pair or two poor ones": (
        # Intersection over union: 7/13 in the middle, 2/11 and 2/12 beside it; shares of the lesions 7/10, 2/10, 2/4.
        [np.s_[5:15, 4, 4], np.s_[16:20, 4, 4]],
        [np.s_[8:18, 4, 4], np.s_[4:7, 4, 4]],
        each(
            valdo=(1, 1, 1, 1, 0),
            overlap=(2, 0, 2, 0, 0),
            overlap40=(2, 0, 1, 1, 0),
            points=(1, 1, 1, 0, 1),
            iou=(2, 0, 2, 0, 0),
        ),
    ),
    "a large prediction around a small lesion": (  # 125 voxels around 1: IoU 0.008
        [np.s_[6, 6, 6]],
        [np.s_[4:9, 4:9, 4:9]],
        each(
            valdo=(1, 0, 1, 0, 0),
            overlap=(1, 0, 1, 0, 0),
            overlap40=(1, 0, 1, 0, 0),
            points=(1, 0, 1, 0, 0),
            iou=(0, 1, 0, 1, 0),
        ),
    ),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("phantom_name", PHANTOMS)
def test_hand_counted(scored, phantom_name, name):
    reference, predicted, expected = PHANTOMS[phantom_name]

    assert told(scored(predicted, reference), name) == expected[NAMES.index(name)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("boxes", "n_lesions"), [(TOUCHING, {6: 2, 18: 1, 26: 1}), (AT_A_CORNER, {6: 2, 18: 2, 26: 1})]
)
def test_touching_lesions_are_one_or_two_on_both_sides(scored, boxes, n_lesions, name):
    for connectivity, n in n_lesions.items():
        score = scored(boxes, boxes, LesionRule(connectivity))

        assert told(score, name) == (n, 0, n, 0, 0)
        assert len(score.candidates) == n


def test_a_prediction_that_joins_two_touching_lesions_by_a_voxel(scored):
    reference, joined = [np.s_[2:5, 4, 4], np.s_[6:9, 4, 4]], [np.s_[2:9, 4, 4]]

    counted = {name: told(scored(joined, reference, LesionRule(6)), name)[:2] for name in NAMES}

    assert counted == {"valdo": (1, 1), "overlap": (2, 0), "overlap40": (2, 0), "points": (1, 1), "iou": (1, 1)}


@pytest.mark.parametrize("name", NAMES)
def test_least_volume_leaves_lesions_out_on_both_sides(scored, name):
    four, three = np.s_[4:6, 4:6, 4], np.s_[12:15, 12, 12]

    assert told(scored([four, three], [four, three], LesionRule(min_volume_mm3=4)), name) == (1, 0, 1, 0, 0)
    assert told(scored([three], [four], LesionRule(min_volume_mm3=4)), name) == (0, 1, 0, 0, 0)
    assert told(scored([four], [three], LesionRule(min_volume_mm3=4)), name) == (0, 0, 0, 1, 0)
    assert told(scored([four], [four], LesionRule(min_volume_mm3=4.001)), name) == (0, 0, 0, 0, 0)


@pytest.mark.parametrize("name", NAMES)
def test_diameters_of_both_sides_are_limited_from_both_ends(scored, name):
    one, eight, many = np.s_[2, 2, 2], np.s_[6:8, 6:8, 6:8], np.s_[12:16, 12:16, 12:16]  # 1.24, 2.48 and 4.96 mm
    exactly = float(np.cbrt(6 * 8 / np.pi))
    lesions = [one, eight, many]

    assert told(scored(lesions, lesions, LesionRule(diameter_mm=(2, 4))), name) == (1, 0, 1, 0, 0)
    assert told(scored(lesions, lesions, LesionRule(diameter_mm=(exactly, 10))), name) == (2, 0, 2, 0, 0)
    assert told(scored(lesions, lesions, LesionRule(diameter_mm=(0, exactly))), name) == (2, 0, 2, 0, 0)
    assert told(scored(lesions, [eight], LesionRule(diameter_mm=(2, 4))), name) == (1, 0, 1, 0, 0)


def test_lesions_left_out_leave_their_voxels_out(scored):
    four, three = np.s_[4:6, 4:6, 4], np.s_[12:15, 12, 12]

    voxels = scored([four, three], [four, three], LesionRule(min_volume_mm3=4)).voxels

    assert (voxels.true_positive, voxels.false_positive, voxels.false_negative) == (4, 0, 0)


@pytest.mark.parametrize("name", ["valdo", "points"])
@pytest.mark.parametrize(("slice_mm", "found"), [(5.0, 1), (5.0000001, 1), (5.00001, 0)])
@pytest.mark.parametrize("degrees", [0, 33])
def test_five_millimetres_are_near_enough(scored, name, slice_mm, found, degrees):
    affine = turned(degrees, (0.5, 0.5, slice_mm))

    score = scored([np.s_[5, 5, 5]], [np.s_[5, 5, 6]], affine=affine)

    assert score.counts(name) == (found, found, 1 - found)


@pytest.mark.parametrize(("length", "n_covered", "found"), [(5, 2, 0), (5, 3, 1), (10, 4, 0), (15, 6, 0), (15, 7, 1)])
def test_forty_percent_is_not_more_than_forty_percent(scored, length, n_covered, found):
    assert scored([np.s_[0:n_covered, 5, 5]], [np.s_[0:length, 5, 5]]).counts("overlap40")[0] == found


@pytest.mark.parametrize(("n_predicted", "found"), [(10, 1), (11, 0)])
def test_the_least_intersection_over_union_is_enough(scored, n_predicted, found):
    assert scored([np.s_[0:n_predicted, 5, 5]], [np.s_[0, 5, 5]]).counts("iou")[0] == found  # 1 / 10, 1 / 11


def test_a_limit_of_ones_own(scored):
    def found(name, limit, predicted, reference):
        protocols = {**PROTOCOLS, name: PROTOCOLS[name].with_limit(limit)}
        return scored([predicted], [reference], protocol=name, protocols=protocols).counts(name)[0]

    near = np.s_[5, 5, 5], np.s_[5, 5, 8]
    assert [found("valdo", limit, *near) for limit in (2.9, 3)] == [0, 1]
    assert [found("points", limit, *near) for limit in (2.9, 3)] == [0, 1]
    common = np.s_[0:6, 5, 5], np.s_[0:10, 5, 5]  # 6 of 10, both as share and as intersection over union
    assert [found("overlap", limit, *common) for limit in (0.5, 0.6)] == [1, 0]
    assert [found("iou", limit, *common) for limit in (0.6, 0.61)] == [1, 0]


# --- empty sides: every figure has a value, or says why it has none

EMPTY, ONE, OTHER = [], [np.s_[4:6, 4:6, 4]], [np.s_[12:14, 12:14, 12]]
STUDIES = {
    "nothing on either side": [(EMPTY, EMPTY)],
    "a reference without prediction": [(EMPTY, ONE)],
    "a prediction without reference": [(ONE, EMPTY)],
    "all missed and all false": [(OTHER, ONE)],
    "all found": [(ONE, ONE)],
    "all of these": [(EMPTY, EMPTY), (EMPTY, ONE), (ONE, EMPTY), (OTHER, ONE), (ONE, ONE)],
}


@pytest.fixture
def report_of(phantom):
    def build(pairs, name, with_map, n_resamples=20):
        def load(predicted, reference):
            mask = phantom(*predicted)
            probability = mask.with_data(mask.data * np.float32(0.75)) if with_map else None
            return mask, phantom(*reference), probability

        sources = [
            CaseSource.of_volumes(f"case{n}", f"person{n}", lambda pair=pair: load(*pair))
            for n, pair in enumerate(pairs)
        ]
        return evaluate_cases(sources, ScoringSettings(protocol=name), Resampling(n_resamples=n_resamples))

    return build


def unexplained(found, where=""):
    """Paths of numbers that are not finite, and of figures that have neither a value nor a reason."""
    if isinstance(found, dict):
        if "value" in found:
            if found["value"] is None and not found["why"]:
                yield f"{where}: neither value nor reason"
            if found["value"] is not None and found.get("why"):
                yield f"{where}: value and reason"
            if found["value"] is None and found["ci"] is not None:
                yield f"{where}: an interval without value"
        for key, value in found.items():
            yield from unexplained(value, f"{where}.{key}")
    elif isinstance(found, (list, tuple)):
        for n, value in enumerate(found):
            yield from unexplained(value, f"{where}[{n}]")
    elif isinstance(found, float) and not math.isfinite(found):
        yield f"{where}: {found}"


@pytest.mark.parametrize("with_map", [True, False], ids=["map", "mask"])
@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize("name", NAMES)
def test_every_figure_of_empty_sides_has_a_value_or_a_reason(report_of, study, name, with_map):
    content = metrics_json(report_of(STUDIES[study], name, with_map))

    assert list(unexplained(content)) == []
    assert json.loads(json.dumps(content, allow_nan=False))["protocol"] == name


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("study", "expected"),
    [
        # sensitivity, precision, F1, false positives per scan, per lesion, per lesion-free scan, average precision
        ("nothing on either side", (None, None, None, 0, None, 0, None)),
        ("a reference without prediction", (0, None, 0, 0, 0, None, 0)),
        ("a prediction without reference", (None, 0, None, 1, None, 1, None)),
        ("all missed and all false", (0, 0, 0, 1, 1, None, 0)),
        ("all found", (1, 1, 1, 0, 0, None, 1)),
        # Three lesions, one found; three predictions of one confidence, one right.
        ("all of these", (1 / 3, 1 / 3, 1 / 3, 2 / 5, 2 / 3, 1 / 2, 1 / 9)),
    ],
)
def test_lesion_figures_of_empty_sides(report_of, study, expected, name):
    lesion = report_of(STUDIES[study], name, True, 0).figures["lesion"]

    keys = ("sensitivity", "precision", "f1", "fp_per_scan", "fp_per_lesion", "fp_per_negative_scan")
    values = tuple(lesion[key].value for key in (*keys, "average_precision"))
    assert values == pytest.approx(expected)
    assert all(bool(lesion[key].why) == (lesion[key].value is None) for key in lesion)


# --- lists of points and boxes


def turned(degrees, spacing_mm):
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    affine = np.eye(4)
    affine[:3, :3] = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]]) @ np.diag(spacing_mm)
    affine[:3, 3] = -20, 7, 3
    return affine


AFFINE = turned(20, (0.5, 0.8, 2.0))
GRID = Volume(np.zeros((20, 20, 20), np.float32), AFFINE)


def as_mask(*boxes):
    data = np.zeros(GRID.shape, bool)
    for box in boxes:
        data[box] = True
    return LesionSet.of_components(find_components(data), GRID)


def as_points(*voxels):
    centres = GRID.to_ras_mm(np.array(voxels, float).reshape(-1, 3))
    return LesionSet("points", centres, np.full(len(centres), np.nan), ("unknown",) * len(centres))


def as_boxes(*faces):
    """Boxes as voxels (first, last + 1) along the three axes."""
    boxes = np.array(faces, float).reshape(-1, 3, 2) - 0.5
    volumes = np.prod(boxes[:, :, 1] - boxes[:, :, 0], axis=1) * GRID.voxel_volume_mm3
    centres = GRID.to_ras_mm(boxes.mean(axis=2))
    return LesionSet("boxes", centres, volumes, ("unknown",) * len(boxes), boxes=boxes, affine=AFFINE)


FIT = {
    ("mask", "points"): {"valdo", "points", "overlap"},
    ("points", "mask"): {"valdo", "points", "overlap"},
    ("points", "boxes"): {"valdo", "points", "overlap"},
    ("boxes", "points"): {"valdo", "points", "overlap"},
    ("points", "points"): {"valdo", "points"},
    ("mask", "mask"): set(NAMES),
    ("mask", "boxes"): set(NAMES),
    ("boxes", "mask"): set(NAMES),
    ("boxes", "boxes"): set(NAMES),
}
ONE_OF_EACH = {
    "mask": as_mask(np.s_[4:8, 4:8, 4:6]),
    "points": as_points((5.5, 5.5, 4.5)),
    "boxes": as_boxes(((4, 8), (4, 8), (4, 6))),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("predicted", "reference"), FIT)
def test_kinds_of_both_sides(predicted, reference, name):
    sides = ONE_OF_EACH[predicted], ONE_OF_EACH[reference]
    if name in FIT[predicted, reference]:
        assert fits(*sides, PROTOCOLS[name])
        (pair,) = match(*sides, PROTOCOLS[name]).pairs
        assert pair.distance_mm == 0
        extents = "points" not in (predicted, reference)
        assert (pair.overlap, pair.iou, pair.dice) == ((1, 1, 1) if extents else (None, None, None))
    else:
        side = "prediction" if predicted == "points" else "reference"
        with pytest.raises(InputError, match=f"protocol {name}: the {side} is a list of points, .* take valdo") as told:
            match(*sides, PROTOCOLS[name])
        assert "\n" not in str(told.value)


def found_by(name, predicted, reference):
    matching = match(predicted, reference, PROTOCOLS[name])
    return sorted(matching.found), sorted(matching.right), sorted(matching.ignored)


def test_points_and_a_mask():
    reference = as_mask(np.s_[2:6, 2:6, 2], np.s_[12:15, 12:15, 12])  # numbers 1 and 2
    predicted = as_points((5, 5, 2), (2, 2, 2), (6, 6, 2), (0, 19, 19))

    # Two points lie in the first lesion; the third lies beside it, 2.5 x 0.5 and 2.5 x 0.8 mm from its centre.
    assert found_by("overlap", predicted, reference) == ([1], [1, 2], [])
    assert found_by("valdo", predicted, reference) == ([1], [1], [])
    assert found_by("points", predicted, reference) == ([1], [1], [2, 3])


def test_a_mask_and_points():
    reference = as_points((5, 5, 2), (2, 2, 2), (13, 13, 13))
    predicted = as_mask(np.s_[2:6, 2:6, 2], np.s_[12:15, 12:15, 12])

    # One prediction over two points finds both; the other one is 2 mm from the third, but does not hold it.
    assert found_by("overlap", predicted, reference) == ([1, 2], [1], [])
    assert found_by("valdo", predicted, reference) == ([1, 3], [1, 2], [])
    assert found_by("points", predicted, reference) == ([1, 3], [1, 2], [])


def test_points_and_points():
    reference, predicted = as_points((4, 4, 4), (8, 4, 4)), as_points((5, 4, 4), (6, 4, 4), (4, 4, 19))

    # 0.5 and 1.0 mm from the first one, 1.5 and 1.0 mm from the second; on equal terms the first of the list.
    assert found_by("valdo", predicted, reference) == ([1], [1], [])
    assert found_by("points", predicted, reference) == ([1, 2], [1, 2], [])


def test_a_mask_and_boxes():
    reference = as_boxes(((2, 6), (2, 6), (2, 3)), ((10, 14), (10, 14), (10, 12)))
    predicted = as_mask(np.s_[2:6, 2:5, 2], np.s_[13, 13, 11])

    first, second = match(predicted, reference, PROTOCOLS["overlap"]).pairs
    assert (first.overlap, first.iou) == (pytest.approx(12 / 16), pytest.approx(12 / 16))
    assert (second.overlap, second.iou) == (pytest.approx(1 / 32), pytest.approx(1 / 32))
    assert found_by("overlap40", predicted, reference) == ([1], [1], [])
    assert found_by("iou", predicted, reference) == ([1], [1], [])


def test_boxes_of_a_volume():
    reference = as_boxes(((2, 6), (2, 6), (2, 4)), ((6, 10), (2, 6), (2, 4)))
    predicted = as_boxes(((3, 6), (2, 6), (2, 4)), ((6, 7), (2, 6), (3, 4)))

    # The first covers 3/4 of the first lesion and touches the second; the second prediction covers 1/8 of that.
    assert found_by("overlap", predicted, reference) == ([1, 2], [1, 2], [])
    assert found_by("overlap40", predicted, reference) == ([1], [1], [])
    assert found_by("iou", predicted, reference) == ([1, 2], [1, 2], [])
    assert [pair.iou for pair in match(predicted, reference, PROTOCOLS["iou"]).pairs] == pytest.approx([0.75, 0.125])


def test_boxes_of_slices():
    reference = as_boxes(((2, 6), (2, 6), (4, 5)), ((2, 6), (2, 6), (5, 6)))
    predicted = as_boxes(((2, 6), (3, 6), (4, 5)), ((2, 6), (2, 6), (6, 7)))

    # Boxes of neighboring slices share nothing, but their centres are 2 mm apart.
    assert found_by("overlap", predicted, reference) == ([1], [1], [])
    assert found_by("iou", predicted, reference) == ([1], [1], [])
    assert found_by("valdo", predicted, reference) == ([1, 2], [1, 2], [])


def test_boxes_whose_faces_lie_between_voxels_share_no_more_than_they_have():
    thin = as_boxes(((4.4, 5.6), (4, 5), (4, 5)))  # 0.6 of two voxels each
    two, three = as_mask(np.s_[4:6, 4, 4]), as_mask(np.s_[3:7, 4, 4])

    for predicted, reference in ((thin, two), (two, thin)):
        (pair,) = match(predicted, reference, PROTOCOLS["iou"]).pairs
        assert pair.iou == pytest.approx(1.2 / 2)
        assert pair.overlap == pytest.approx(0.6 if predicted is thin else 1.0)
    (pair,) = match(three, thin, PROTOCOLS["overlap"]).pairs
    assert pair.overlap == pytest.approx(1.0)


def test_rounding_makes_no_box_overlap_its_neighbor():
    left, right = as_boxes(((2, 4), (2, 4), (2, 4))), as_boxes(((4 - 1e-9, 6), (2, 4), (2, 4)))

    assert match(left, right, PROTOCOLS["overlap"]).pairs == ()
    assert match(as_mask(np.s_[2:4, 2:4, 2:4]), right, PROTOCOLS["overlap"]).pairs == ()
    assert len(match(right, as_mask(np.s_[4:6, 2:4, 2:4]), PROTOCOLS["overlap"]).pairs) == 1


# --- candidates


def lengths_and_peaks(probabilities, connectivity=26):
    data = np.zeros((3, 3, 20), np.float32)
    data[1, 1, : len(probabilities)] = probabilities
    found = find_candidates(Volume(data, np.eye(4)), LesionRule(connectivity))
    return [(int(n), round(float(c), 3)) for n, c in zip(found.components.sizes, found.confidence, strict=True)]


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [
        ([0.9, 0.9, 0.5, 0.3, 0.3, 0.5, 0.8, 0.8, 0.2], [(3, 0.9), (3, 0.8)]),  # 0.3 is below half of 0.8
        ([0.9, 0.9, 0.5, 0.45, 0.45, 0.5, 0.8, 0.8, 0.2], [(8, 0.9)]),  # the way is above half of both
        ([0.9, 0.4, 0.8], [(1, 0.9)]),  # half of 0.8 itself joins; the extent is that of the higher one
        ([0.9, 0.5, 0.3, 0.2, 0.3, 0.25, 0.1, 0.0], [(2, 0.9)]),  # 0.2 is more than half of 0.3: a halo's noise
        ([0.1], [(1, 0.1)]),
        ([0.09], []),
        ([], []),
        ([1, 1, 1], [(3, 1)]),
        ([0.7, 0.1, 0.7], [(1, 0.7), (1, 0.7)]),
        ([0.7, 0.5, 0.7], [(3, 0.7)]),  # two equal peaks are one candidate
    ],
)
def test_candidates_reach_down_to_half_of_their_own_peak(probabilities, expected):
    assert lengths_and_peaks(probabilities) == expected


def test_a_full_image_is_one_candidate():
    assert len(find_candidates(Volume(np.full((4, 4, 4), 0.5, np.float32), np.eye(4)), LesionRule())) == 1


def test_candidates_touch_as_lesions_do():
    data = np.zeros((6, 6, 6), np.float32)
    data[1, 1, 1], data[2, 2, 1], data[3, 3, 2] = 0.9, 0.8, 0.7
    n_candidates = {n: len(find_candidates(Volume(data, np.eye(4)), LesionRule(n))) for n in (6, 18, 26)}

    assert n_candidates == {6: 3, 18: 2, 26: 1}
