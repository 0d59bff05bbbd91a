"""Areas of several systems: on which cases, and what there is no test of."""

import json

import numpy as np
import pytest

from cmb_autoseg.evaluation.case_score import CaseScore, Matching
from cmb_autoseg.evaluation.evaluation_report import EvaluationReport, ScoredSystem
from cmb_autoseg.evaluation.matching.lesion_set import LesionSet
from cmb_autoseg.evaluation.matching.protocols import PROTOCOLS
from cmb_autoseg.evaluation.reporting.area_tests import delong_rows, power_rows, with_confidence_in_common
from cmb_autoseg.evaluation.reporting.metrics_file import metrics_json, seconds_per_case
from cmb_autoseg.evaluation.reporting.report_files import write_report
from cmb_autoseg.evaluation.scoring import ScoringSettings
from cmb_autoseg.evaluation.statistics.delong import delong_test
from cmb_autoseg.evaluation.statistics.intervals import Resampling
from cmb_autoseg.files import read_tsv

TRUTH = (True, True, True, False, False, False)
OURS = (0.9, 0.4, 0.6, 0.5, 0.1, 0.2)
THEIRS = (0.3, 0.8, 0.6, 0.7, 0.4, 0.2)


def lesions(n, confidence=None):
    return LesionSet(
        kind="points",
        centres_mm=np.zeros((n, 3)),
        volumes_mm3=np.full(n, np.nan),
        regions=("unknown",) * n,
        confidence=confidence,
    )


def system(name, scores, seconds=None):
    """Cases of one finding with a confidence (None: without)."""
    cases = [
        CaseScore(
            case=f"c{number}",
            subject=f"s{number}",
            reference=lesions(int(is_positive)),
            predicted=lesions(0),
            matchings={name: Matching() for name in PROTOCOLS},
            candidates=None if score is None else lesions(1, np.array([score])),
            candidate_matchings={name: Matching() for name in PROTOCOLS},
            seconds=None if seconds is None else seconds[number],
        )
        for number, (score, is_positive) in enumerate(zip(scores, TRUTH, strict=True))
    ]
    return ScoredSystem(name, tuple(cases), None)


def test_all_areas_are_of_the_cases_with_confidence_in_common():
    """Neither a case without confidence nor a system without any takes the other cases and systems away."""
    partly = system("partly", (None, *THEIRS[1:]))
    systems = [system("ours", OURS), partly, system("mute", (None,) * 6)]

    first, second = delong_rows(systems)

    assert with_confidence_in_common(systems) == [1, 2, 3, 4, 5]
    assert [(row["system"], row["n_positive"], row["n_negative"]) for row in (first, second)] == [
        ("ours", 2, 3),
        ("partly", 2, 3),
    ]
    expected = delong_test(THEIRS[1:], OURS[1:], TRUTH[1:])
    assert (first["auc"], second["auc"]) == (pytest.approx(5 / 6), pytest.approx(5 / 6))
    assert (second["difference"], second["p"]) == (pytest.approx(expected.difference), pytest.approx(expected.p))
    assert (second["low"], second["high"]) == pytest.approx(expected.ci)
    (power,) = power_rows(systems)
    assert (power["against"], power["n_positive"], power["n_negative"]) == ("ours", 2, 3)


def test_no_test_without_variance_and_of_too_few():
    """One that is always right against one that knows nothing: DeLong's variances are 0, and tell nothing."""
    systems = [system("sure", [float(own) for own in TRUTH]), system("blind", [0.5] * 6)]
    row = delong_rows(systems)[1]
    assert (row["difference"], row["low"], row["high"], row["p"], row["p_holm"]) == (-0.5, None, None, None, None)
    assert power_rows(systems) == []
    few = [system("ours", (None, None, *OURS[2:])), system("theirs", THEIRS)]
    assert (delong_rows(few), power_rows(few), delong_rows([])) == ([], [], [])


def report_of(*systems, n_resamples=0):
    return EvaluationReport(
        settings=ScoringSettings(), cases=systems[0].cases, systems=systems, resampling=Resampling(n_resamples)
    )


def test_metrics_json_has_the_tests_and_what_they_are_of():
    partly = system("theirs", (None, *THEIRS[1:]))
    content = json.loads(json.dumps(metrics_json(report_of(system("ours", OURS, (1, 3, 5, 100, 2, 4)), partly))))
    assert content["compared_on"] == {"n_cases": 6, "n_subjects": 6, "n_cases_with_confidence": 5}
    assert [row["system"] for row in content["delong"]] == ["ours", "theirs"]
    assert [row["system"] for row in content["power"]] == ["theirs"]
    assert content["seconds"] == {"n": 6, "median": 3.5, "mean": pytest.approx(115 / 6)}
    assert "Clopper" in content["intervals"]["ci"]
    assert seconds_per_case(partly.cases) == {"n": 0, "median": None, "mean": None}


@pytest.mark.parametrize("is_blind", [False, True])
def test_files_tell_the_median_second_and_name_tables_that_are_there(tmp_path, is_blind):
    sure, other = system("sure", [float(own) for own in TRUTH], (1, 3, 5, 100, None, None)), system("other", THEIRS)
    blind = system("blind", [0.5] * 6)

    write_report(report_of(sure, blind if is_blind else other, n_resamples=20), tmp_path)

    checklists, page = (tmp_path / "checklists.md").read_text(), (tmp_path / "report.html").read_text()
    assert ("see the table of power" in checklists) == (not is_blind)
    assert (tmp_path / "tables" / "power.tsv").exists() == (not is_blind)
    assert "median 4.0 s of 4 cases" in checklists
    assert float(read_tsv(tmp_path / "tables" / "seconds.tsv")[0]["median"]) == 4
    assert "Clopper and Pearson" in page
