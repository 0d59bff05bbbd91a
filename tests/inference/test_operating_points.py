import weakref

import numpy as np
import pytest
from scipy import ndimage

from cmb_autoseg.errors import GeometryError, InputError
from cmb_autoseg.evaluation.matching.match import match_components
from cmb_autoseg.evaluation.matching.protocols import PROTOCOLS
from cmb_autoseg.geometry import Volume
from cmb_autoseg.inference.operating_points import (
    SWEEP_COLUMNS,
    SWEEP_THRESHOLDS,
    ScoredCase,
    points_of,
    resolve_operating_point,
    sweep_thresholds,
    weakness,
)
from cmb_autoseg.lesions import find_components
from cmb_autoseg.records import OperatingPoint

VALDO = PROTOCOLS["valdo"]


def choose_operating_points(cases, protocol):
    return points_of(sweep_thresholds(cases, protocol))


SHAPE = (16, 16, 16)


def case(found=(), missed=(), wrong=(), brain=None):
    """One case; `found` and `wrong` give the probabilities of predicted voxels, 12 mm from one another."""
    probability, reference = np.zeros(SHAPE, dtype=np.float32), np.zeros(SHAPE, dtype=np.uint8)
    places = iter([(i, j, k) for i in (1, 13) for j in (1, 13) for k in (1, 13)])
    for value in found:
        place = next(places)
        probability[place], reference[place] = value, 1
    for value in missed:
        place = next(places)
        probability[place], reference[place] = value, 1
    for value in wrong:
        probability[next(places)] = value
    return ScoredCase("a", Volume(probability, np.eye(4)), Volume(reference, np.eye(4)), brain)


def test_points_of_a_hand_counted_cohort():
    # Lesions at 0.9, 0.7, 0.3; false positives at 0.25 and 0.6.
    points = choose_operating_points([case(found=[0.9, 0.3], wrong=[0.6]), case(found=[0.7], wrong=[0.25])], VALDO)

    counting, screening, youden = points
    assert [point.name for point in points] == ["counting", "screening", "youden"]
    # 0.26-0.30: 3 hits, 1 FP, F1 6/7, better than 0.62-0.70 with 2 hits, no FP, F1 0.8.
    assert counting.threshold == 0.28
    assert counting.f1 == pytest.approx(6 / 7)
    assert (counting.sensitivity, counting.precision, counting.fp_per_scan) == (1.0, 0.75, 0.5)
    assert screening.threshold == 0.30
    assert screening.sensitivity == 1.0
    assert youden.threshold == 0.28
    assert "2 cases" in counting.rule


def test_counting_takes_the_middle_of_a_plateau():
    counting = choose_operating_points([case(found=[0.81], wrong=[0.39])], VALDO)[0]

    assert counting.threshold == 0.60  # 0.40 .. 0.80 are equally good


def test_screening_takes_the_highest_threshold_with_nine_in_ten():
    nine_in_ten = [case(found=[0.55] * 5), case(found=[0.55] * 4 + [0.1])]

    screening = choose_operating_points(nine_in_ten, VALDO)[1]

    assert (screening.threshold, screening.sensitivity) == (0.54, 0.9)


def test_screening_takes_the_best_reachable_sensitivity_where_nine_in_ten_is_not():
    screening = choose_operating_points([case(found=[0.61], missed=[0.0])], VALDO)[1]

    assert (screening.threshold, screening.sensitivity) == (0.60, 0.5)
    assert "below 0.90" in screening.rule


def test_youden_counts_voxels_inside_the_brain_only():
    brain = np.zeros(SHAPE, dtype=bool)
    brain[:3, :3, :3] = True  # holds the lesion at (1, 1, 1), not the false positives
    inside = sweep_thresholds([case(found=[0.5], wrong=[0.9] * 4, brain=brain)], VALDO)
    whole = sweep_thresholds([case(found=[0.5], wrong=[0.9] * 4)], VALDO)

    at_half = SWEEP_THRESHOLDS.index(0.5)
    assert inside.voxel_specificity[at_half] == 1.0
    assert whole.voxel_specificity[at_half] == pytest.approx(1 - 4 / (16**3 - 1))
    assert inside.voxel_sensitivity[[at_half, at_half + 1]].tolist() == [1.0, 0.0]


def test_nothing_found_gives_one_half_and_f1_zero():
    points = choose_operating_points([case(missed=[0.0])], VALDO)

    assert {(point.threshold, point.f1, point.sensitivity, point.precision) for point in points} == {(0.5, 0, 0, None)}
    assert all(point.rule.startswith("stands in, as no threshold finds a lesion") for point in points)
    assert "found 0% of the lesions at 0.0 false positives" in weakness(points[0])


def test_no_reference_lesion_is_refused_with_the_cure():
    with pytest.raises(InputError, match=r"no reference lesion in 2 validation cases.*add labelled cases"):
        choose_operating_points([case(wrong=[0.7]), case()], VALDO)
    with pytest.raises(InputError, match="in 0 validation cases"):
        choose_operating_points([], VALDO)


def test_other_grid_is_refused():
    good = case(found=[0.5])
    moved = Volume(good.reference.data, np.diag([2.0, 1, 1, 1]))

    with pytest.raises(GeometryError, match="affine"):
        sweep_thresholds([ScoredCase("a", good.probability, moved)], VALDO)


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_a_sweep_counts_at_every_threshold_what_matching_the_whole_mask_counts(protocol):
    rng = np.random.default_rng(3)
    affine = np.array([[0.8, 0.1, 0, 4], [-0.1, 0.8, 0, -7], [0, 0, 2.5, 3], [0, 0, 0, 1]])
    smooth = ndimage.gaussian_filter(rng.standard_normal((2, 20, 20, 10)), (0, 0.8, 0.8, 0.5))
    smooth /= smooth.std()
    reference = Volume((smooth[0] > 2).astype(np.uint8), affine)
    probability = Volume((1 / (1 + np.exp(-(smooth[0] + 0.5 * smooth[1] - 2) * 3))).astype(np.float32), affine)

    sweep = sweep_thresholds([ScoredCase("a", probability, reference)], protocol)

    for n, threshold in enumerate(SWEEP_THRESHOLDS):
        mask = probability.data >= threshold
        found, marked = find_components(mask), find_components(reference.data > 0)
        matching = match_components(found, marked, reference, protocol)
        right = len(matching.right)
        assert (sweep.hits[n], sweep.matched_predictions[n], sweep.false_positives[n]) == (
            len(matching.found),
            right,
            len(found) - right - len(matching.ignored),
        )
        assert sweep.voxels_found[n] == np.count_nonzero(mask & (reference.data > 0))
        assert sweep.voxels_false[n] == np.count_nonzero(mask & (reference.data == 0))


def test_rows_of_the_sweep():
    rows = sweep_thresholds([case(found=[0.5])], VALDO).rows()

    assert [row["threshold"] for row in rows] == list(SWEEP_THRESHOLDS)
    assert tuple(rows[0]) == SWEEP_COLUMNS
    assert (rows[0]["precision"], rows[-1]["precision"], rows[-1]["sensitivity"]) == (1.0, None, 0.0)


def test_one_case_is_in_memory_at_a_time():
    alive = []

    def cases():
        for _ in range(6):
            made = case(found=[0.5])
            alive.append(weakref.ref(made.probability))
            yield made
            del made
            assert sum(reference() is not None for reference in alive) <= 1

    assert points_of(sweep_thresholds(cases(), VALDO))[0].f1 == 1.0


POINTS = tuple(
    OperatingPoint(name=name, threshold=threshold, rule="for the test", f1=0.5)
    for name, threshold in (("counting", 0.4), ("screening", 0.1))
)


def test_a_point_is_resolved_by_name_or_number():
    assert resolve_operating_point(POINTS, "screening") is POINTS[1]
    given = resolve_operating_point(POINTS, "0.35")
    assert (given.threshold, given.f1, given.name) == (0.35, None, "0.35")


@pytest.mark.parametrize("text", ["count", "0", "1", "1.5", "-0.2", "nan", "inf", ""])
def test_other_points_are_refused_with_the_legal_names(text):
    with pytest.raises(
        InputError, match="expected one of counting, screening, or a threshold strictly between 0 and 1"
    ):
        resolve_operating_point(POINTS, text)
