"""From a study to the tables that publications show."""

from collections.abc import Mapping, Sequence

import numpy as np

from cmb_autoseg.evaluation.metrics.calibration import Reliability
from cmb_autoseg.evaluation.metrics.curves import PrecisionRecall
from cmb_autoseg.evaluation.metrics.figure import Figure
from cmb_autoseg.evaluation.metrics.lesion import FROC_POINTS
from cmb_autoseg.evaluation.metrics.patient import RULES, patient_counts
from cmb_autoseg.evaluation.metrics.severity import Confusion
from cmb_autoseg.evaluation.reporting.case_tables import best_worst, seconds_table
from cmb_autoseg.evaluation.reporting.figure_names import NAMES, definition_of, heading_of
from cmb_autoseg.evaluation.reporting.free_tables import FREE_TITLES, free_table
from cmb_autoseg.evaluation.reporting.group_tables import (
    protocol_definitions,
    protocols_table,
    strata_table,
    subgroups_table,
    system_differences,
    systems_table,
)
from cmb_autoseg.evaluation.reporting.study import Study
from cmb_autoseg.reporting.tables import Row, Table, interval_text

__all__ = ["build_tables", "calibration_bins", "definitions_table", "precision_at", "severity_table"]

MAIN = (
    *("sensitivity", "precision", "f1", "f1_per_subject_median", "fp_per_scan", "fp_per_lesion"),
    *("fp_per_negative_scan", "auc", "average_precision", "froc_score", "froc_area"),
)
RULE_NAMES = {
    "any": "1 or more lesions",
    "two_or_more": "2 or more",
    "more_than_4": "more than 4",
    "more_than_10": "more than 10",
}
PATIENT = (
    *("sensitivity", "specificity", "balanced_accuracy", "precision"),
    *("false_positive_rate", "false_negative_rate", "auc"),
)
SENSITIVITIES = (0.7, 0.8, 0.85, 0.9, 0.95)


def build_tables(
    study: Study,
    *,
    confusion: Confusion | None = None,
    precision_recall: PrecisionRecall | None = None,
    reliability: Reliability | None = None,
) -> list[Table]:
    """Every table that the study has something for, in the order of the page.

    Args:
        study: figures and cases.
        confusion: of classes of severity.
        precision_recall: for precision at given sensitivities.
        reliability: for the bins of calibration.
    """
    tables = [
        _values("main", "Lesion level", "lesion", study, MAIN),
        _operating_point(study.operating_point),
        protocols_table(study),
        protocol_definitions(study),
        _froc_rates(study.figures.get("lesion", {})),
        precision_at(precision_recall) if precision_recall else None,
        strata_table(study.strata),
        _patient(study),
        _patient_counts(study),
        severity_table(confusion) if confusion and study.cases else None,
        _values("severity_agreement", "Agreement of severity classes", "severity", study),
        _values("counts", "Agreement of counts", "count", study),
        _values("calibration", "Calibration of the candidates' confidence", "calibration", study),
        calibration_bins(reliability) if reliability else None,
        _values("voxel", "Voxel level", "voxel", study),
        _values("surface", "Surface distances of found lesions of 5 mm and more", "surface", study),
        subgroups_table(study.subgroups),
        systems_table(study.systems),
        system_differences(study.differences),
        *(
            free_table(name, FREE_TITLES.get(name, heading_of(f".{name}")), rows)
            for name, rows in study.more_rows.items()
        ),
        seconds_table(study.cases),
        best_worst(study.cases, study.protocol.name),
        definitions_table(study),
    ]
    return [table for table in tables if table is not None and table.rows]


def _values(name: str, title: str, group: str, study: Study, keys: Sequence[str] = ()) -> Table | None:
    """One row a figure of a group: value, both intervals, meaning."""
    figures = study.figures.get(group, {})
    rows = [
        {
            "figure": heading_of(f"{group}.{key}"),
            "value": figures[key],
            "percentile": interval_text(figures[key].ci_percentile),
            "definition": definition_of(f"{group}.{key}"),
        }
        for key in (keys or figures)
        if key in figures
    ]
    columns = {
        "figure": "figure",
        "value": "value (95 % CI)",
        "percentile": "percentile interval",
        "definition": "definition",
    }
    if not any(row["percentile"] for row in rows):
        del columns["percentile"]
    note = f"Protocol {study.protocol.name}; {len(study.cases)} cases." if group in ("lesion", "calibration") else ""
    return Table(name, title, columns, tuple(rows), (note,) if note else (), frozenset({"value"}))


def _operating_point(told: Mapping[str, str]) -> Table:
    rows = tuple({"setting": name, "value": value} for name, value in told.items())
    return Table("operating_point", "Operating point", {"setting": "setting", "value": "value"}, rows)


def _froc_rates(figures: Mapping[str, Figure]) -> Table:
    keys = {f"sensitivity_at_fp_{rate:g}": f"{rate:g}" for rate in FROC_POINTS}
    rows: list[Row] = [{"rate": shown, "sensitivity": figures[key]} for key, shown in keys.items() if key in figures]
    if "froc_score" in figures:
        rows.append({"rate": "mean of these", "sensitivity": figures["froc_score"]})
    note = "At each rate the best sensitivity of any threshold with no more false positives per scan."
    columns = {"rate": "FP per scan", "sensitivity": "lesion sensitivity (95 % CI)"}
    return Table("froc_rates", "Sensitivity at false positive rates", columns, tuple(rows), (note,))


def precision_at(curve: PrecisionRecall) -> Table:
    """Precision, and false positives per reference lesion, at the first threshold that reaches a sensitivity."""
    rows: list[Row] = []
    for wanted in SENSITIVITIES:
        reached = np.flatnonzero(curve.recall >= wanted - 1e-12)
        row: Row = {"wanted": f"{wanted:g}"}
        if len(reached):
            best = reached[np.argmax(curve.precision[reached])]
            recall, precision = float(curve.recall[best]), float(curve.precision[best])
            false = recall * (1 - precision) / precision if precision > 0 else None
            row |= {
                "threshold": float(curve.thresholds[best]),
                "sensitivity": recall,
                "precision": precision,
                "fp": false,
            }
        else:
            row |= {"threshold": "not reached"}
        rows.append(row)
    columns = {
        "wanted": "sensitivity of at least",
        "threshold": "threshold",
        "sensitivity": "sensitivity",
        "precision": "precision",
        "fp": "FP per CMB",
    }
    note = (
        "The best precision of any threshold that reaches the sensitivity, on these very cases: to describe the curve, "
        "not to choose a threshold."
    )
    rows = rows if len(curve.recall) else []
    return Table("precision_at_sensitivity", "Precision at sensitivities", columns, tuple(rows), (note,))


def _patient(study: Study) -> Table:
    figures = study.figures.get("patient", {})
    rows = []
    for rule in RULES:
        prefix = "" if rule == "any" else f"{rule}_"
        own = {f"patient.{key}": figures[f"{prefix}{key}"] for key in PATIENT if f"{prefix}{key}" in figures}
        if own:
            rows.append({"rule": RULE_NAMES.get(rule, rule), **own})
    columns = {"rule": "positive with", **{f"patient.{key}": heading_of(f"patient.{key}") for key in PATIENT}}
    return Table("patient", "Patient level", columns, tuple(rows))


def _patient_counts(study: Study) -> Table:
    rows = tuple(
        {"rule": RULE_NAMES.get(rule, rule), **patient_counts(study.cases, rule)}
        for rule in RULES
        if study.cases and "patient" in study.figures
    )
    columns = {
        "rule": "positive with",
        "true_positives": "true positive",
        "false_negatives": "false negative",
        "false_positives": "false positive",
        "true_negatives": "true negative",
    }
    note = "Cases; positive by the number of lesions in the reference, called positive by the number predicted."
    return Table("patient_counts", "Cases of the patient level", columns, rows, (note,))


def severity_table(confusion: Confusion) -> Table:
    """Cases by the class of their reference (rows) and of their prediction (columns)."""
    rows = tuple(
        {"reference": name, **{f"class_{n}": int(count) for n, count in enumerate(counts)}, "all": int(counts.sum())}
        for name, counts in zip(confusion.classes, confusion.table, strict=True)
    )
    predicted = {f"class_{n}": f"predicted {name}" for n, name in enumerate(confusion.classes)}
    note = "Cases by number of lesions: rows by the reference, columns by the prediction."
    columns = {"reference": "reference", **predicted, "all": "all"}
    return Table("severity", "Classes of severity", columns, rows, (note,))


def calibration_bins(found: Reliability) -> Table:
    rows = tuple(
        {
            "bin": f"{found.edges[n]:.2f} to {found.edges[n + 1]:.2f}",
            "n": int(found.n[n]),
            "confidence": _or_none(found.mean_confidence[n]),
            "right": _or_none(found.share_right[n]),
        }
        for n in range(len(found.n))
        if found.why is None
    )
    columns = {"bin": "confidence", "n": "candidates", "confidence": "mean confidence", "right": "share right"}
    return Table("reliability", "Bins of calibration", columns, rows)


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def definitions_table(study: Study) -> Table:
    """Of every figure that the study has."""
    present = [f"{group}.{key}" for group, figures in study.figures.items() for key in figures]
    rows = tuple(
        {"key": key, "figure": heading_of(key), "definition": definition_of(key)} for key in present if key in NAMES
    )
    columns = {"figure": "figure", "definition": "definition", "key": "key in metrics.json"}
    return Table("definitions", "Definitions of figures", columns, rows)
