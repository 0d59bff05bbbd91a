"""An evaluation as the content of `metrics.json`, and as the text that the terminal shows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cmb_autoseg.evaluation.case_score import CaseScore
from cmb_autoseg.evaluation.evaluation_report import EvaluationReport
from cmb_autoseg.evaluation.metrics.calibration import reliability
from cmb_autoseg.evaluation.metrics.confidences import n_without_confidence
from cmb_autoseg.evaluation.metrics.count import bland_altman
from cmb_autoseg.evaluation.metrics.curves import froc, lesion_roc, patient_roc, precision_recall
from cmb_autoseg.evaluation.metrics.figure import Figure
from cmb_autoseg.evaluation.metrics.patient import RULES, patient_counts
from cmb_autoseg.evaluation.metrics.severity import severity_confusion
from cmb_autoseg.evaluation.metrics.voxel import n_without_voxels
from cmb_autoseg.evaluation.reporting.area_tests import delong_rows, power_rows, with_confidence_in_common
from cmb_autoseg.evaluation.reporting.study import Group

__all__ = ["metrics_json", "seconds_per_case", "summary"]

SHOWN = {
    "lesion sensitivity": ("lesion", "sensitivity"),
    "lesion precision": ("lesion", "precision"),
    "lesion F1": ("lesion", "f1"),
    "lesion F1, median of cases": ("lesion", "f1_per_subject_median"),
    "false positives per scan": ("lesion", "fp_per_scan"),
    "false positives per lesion-free scan": ("lesion", "fp_per_negative_scan"),
    "average precision": ("lesion", "average_precision"),
    "FROC, mean sensitivity": ("lesion", "froc_score"),
    "voxel Dice": ("voxel", "dice"),
    "voxel Dice, mean of cases": ("voxel", "dice_per_case_mean"),
    "count, mean absolute error": ("count", "mean_absolute_error"),
    "count, bias": ("count", "bias"),
    "patient sensitivity (any lesion)": ("patient", "sensitivity"),
    "patient specificity (any lesion)": ("patient", "specificity"),
}
"""Rows of the text; the JSON has them all."""


def metrics_json(report: EvaluationReport) -> dict[str, Any]:
    """The content of `metrics.json`."""
    cases, protocol = report.cases, report.settings.protocol
    groups: dict[str, Any] = {group: _plain(figures) for group, figures in report.figures.items()}
    curve = froc(cases, protocol).as_json()
    groups["lesion"]["froc"] = {key: curve[key] for key in ("fp_per_scan", "sensitivity", "thresholds", "why")}
    groups["patient"]["counts"] = {rule: patient_counts(cases, rule) for rule in RULES}
    groups["severity"]["confusion"] = severity_confusion(cases).as_json()
    return {
        "protocol": protocol,
        "definition": report.protocol.defined,
        "lesion_rule": report.settings.rule.told,
        "operating_point": None if report.point is None else report.point.model_dump(mode="json"),
        "n_cases": len(cases),
        "n_subjects": len({case.subject for case in cases}),
        "n_negative_cases": sum(not len(case.reference) for case in cases),
        "n_lesions": sum(len(case.reference) for case in cases),
        "n_predicted_lesions": sum(len(case.predicted) for case in cases),
        "n_failed_cases": len(report.failures),
        "n_cases_without_voxels": n_without_voxels(cases),
        "n_cases_without_confidence": n_without_confidence(cases),
        "intervals": {
            "ci": "BCa, percentile where BCa is undefined; Wilson for shares of people with one scan each; Clopper and "
            "Pearson with one trial a subject for other shares of exactly 0 or 1",
            "ci_percentile": "percentile",
            "level": report.resampling.level,
            "resamples": report.resampling.n_resamples,
            "seed": report.resampling.seed,
            "drawn": "subjects, with all their cases",
        },
        **groups,
        "seconds": seconds_per_case(cases),
        "curves": {
            "precision_recall": precision_recall(cases, protocol).as_json(),
            "lesion_roc": lesion_roc(cases, protocol).as_json(),
            "patient_roc": patient_roc(cases).as_json(),
            "reliability": reliability(cases, protocol).as_json(),
            "bland_altman": bland_altman(cases).as_json(),
        },
        "strata": [_group(group) for group in report.strata],
        "subgroups": [_group(group) for group in report.of_subgroups],
        "protocols": {
            name: {"definition": report.settings.protocols[name].defined, **_plain(figures)}
            for name, figures in report.by_protocol.items()
        },
        "systems": {name: _plain(figures) for name, figures in report.of_systems.items()},
        "compared_on": _compared_on(report),
        "differences": [_plain(row) for row in report.differences],
        "delong": delong_rows(report.systems),
        "power": power_rows(report.systems),
        "warnings": list(report.warnings),
    }


def seconds_per_case(cases: Sequence[CaseScore]) -> dict[str, float | None]:
    """Median and mean of what predictions took, and of how many cases it is known; None where of none."""
    known = [case.seconds for case in cases if case.seconds is not None]
    if not known:
        return {"n": 0, "median": None, "mean": None}
    return {"n": len(known), "median": float(np.median(known)), "mean": float(np.mean(known))}


def _compared_on(report: EvaluationReport) -> dict[str, int]:
    """Sizes of what several systems are compared on."""
    if not report.systems:
        return {}
    common = report.systems[0].cases
    return {
        "n_cases": len(common),
        "n_subjects": len({case.subject for case in common}),
        "n_cases_with_confidence": len(with_confidence_in_common(report.systems)),
    }


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value.model_dump(mode="json") if hasattr(value, "model_dump") else value for key, value in values.items()
    }


def _group(group: Group) -> dict[str, Any]:
    about = {"by": group.by, "name": group.name, **group.counts}
    return {**about, **_plain(group.figures), **({"warning": group.warning} if group.warning else {})}


def summary(report: EvaluationReport) -> str:
    """The main figures as aligned plain text."""
    negative = sum(not len(case.reference) for case in report.cases)
    subjects = len({case.subject for case in report.cases})
    of_subjects = f" of {subjects} subjects" if subjects < len(report.cases) else ""
    rows: list[tuple[str, str]] = [
        ("protocol", report.settings.protocol),
        *([("threshold", f"{report.point.threshold:.6g} ({report.point.rule})")] if report.point else []),
        ("cases", f"{len(report.cases)}{of_subjects} ({negative} without lesions)"),
        ("reference lesions", str(sum(len(case.reference) for case in report.cases))),
        *((title, as_text(report.figures[group][key])) for title, (group, key) in SHOWN.items()),
    ]
    if report.failures:
        rows.append(("failed cases", f"{len(report.failures)} (not in the figures; see failures.tsv)"))
    return "\n".join(_aligned(rows))


def _aligned(rows: Sequence[tuple[str, str]]) -> list[str]:
    width = max(len(title) for title, _ in rows)
    return [f"{title:<{width}}  {value}" for title, value in rows]


def as_text(figure: Figure) -> str:
    if figure.value is None:
        return f"n/a ({figure.why})"
    interval = "" if figure.ci is None else f" ({figure.ci[0]:.3f} to {figure.ci[1]:.3f})"
    return f"{figure.value:.3f}{interval}"
