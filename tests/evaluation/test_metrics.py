import json

import numpy as np
import pytest

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.evaluate import evaluate_cases
from cmb_autoseg.evaluation.metrics import icc_agreement
from cmb_autoseg.evaluation.protocols import PROTOCOLS
from cmb_autoseg.evaluation.scores import score_case

VALDO = PROTOCOLS["valdo"]


@pytest.fixture
def cohort(phantom):
    """Three cases counted by hand: 2 hits, 1 miss, 3 false positives, one lesion-free scan."""
    return [
        ("a", phantom(np.s_[2, 2, 2:4], np.s_[2, 2, 10], np.s_[9, 9, 9]), phantom(np.s_[2, 2, 2], np.s_[2, 2, 10])),
        ("b", phantom(np.s_[0, 0, 0], np.s_[9, 9, 9]), phantom()),
        ("c", phantom(), phantom(np.s_[4, 4, 4])),
    ]


def test_every_figure_of_a_hand_counted_cohort(cohort):
    metrics = evaluate_cases(cohort, VALDO).metrics()

    assert (metrics["n_cases"], metrics["n_negative_cases"], metrics["n_lesions"]) == (3, 1, 3)
    lesion = {name: figure["value"] for name, figure in metrics["lesion"].items() if name != "froc"}
    assert lesion["sensitivity"] == pytest.approx(2 / 3)
    assert lesion["precision"] == pytest.approx(2 / 5)
    assert lesion["f1"] == pytest.approx(0.5)
    assert lesion["fp_per_scan"] == pytest.approx(1.0)
    assert lesion["fp_per_negative_scan"] == pytest.approx(2.0)
    # Case a: 2 / 2 found, 2 / 3 right, F1 0.8; b has no lesion; c 0.
    assert lesion["f1_per_subject_median"] == pytest.approx(0.4)
    voxel = {name: figure["value"] for name, figure in metrics["voxel"].items()}
    # 2 voxels in common, 4 predicted only, 1 marked only, of 24000.
    assert voxel["dice"] == pytest.approx(4 / 9)
    assert voxel["jaccard"] == pytest.approx(2 / 7)
    assert voxel["precision"] == pytest.approx(2 / 6)
    assert voxel["recall"] == pytest.approx(2 / 3)
    assert voxel["specificity"] == pytest.approx(23993 / 23997)
    assert voxel["dice_per_case_mean"] == pytest.approx((4 / 6 + 0 + 0) / 3)
    assert voxel["dice_of_hits"] == pytest.approx((2 / 3 + 1) / 2)
    count = {name: figure["value"] for name, figure in metrics["count"].items()}
    assert count["mean_absolute_error"] == pytest.approx((1 + 2 + 1) / 3)
    assert count["bias"] == pytest.approx((1 + 2 - 1) / 3)
    assert count["spearman"] == pytest.approx(0.5)  # ranks 3 2 1 against 3 1 2


def test_keys_and_shape_of_metrics_json(cohort):
    metrics = json.loads(json.dumps(evaluate_cases(cohort, VALDO).metrics(), allow_nan=False))

    expected = {
        "lesion": {"sensitivity", "precision", "f1", "fp_per_scan", "fp_per_negative_scan", "auc", "froc"},
        "voxel": {"dice", "jaccard", "precision", "recall", "specificity", "auc"},
        "count": {"mean_absolute_error", "bias", "spearman", "icc"},
        "patient": {"sensitivity", "specificity", "balanced_accuracy", "auc"},
    }
    assert {"protocol", "n_cases", "n_negative_cases", "n_lesions", *expected} <= metrics.keys()
    for group, names in expected.items():
        assert names <= metrics[group].keys()
        for name in metrics[group].keys() - {"froc"}:
            figure = metrics[group][name]
            assert set(figure) == ({"value", "ci"} if figure["value"] is not None else {"value", "ci", "why"})
    assert {"fp_per_scan", "sensitivity"} <= metrics["lesion"]["froc"].keys()
    assert metrics["patient"]["auc"]["why"]


def test_undefined_figures_say_why(phantom):
    metrics = evaluate_cases([("a", phantom(), phantom())], VALDO).metrics()

    assert metrics["lesion"]["sensitivity"] == {"value": None, "ci": None, "why": "no reference lesion"}
    assert metrics["lesion"]["precision"]["why"] == "no predicted lesion"
    assert metrics["lesion"]["f1"]["why"] == "no reference lesion"
    assert metrics["lesion"]["fp_per_negative_scan"]["value"] == 0
    assert metrics["voxel"]["dice"]["value"] is None


def test_a_scan_with_lesions_and_no_prediction_has_f1_zero(phantom):
    metrics = evaluate_cases([("a", phantom(), phantom(np.s_[1, 1, 1]))], VALDO).metrics()

    assert metrics["lesion"]["f1"]["value"] == 0
    assert metrics["lesion"]["precision"]["value"] is None


def test_under_overlap_precision_counts_predictions_and_sensitivity_lesions(phantom):
    two_lesions_in_one = ("a", phantom(np.s_[2:8, 5, 5]), phantom(np.s_[2:4, 5, 5], np.s_[6:8, 5, 5]))

    lesion = evaluate_cases([two_lesions_in_one], PROTOCOLS["overlap"]).metrics()["lesion"]

    assert (lesion["sensitivity"]["value"], lesion["precision"]["value"]) == (1.0, 1.0)


def test_a_bad_case_fails_with_its_reason_and_the_others_go_on(phantom, cohort):
    bad = ("bad", phantom(shape=(5, 5, 5), name="p"), phantom(shape=(6, 5, 5), name="r"))

    report = evaluate_cases([bad, *cohort], VALDO)

    assert len(report.cases) == 3
    assert report.failures[0].case == "bad"
    assert "shape (5, 5, 5) differs" in report.failures[0].reason


def test_voxels_of_a_small_image(phantom):
    shape = (2, 3, 4)
    predicted, reference = phantom(np.s_[0, 0, :3], shape=shape), phantom(np.s_[0, 0, 2:], shape=shape)

    voxels = score_case("a", predicted, reference, VALDO).voxels

    assert voxels.model_dump() == {"true_positive": 1, "false_positive": 2, "false_negative": 1, "true_negative": 20}


def test_reference_values_other_than_0_and_1_are_named(phantom):
    with pytest.raises(InputError, match=r"a: reference phantom holds 2, but only 0 and 1"):
        score_case("a", phantom(), phantom(np.s_[1, 1, 1], value=2), VALDO)


@pytest.mark.parametrize("value", [255.0, -1.0, np.nan])
def test_predictions_outside_0_to_1_are_refused(phantom, value):
    with pytest.raises(InputError, match="a: prediction phantom holds values from"):
        score_case("a", phantom(np.s_[1, 1, 1], value=value), phantom(), VALDO)


def test_icc_is_that_of_shrout_and_fleiss_1979():
    # Their table 2: six targets, four judges; table 4: ICC(2,1) = .29.
    ratings = np.array(
        [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], dtype=float
    )

    assert icc_agreement(ratings).value == pytest.approx(0.29, abs=0.005)
    assert icc_agreement(np.array([[1.0, 1], [3, 3], [8, 8]])).value == pytest.approx(1.0)
    assert icc_agreement(np.ones((4, 2))).why == "all counts are equal"
