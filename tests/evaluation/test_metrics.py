import json

import numpy as np
import pytest

from cmb_autoseg.evaluation.reporting.metrics_file import metrics_json


@pytest.fixture
def cohort(phantom):
    """Three cases counted by hand: 2 hits, 1 miss, 3 false positives, one lesion-free scan."""
    return [
        ("a", phantom(np.s_[2, 2, 2:4], np.s_[2, 2, 10], np.s_[9, 9, 9]), phantom(np.s_[2, 2, 2], np.s_[2, 2, 10])),
        ("b", phantom(np.s_[0, 0, 0], np.s_[9, 9, 9]), phantom()),
        ("c", phantom(), phantom(np.s_[4, 4, 4])),
    ]


def test_every_figure_of_a_hand_counted_cohort(cohort, evaluated):
    metrics = metrics_json(evaluated(cohort))

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


def test_keys_and_shape_of_metrics_json(cohort, evaluated):
    metrics = json.loads(json.dumps(metrics_json(evaluated(cohort)), allow_nan=False))

    expected = {
        "lesion": {"sensitivity", "precision", "f1", "fp_per_scan", "fp_per_negative_scan", "auc", "froc"},
        "voxel": {"dice", "jaccard", "precision", "recall", "specificity", "auc"},
        "count": {"mean_absolute_error", "bias", "spearman", "icc"},
        "patient": {"sensitivity", "specificity", "balanced_accuracy", "auc"},
    }
    assert {"protocol", "n_cases", "n_negative_cases", "n_lesions", *expected} <= metrics.keys()
    for group, names in expected.items():
        assert names <= metrics[group].keys()
        for name in metrics[group].keys() - {"froc", "counts"}:
            figure = metrics[group][name]
            assert set(figure) == ({"value", "ci"} if figure["value"] is not None else {"value", "ci", "why"})
    assert {"fp_per_scan", "sensitivity"} <= metrics["lesion"]["froc"].keys()
    assert metrics["patient"]["auc"]["why"]


def test_undefined_figures_say_why(phantom, evaluated):
    metrics = metrics_json(evaluated([("a", phantom(), phantom())]))

    assert metrics["lesion"]["sensitivity"] == {"value": None, "ci": None, "why": "no reference lesion"}
    assert metrics["lesion"]["precision"]["why"] == "no predicted lesion"
    assert metrics["lesion"]["f1"]["why"] == "no reference lesion"
    assert metrics["lesion"]["fp_per_negative_scan"]["value"] == 0
    assert metrics["voxel"]["dice"]["value"] is None


def test_a_scan_with_lesions_and_no_prediction_has_f1_zero(phantom, evaluated):
    metrics = metrics_json(evaluated([("a", phantom(), phantom(np.s_[1, 1, 1]))]))

    assert metrics["lesion"]["f1"]["value"] == 0
    assert metrics["lesion"]["precision"]["value"] is None


def test_under_overlap_precision_counts_predictions_and_sensitivity_lesions(phantom, evaluated):
    two_lesions_in_one = ("a", phantom(np.s_[2:8, 5, 5]), phantom(np.s_[2:4, 5, 5], np.s_[6:8, 5, 5]))

    lesion = metrics_json(evaluated([two_lesions_in_one], protocol="overlap40"))["lesion"]

    assert (lesion["sensitivity"]["value"], lesion["precision"]["value"]) == (1.0, 1.0)


def test_a_bad_case_fails_with_its_reason_and_the_others_go_on(phantom, cohort, evaluated):
    bad = ("bad", phantom(shape=(5, 5, 5), name="p"), phantom(shape=(6, 5, 5), name="r"))

    report = evaluated([bad, *cohort])

    assert len(report.cases) == 3
    assert report.failures[0].case == "bad"
    assert "shape (5, 5, 5) differs" in report.failures[0].reason


def test_voxels_of_a_small_image(phantom, evaluated):
    shape = (2, 3, 4)
    predicted, reference = phantom(np.s_[0, 0, :3], shape=shape), phantom(np.s_[0, 0, 2:], shape=shape)

    (case,) = evaluated([("a", predicted, reference)]).cases

    assert case.voxels.model_dump() == {
        "true_positive": 1,
        "false_positive": 2,
        "false_negative": 1,
        "true_negative": 20,
    }
