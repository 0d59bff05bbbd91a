"""Figures about people and classes of severity, counted by hand."""

import numpy as np
import pytest

from cmb_autoseg.evaluation.metrics.patient import RULES, patient_counts, patient_statistics
from cmb_autoseg.evaluation.metrics.severity import CLASSES, severity_confusion, severity_statistics


def values(cases):
    return {name: statistic.value() for name, statistic in patient_statistics(cases).items()}


def test_the_table_of_a_publication(scored):
    """FP 10, FN 2, TN 84, TP 93 were published with FPR 0.106 and FNR 0.021."""
    cases = [
        scored(reference=r, predicted=p)
        for n, p, r in ((10, 1, 0), (2, 0, 1), (84, 0, 0), (93, 3, 1))
        for _ in range(n)
    ]
    found = values(cases)
    assert (round(found["false_positive_rate"], 3), round(found["false_negative_rate"], 3)) == (0.106, 0.021)
    assert found["balanced_accuracy"] == pytest.approx((93 / 95 + 84 / 94) / 2)
    assert found["precision"] == pytest.approx(93 / 103)
    assert patient_counts(cases) == {
        "true_positives": 93,
        "false_positives": 10,
        "false_negatives": 2,
        "true_negatives": 84,
    }


@pytest.mark.parametrize(("rule", "least"), [("any", 1), ("two_or_more", 2), ("more_than_4", 5), ("more_than_10", 11)])
def test_a_rule_begins_at_its_number(scored, rule, least):
    assert RULES[rule] == least
    prefix = "" if rule == "any" else f"{rule}_"
    cases = [scored(reference=least, predicted=least - 1), scored(reference=least - 1, predicted=least)]
    found = values(cases)
    assert (found[f"{prefix}sensitivity"], found[f"{prefix}specificity"], found[f"{prefix}precision"]) == (0, 0, 0)
    assert patient_counts(cases, rule)["false_positives"] == patient_counts(cases, rule)["false_negatives"] == 1


def test_the_score_of_k_lesions_is_the_kth_highest_confidence(scored):
    """Two or more: a person with two lesions scores 0.4; one without has a surer candidate, but only one: 0."""
    cases = [
        scored(reference=2, confidence=[0.4, 0.8, 0.1]),
        scored(reference=0, confidence=[0.9]),
        scored(reference=1, confidence=[0.7, 0.5]),
    ]
    found = values(cases)
    assert found["two_or_more_auc"] == 0.5  # 0.4 over 0 wins, under 0.5 loses
    assert found["auc"] == 0  # 0.8 and 0.7 under 0.9


def test_undefined_figures_say_why(scored):
    clean = patient_statistics([scored(confidence=[]), scored(predicted=1, confidence=[0.5])])
    why = {name: one.why_none for name, one in clean.items() if np.isnan(one.value())}
    assert why["sensitivity"] == why["auc"] == why["balanced_accuracy"] == "no case with a lesion in the reference"
    assert why["more_than_4_precision"] == "no case predicted to have 5 or more lesions"
    assert "specificity" not in why
    ill = patient_statistics([scored(reference=1)])
    assert ill["balanced_accuracy"].why_none == "all cases have a lesion in the reference"
    assert "no confidence" in ill["auc"].why_none


def test_weights_are_cases_taken_again(random_cases, draws):
    rng = np.random.default_rng(1)
    cases = random_cases(rng, 10)
    weights, drawn = draws(rng, cases, 8)
    for function in (patient_statistics, severity_statistics):
        for name, statistic in function(cases).items():
            again = [function(own)[name].value() for own in drawn]
            np.testing.assert_allclose(statistic.of(weights), again, atol=1e-12, err_msg=name)


def test_classes_counted_by_hand(scored):
    assert CLASSES == ("0", "1", "2-4", "5-10", "> 10")
    pairs = [(0, 0), (0, 1), (1, 1), (2, 4), (4, 5), (10, 5), (11, 30), (30, 0)]
    confusion = severity_confusion([scored(reference=r, predicted=p) for r, p in pairs])
    expected = np.zeros((5, 5), int)
    for reference, predicted in ((0, 0), (0, 1), (1, 1), (2, 2), (2, 3), (3, 3), (4, 4), (4, 0)):
        expected[reference, predicted] += 1
    np.testing.assert_array_equal(confusion.table, expected)
    assert confusion.as_json() == {"classes": list(CLASSES), "reference_by_prediction": expected.tolist()}
    accuracy = severity_statistics([scored(reference=r, predicted=p) for r, p in pairs])["class_accuracy"]
    assert accuracy.value() == 5 / 8


def test_kappa_of_a_worked_example(scored):
    """Classes 0 and 1: 20 + 15 agree, 5 + 10 do not: kappa 0.4 (a textbook's example of 50 grants)."""
    pairs = [(0, 0)] * 20 + [(0, 1)] * 5 + [(1, 0)] * 10 + [(1, 1)] * 15
    found = severity_statistics([scored(reference=r, predicted=p) for r, p in pairs])
    assert [found[name].value() for name in ("kappa", "kappa_linear", "kappa_quadratic")] == pytest.approx([0.4] * 3)


def test_weights_of_kappa_grow_with_the_distance(scored):
    """Classes 0, 0, 1, 2 of the references; 0, 2, 1, 2 of the predictions: one case in four is two classes off.

    Each reference with each prediction: 2 x (0 + 2 + 1 + 2) + (1 + 1 + 0 + 1) + (2 + 0 + 1 + 0) = 16 classes off in 16
    pairs, and 2 x 9 + 3 + 5 = 26 when squared.
    """
    pairs = [(0, 0), (0, 3), (1, 1), (3, 3)]
    found = severity_statistics([scored(reference=r, predicted=p) for r, p in pairs])
    assert found["kappa_linear"].value() == pytest.approx(1 - (2 / 4) / (16 / 16))
    assert found["kappa_quadratic"].value() == pytest.approx(1 - (4 / 4) / (26 / 16))


def test_one_class_has_no_kappa(scored):
    found = severity_statistics([scored(), scored()])
    assert found["class_accuracy"].value() == 1
    assert np.isnan(found["kappa_quadratic"].value())
    assert found["kappa_quadratic"].why_none == "all cases are in one class on both sides"
