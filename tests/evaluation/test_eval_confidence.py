"""What curves are drawn from: the surest candidate of a lesion, and cases that have confidences at all."""

from types import SimpleNamespace

import numpy as np
import pytest

from cmb_autoseg.evaluation.confidence import confident_everywhere, doubts_of_counts
from cmb_autoseg.evaluation.evaluation_report import on_common_cases
from cmb_autoseg.evaluation.matching.lesion_set import LesionSet
from cmb_autoseg.evaluation.matching.match import match, match_candidates
from cmb_autoseg.evaluation.matching.protocols import PROTOCOLS, LesionRule
from cmb_autoseg.evaluation.metrics.curves import froc
from cmb_autoseg.evaluation.reporting.metrics_file import metrics_json


def points(places_mm, confidence=None):
    places = np.asarray(places_mm, np.float64).reshape(-1, 3)
    known = None if confidence is None else np.asarray(confidence, np.float64)
    return LesionSet("points", places, np.full(len(places), np.nan), ("unknown",) * len(places), known, known)


def test_a_faint_candidate_does_not_take_a_lesion_from_a_sure_one():
    reference = points([[0, 0, 0]])
    candidates = points([[2, 0, 0], [0.5, 0, 0]], [0.9, 0.15])

    for name in ("valdo", "points"):
        matching = _only(candidates, reference, name)
        assert [pair.predicted for pair in matching.pairs] == [1], name
        # Without an order of confidence, distance decides.
        assert [pair.predicted for pair in match(candidates, reference, PROTOCOLS[name]).pairs] == [2], name
    assert _only(candidates, reference, "points").ignored == (2,)


def _only(candidates, reference, name):
    return match_candidates(candidates, reference, {name: PROTOCOLS[name]})[name]


@pytest.mark.parametrize("seed", range(40))
def test_under_valdo_the_curve_is_that_of_matching_anew_at_each_threshold(seed):
    rng = np.random.default_rng(seed)
    reference = points(rng.uniform(0, 15, (rng.integers(1, 5), 3)))
    confidence = rng.choice([0.1, 0.2, 0.3, 0.5, 0.7, 0.9], 12)
    candidates = points(rng.uniform(0, 15, (12, 3)), confidence)

    matching = _only(candidates, reference, "valdo")

    right = np.array([number in matching.right for number in range(1, 13)])
    for threshold in np.unique(confidence):
        there = confidence >= threshold
        anew = match(points(candidates.centres_mm[there]), reference, PROTOCOLS["valdo"])
        assert np.count_nonzero(right & there) == len(anew.right)


def test_empty_masks_among_plain_ones_make_no_curve(phantom, evaluated):
    lesion = np.s_[3:5, 3:5, 3:5]
    report = evaluated([("a", phantom(lesion), phantom(lesion)), ("b", phantom(), phantom(lesion))])

    metrics = metrics_json(report)

    assert metrics["n_cases_without_confidence"] == 2
    for group, name in (("lesion", "average_precision"), ("lesion", "froc_area"), ("patient", "auc")):
        assert metrics[group][name]["value"] is None, name
    assert metrics["lesion"]["sensitivity"]["value"] == 0.5


def test_a_case_without_probabilities_among_others_is_told(phantom, evaluated):
    lesion = np.s_[3:5, 3:5, 3:5]
    cases = [("a", phantom(lesion, value=0.8), phantom(lesion)), ("b", phantom(lesion), phantom(lesion))]

    report = evaluated(cases, threshold=0.7)

    assert froc(report.cases, "valdo").n_left_out == 1
    applied, curves = report.warnings
    assert applied.startswith("--threshold 0.7 could not be applied to b")
    assert curves.startswith("b: no probabilities or scores, while other cases have them")


def test_curves_of_two_systems_are_of_the_same_cases(phantom, evaluated):
    lesion = np.s_[3:5, 3:5, 3:5]
    soft, plain = phantom(lesion, value=0.8), phantom(lesion)
    ours = evaluated([("a", soft, plain), ("b", soft, plain)])
    theirs = evaluated([("a", plain, plain), ("b", soft, plain)])

    systems, _ = on_common_cases({"ours": ours, "theirs": theirs})

    for system in systems:
        assert [case.candidates is None for case in system.cases] == [True, False]


def test_a_system_of_plain_masks_silences_no_other(phantom, evaluated):
    lesion = np.s_[3:5, 3:5, 3:5]
    soft, plain = phantom(lesion, value=0.8), phantom(lesion)
    ours, theirs = evaluated([("a", soft, plain)]), evaluated([("a", plain, plain)])

    (our_case,), (their_case,) = confident_everywhere([ours.cases, theirs.cases])

    assert our_case.candidates is not None
    assert their_case.candidates is None


def test_sizes_of_the_rule_are_not_asked_of_candidates(phantom, evaluated):
    blob = phantom()
    blob.data[4:7, 4:7, 4:7] = 0.3
    blob.data[5, 5, 5] = 0.95
    reference = phantom(np.s_[4:7, 4:7, 4:7])

    report = evaluated([("a", blob, reference)], threshold=0.2, rule=LesionRule(min_volume_mm3=10))

    (case,) = report.cases
    assert len(case.predicted) == 1
    assert len(case.candidates) == 1
    assert metrics_json(report)["lesion"]["average_precision"]["value"] == 1.0


def test_candidates_reach_down_to_a_lower_threshold(phantom, evaluated):
    faint = phantom(np.s_[4:6, 4:6, 4:6], value=0.08)

    report = evaluated([("a", faint, phantom(np.s_[4:6, 4:6, 4:6]))], threshold=0.05)

    assert metrics_json(report)["lesion"]["average_precision"]["value"] == 1.0


@pytest.mark.parametrize(
    ("scores", "warned"),
    [([0.01, 0.2, 0.9], "scores begin at 0.01 (2 of 3 below 0.5)"), ([0.6, 0.9], ""), ([], ""), (None, "")],
)
def test_boxes_of_all_scores_that_are_counted_are_told_in_one_warning(scores, warned):
    found = points(np.zeros((3 if scores is None else len(scores), 3)), scores)
    warnings = doubts_of_counts([SimpleNamespace(predicted=found), SimpleNamespace(predicted=points([]))])
    assert len(warnings) == bool(warned)
    assert warned in "".join(warnings)
