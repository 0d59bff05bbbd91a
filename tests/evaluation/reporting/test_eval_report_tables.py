"""Tables of a report: what they hold, against counts by hand of the same cases."""

import numpy as np
import pytest

from cmb_autoseg.evaluation.case_score import CaseScore
from cmb_autoseg.evaluation.matching.protocols import PROTOCOLS
from cmb_autoseg.evaluation.metrics.curves import PrecisionRecall
from cmb_autoseg.evaluation.metrics.figure import Figure, undefined
from cmb_autoseg.evaluation.metrics.severity import Confusion
from cmb_autoseg.evaluation.reporting.build_tables import build_tables, precision_at, severity_table
from cmb_autoseg.evaluation.reporting.figure_names import NAMES
from cmb_autoseg.evaluation.reporting.free_tables import free_table
from cmb_autoseg.evaluation.reporting.group_tables import FEW, subgroups_table, system_differences
from cmb_autoseg.evaluation.reporting.study import Group, Study
from cmb_autoseg.evaluation.statistics.paired import Difference
from cmb_autoseg.reporting.table_files import write_tables

PUBLISHED = {
    *("main", "operating_point", "protocols", "protocol_definitions", "froc_rates", "precision_at_sensitivity"),
    *("strata", "patient", "patient_counts", "severity", "severity_agreement", "counts", "calibration", "reliability"),
    *("voxel", "surface", "subgroups", "systems", "system_differences", "reader_verdicts", "seconds", "best_worst"),
    "definitions",
}


@pytest.fixture
def by_name(tables):
    return {table.name: table for table in tables}


def test_every_table_of_the_publications_is_there(by_name):
    assert set(by_name) == PUBLISHED
    for table in by_name.values():
        assert set(table.columns) <= {key for row in table.rows for key in row} | {"fp"}, table.name


def test_figures_are_those_of_the_study(by_name, study):
    rows = {row["figure"]: row for row in by_name["main"].rows}
    assert rows["lesion F1"]["value"] == study.figures["lesion"]["f1"]
    low, high = study.figures["lesion"]["f1"].ci_percentile
    assert rows["lesion F1"]["percentile"] == f"{low:.3f} to {high:.3f}"
    rates = {row["rate"]: row["sensitivity"] for row in by_name["froc_rates"].rows}
    assert rates["0.125"] == study.figures["lesion"]["sensitivity_at_fp_0.125"]
    assert list(rates) == ["0.125", "0.25", "0.5", "1", "2", "4", "8", "mean of these"]
    patient = {row["rule"]: row for row in by_name["patient"].rows}
    assert patient["1 or more lesions"]["patient.auc"] == study.figures["patient"]["auc"]
    assert patient["more than 4"]["patient.sensitivity"] == study.figures["patient"]["more_than_4_sensitivity"]


def test_two_by_two_counts_are_counted_again_by_hand(by_name, cases):
    row = {row["rule"]: row for row in by_name["patient_counts"].rows}["2 or more"]
    pairs = [(len(case.predicted) >= 2, len(case.reference) >= 2) for case in cases]
    names = {(True, True): "true_positives", (True, False): "false_positives", (False, True): "false_negatives"}
    for pair, name in (*names.items(), ((False, False), "true_negatives")):
        assert row[name] == pairs.count(pair)


def test_every_figure_of_a_report_has_a_name_and_a_definition(study):
    apart = ("lesion.sensitivity_at_fp_", "patient.two_", "patient.more_")
    for group, figures in study.figures.items():
        for key in figures:
            name = f"{group}.{key}"
            assert name in NAMES or name.startswith(apart), name
    assert all(heading and meaning for heading, meaning in NAMES.values())
    assert len({heading for heading, _ in NAMES.values()}) == len(NAMES), "no two figures of one name"


def test_protocols_stand_side_by_side(by_name):
    assert [row["protocol"] for row in by_name["protocols"].rows] == ["valdo (in force)", "overlap40"]
    assert "40 %" in by_name["protocol_definitions"].rows[1]["definition"]


def test_precision_at_a_sensitivity_is_the_best_that_reaches_it():
    recall, precision = np.array([0.5, 0.8, 0.9, 0.95]), np.array([1.0, 0.8, 0.9, 0.5])
    curve = PrecisionRecall(np.array([0.9, 0.7, 0.5, 0.1]), 0, None, None, recall, precision)
    rows = {row["wanted"]: row for row in precision_at(curve).rows}
    assert (rows["0.8"]["precision"], rows["0.8"]["threshold"]) == (0.9, 0.5)
    # At sensitivity 0.95 and precision 0.5 there are as many false ones as found ones: 0.95 a lesion.
    assert rows["0.95"]["fp"] == pytest.approx(0.95)
    short = PrecisionRecall(np.array([0.9]), 0, None, None, np.array([0.4]), np.array([1.0]))
    assert precision_at(short).rows[0] == {"wanted": "0.7", "threshold": "not reached"}


def test_severity_has_references_in_rows():
    table = severity_table(Confusion(("0", "1"), np.array([[3, 1], [0, 2]])))
    assert [list(row.values()) for row in table.rows] == [["0", 3, 1, 4], ["1", 0, 2, 2]]


def test_small_groups_are_marked_and_told():
    figures = {"lesion.f1": Figure(value=0.5)}
    groups = [
        Group("age", "old", {"cases": 3}, figures, "age old: small group, 3 subjects", "3 subjects"),
        Group("age", "young", {"cases": 90}, figures),
    ]
    table = subgroups_table(groups)
    assert [row["few"] for row in table.rows] == ["3 subjects", None]
    assert table.notes == (FEW,), "once, however many groups are small"
    assert table.for_programs == ("warning",)
    assert "few" not in subgroups_table(groups[1:]).columns


def test_a_difference_without_value_says_why():
    nothing = Difference(value=None, n_subjects=3, why="no reference lesion")
    table = system_differences(
        [{"figure": "lesion.f1", "system": "a", "against": "b", "difference": nothing, "p": None}]
    )
    assert table.rows[0]["difference"] == undefined("no reference lesion")
    assert table.rows[0]["figure"] == "lesion F1"


def made_difference(figure, system):
    found = Difference(value=-0.1, ci=(-0.2, 0.0), ci_percentile=(-0.21, -0.01), p=0.03, n_subjects=30)
    corrected = {"p_holm": 0.03, "p_bh": 0.03, "p_wilcoxon": 0.2, "p_wilcoxon_holm": 0.2}
    return {"figure": figure, "system": system, "against": "a", "difference": found, "p": 0.03, **corrected}


def test_p_stands_beside_the_interval_that_it_belongs_to():
    table = system_differences([made_difference("lesion.f1", "b"), made_difference("lesion.f1", "c")])
    assert table.rows[0]["percentile"] == "-0.210 to -0.010"
    assert {"percentile", "p", "p_holm", "p_bh", "p_wilcoxon_holm"} <= table.columns.keys()
    assert "belongs to the percentile interval" in " ".join(table.notes)


def test_one_comparison_of_a_figure_has_no_corrected_p():
    table = system_differences([made_difference("lesion.f1", "b"), made_difference("voxel.dice", "b")])
    assert not {"p_holm", "p_bh", "p_wilcoxon_holm"} & table.columns.keys()
    assert set(table.for_programs) == {"p_holm", "p_bh", "p_wilcoxon_holm"}
    assert "nothing to correct for" in " ".join(table.notes)
    base, other = {"system": "a", "auc": 0.9, "p_holm": None}, {"system": "b", "p": 0.5, "p_holm": 0.5}
    assert "p_holm" not in free_table("delong", "t", [base, other]).columns
    assert "p_holm" in free_table("delong", "t", [base, other, {"system": "c", "p": 0.5, "p_holm": 1.0}]).columns


def test_p_values_come_last_and_keep_their_digits():
    table = free_table("delong", "t", [{"p_holm": 0.00012, "system": "a", "auc": 0.9}, {"system": "b", "p": 0.5}])
    assert list(table.columns) == ["system", "auc", "p", "p_holm"]
    assert table.columns["p_holm"] == "p (Holm)"


def test_a_study_without_anything_has_no_tables_but_does_not_fail(tmp_path):
    cases: list[CaseScore] = []
    assert build_tables(Study(PROTOCOLS["valdo"], cases, {})) == []


def test_all_files_of_all_tables_are_written_alike_twice(tables, tmp_path):
    write_tables(tables, tmp_path, "simulated")
    assert len(list(tmp_path.iterdir())) == 4 * len(tables)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write_tables(tables, tmp_path, "simulated")
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert "nan" not in " ".join(before["main.tsv"].decode().lower().split())
