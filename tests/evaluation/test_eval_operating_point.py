import numpy as np
import pytest

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.case_score import CaseScore, Matching, Pair
from cmb_autoseg.evaluation.matching.lesion_set import LesionSet
from cmb_autoseg.evaluation.operating_point import choose_threshold, read_threshold, refuse_no_validation


def lesions(count, confidence=None):
    scores = None if confidence is None else np.array(confidence, dtype=float)
    return LesionSet("points", np.zeros((count, 3)), np.full(count, np.nan), ("unknown",) * count, scores)


def case(name, n_reference, right, false, ignored=()):
    """A case whose candidates are `right`, (reference, confidence) each, then `false`, then `ignored` ones."""
    confidence = [*(score for _, score in right), *false, *ignored]
    pairs = tuple(Pair(reference=number, predicted=n, distance_mm=0) for n, (number, _) in enumerate(right, 1))
    first = len(right) + len(false) + 1
    matching = Matching(pairs=pairs, ignored=tuple(range(first, first + len(ignored))))
    return CaseScore(
        name,
        name,
        lesions(n_reference),
        lesions(0),
        {"valdo": Matching()},
        candidates=lesions(len(confidence), confidence),
        candidate_matchings={"valdo": matching},
    )


CASES = [
    case("a", 3, [(1, 0.9), (2, 0.6), (3, 0.3)], [0.7, 0.2]),
    case("b", 1, [(1, 0.8)], [0.5, 0.4], ignored=[0.95]),
    case("c", 0, [], [0.3]),
]
"""Found at 0.9, 0.8, 0.6, 0.3; false positives at 0.7, 0.5, 0.4, 0.3, 0.2: counted by hand below."""


@pytest.mark.parametrize(
    ("rule", "threshold", "sensitivity", "precision", "fp_per_scan"),
    [
        ("best-f1", 0.6, 3 / 4, 3 / 4, 1 / 3),  # F1 3/4; at 0.3 it is 8/12, at 0.8 4/6
        ("sensitivity-0.9", 0.3, 1.0, 4 / 8, 4 / 3),
        ("sensitivity-0.5", 0.8, 2 / 4, 1.0, 0.0),
        ("sensitivity-0.75", 0.6, 3 / 4, 3 / 4, 1 / 3),
        ("fp-1", 0.4, 3 / 4, 3 / 6, 1.0),
        ("fp-0.5", 0.6, 3 / 4, 3 / 4, 1 / 3),
        ("fp-0", 0.8, 2 / 4, 1.0, 0.0),
        ("fp-9", 0.2, 1.0, 4 / 9, 5 / 3),
    ],
)
def test_thresholds_by_hand(rule, threshold, sensitivity, precision, fp_per_scan):
    point = choose_threshold(read_threshold(rule), CASES, "valdo")

    found = (point.name, point.threshold, point.sensitivity, point.precision, point.fp_per_scan)
    assert found == pytest.approx((rule, threshold, sensitivity, precision, fp_per_scan))
    assert point.f1 == pytest.approx(2 * sensitivity * precision / (sensitivity + precision))
    assert point.rule.endswith("on 3 validation cases with 4 lesions, matched by valdo")


def test_of_equal_f1_the_highest_threshold_is_taken():
    tied = [case("a", 2, [(1, 0.9), (2, 0.2)], [0.5, 0.4])]  # F1 2/3 at 0.9, 1/2 at 0.4, 2/3 at 0.2
    assert choose_threshold(read_threshold("best-f1"), tied, "valdo").threshold == 0.9


def test_merged_predictions_are_right_once_and_find_several():
    merged = [case("a", 2, [(1, 0.9)], [])]
    both = Matching(
        pairs=(Pair(reference=1, predicted=1, distance_mm=0), Pair(reference=2, predicted=1, distance_mm=0))
    )
    merged[0].candidate_matchings["valdo"] = both

    point = choose_threshold(read_threshold("best-f1"), merged, "valdo")

    assert (point.sensitivity, point.precision, point.fp_per_scan) == (1, 1, 0)


def test_a_confidence_of_one_is_a_threshold_below_it_that_cuts_as_one_does():
    point = choose_threshold(read_threshold("best-f1"), [case("a", 1, [(1, 1.0)], [0.5])], "valdo")

    assert 0.5 < point.threshold < 1
    assert (np.float32([1, 0.99999994]) >= point.threshold).tolist() == [True, False]


@pytest.mark.parametrize(
    ("text", "name"),
    [("best-f1", "best-f1"), ("sensitivity-.9", "sensitivity-0.9"), ("fp-1", "fp-1"), ("fp-0.125", "fp-0.125")],
)
def test_rules_are_read(text, name):
    assert read_threshold(text).name == name


def test_numbers_are_thresholds():
    assert read_threshold("0.35") == 0.35


@pytest.mark.parametrize(
    "text", ["1", "0", "35", "nan", "best", "fp", "fp-", "best-f1-3", "sensitivity-1.5", "sensitivity-0", ""]
)
def test_other_texts_list_what_is_legal(text):
    with pytest.raises(
        InputError, match=r"--threshold: found .*, expected a number .* 0\.35, or a rule: best-f1, sens"
    ):
        read_threshold(text)


def test_youden_is_explained():
    with pytest.raises(
        InputError, match="--threshold youden: lesions have no specificity, since there is no countable"
    ):
        read_threshold("youden")


def test_the_test_set_is_no_validation_set():
    with pytest.raises(
        InputError, match=r"fp-1: a threshold chosen on the cases that it is judged by flatters; .*--vali"
    ):
        refuse_no_validation(read_threshold("fp-1"))


@pytest.mark.parametrize(
    ("rule", "cases", "message"),
    [
        ("best-f1", [case("c", 0, [], [0.3])], r"no reference lesion in 1 validation cases, so no threshold"),
        ("best-f1", [case("c", 2, [], [])], r"nothing is predicted in 1 validation cases"),
        ("best-f1", [case("c", 2, [], [0.5])], r"best-f1: no validation lesion is found at any threshold"),
        ("sensitivity-0.9", [case("c", 2, [(1, 0.5)], [])], r"reach a sensitivity of 0\.5 at most; give a lower one"),
        ("fp-0.5", [case("c", 1, [], [0.5])], r"at the highest confidence there are already 1 false positives per sc"),
        ("fp-1", [CaseScore("m", "m", lesions(1), lesions(1), {})], r"prediction of m has no probabilities or scores"),
    ],
)
def test_what_gives_no_threshold_says_why(rule, cases, message):
    with pytest.raises(InputError, match=message):
        choose_threshold(read_threshold(rule), cases, "valdo")
