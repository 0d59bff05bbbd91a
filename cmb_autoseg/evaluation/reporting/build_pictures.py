"""From a study and its curves to the figures that publications show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cmb_autoseg.evaluation.metrics.calibration import Reliability
from cmb_autoseg.evaluation.metrics.curves import Froc, PrecisionRecall, Roc
from cmb_autoseg.evaluation.metrics.figure import Figure
from cmb_autoseg.evaluation.metrics.patient import lesion_counts
from cmb_autoseg.evaluation.reporting.agreement_figures import draw_bland_altman, draw_counts, draw_reliability
from cmb_autoseg.evaluation.reporting.curve_figures import Line, draw_froc, draw_precision_recall, draw_roc
from cmb_autoseg.evaluation.reporting.figure_names import heading_of
from cmb_autoseg.evaluation.reporting.forest_figures import ForestLine, draw_forest
from cmb_autoseg.evaluation.reporting.study import Group, Study
from cmb_autoseg.reporting.pictures import Picture
from cmb_autoseg.reporting.tables import shown

__all__ = ["Curves", "build_pictures"]

SHARES = ("lesion.sensitivity", "lesion.precision", "lesion.f1")
SIZE, REGION = "size", "region"


@dataclass(frozen=True)
class Curves:
    """Of `metrics.curves` and `metrics.calibration`; None where not worked out."""

    froc: Froc | None = None
    precision_recall: PrecisionRecall | None = None
    lesion_roc: Roc | None = None
    patient_roc: Roc | None = None
    reliability: Reliability | None = None
    systems_froc: Mapping[str, Froc] = field(default_factory=dict)
    """By the system's name, where there are several."""


def build_pictures(study: Study, curves: Curves) -> list[Picture]:
    """Every figure that there is something for; curves without points are left out."""
    drawn = [
        *_curve_pictures(study, curves),
        *_count_pictures(study),
        _strata(study.strata, SIZE, "Sensitivity by size of the lesion"),
        _strata(study.strata, REGION, "Sensitivity by region"),
        _protocols(study),
        _subgroups(study, "subgroups", "Subgroups: lesion F1", "lesion.f1"),
        _subgroups(study, "subgroups_fp", "Subgroups: false positives per scan", "lesion.fp_per_scan"),
        _systems(study.systems),
        _differences(study),
    ]
    return [picture for picture in drawn if picture is not None]


def _curve_pictures(study: Study, curves: Curves) -> list[Picture]:
    lesion = study.figures.get("lesion", {})
    patient = study.figures.get("patient", {})
    found: list[Picture] = []
    if curves.froc is not None and curves.froc.why is None:
        point = _point(lesion, "fp_per_scan", "sensitivity")
        found.append(draw_froc([_froc_line(curves.froc, point=point, area=_area(lesion, "froc_score", "FROC score"))]))
    if curves.precision_recall is not None and curves.precision_recall.why is None:
        curve = curves.precision_recall
        area = _area(lesion, "average_precision", "average precision")
        point = _point(lesion, "sensitivity", "precision")
        found.append(
            draw_precision_recall([Line(curve.recall, curve.precision, band=curve.band, point=point, area=area)])
        )
    if curves.lesion_roc is not None and curves.lesion_roc.why is None:
        line = _roc_line(curves.lesion_roc, _area(lesion, "auc", "AUC"))
        what = "right against false candidates by their mean probability; missed lesions are not in it"
        found.append(draw_roc([line], "lesion_roc", "ROC of candidates", "candidates", what))
    if curves.patient_roc is not None and curves.patient_roc.why is None:
        point = _point(patient, "false_positive_rate", "sensitivity")
        line = _roc_line(curves.patient_roc, _area(patient, "auc", "AUC"), point)
        what = "cases with microbleeds against cases without, by the confidence of the surest finding"
        found.append(draw_roc([line], "patient_roc", "ROC of patients", "patients", what))
    several = [_froc_line(curve, label) for label, curve in curves.systems_froc.items() if curve.why is None]
    if len(several) > 1:
        found.append(draw_froc(several, "FROC of the systems", "systems_froc"))
    if curves.reliability is not None and curves.reliability.why is None:
        found.append(draw_reliability(curves.reliability, study.figures.get("calibration", {}).get("ece")))
    return found


def _froc_line(curve: Froc, label: str = "", point: tuple[float, float] | None = None, area: str = "") -> Line:
    return Line(curve.fp_per_scan, curve.sensitivity, label, curve.band, point, area)


def _roc_line(curve: Roc, area: str, point: tuple[float, float] | None = None) -> Line:
    return Line(curve.false_positive_rate, curve.sensitivity, band=curve.band, point=point, area=area)


def _area(figures: Mapping[str, Figure], key: str, name: str) -> str:
    figure = figures.get(key)
    return f"{name} {shown(figure)}" if figure is not None and figure.value is not None else ""


def _point(figures: Mapping[str, Figure], across: str, up: str) -> tuple[float, float] | None:
    x, y = (figures[key].value if key in figures else None for key in (across, up))
    return None if x is None or y is None else (x, y)


def _count_pictures(study: Study) -> list[Picture]:
    figures = study.figures.get("count")
    if not study.cases or figures is None:
        return []
    predicted, reference = lesion_counts(study.cases).T
    ends = [
        figures[key].value if key in figures else None for key in ("limit_of_agreement_low", "limit_of_agreement_high")
    ]
    limits = tuple(np.nan if end is None else end for end in ends)
    return [
        draw_counts(predicted, reference, figures.get("spearman")),
        draw_bland_altman(predicted, reference, figures["bias"], (limits[0], limits[1])),
    ]


def _strata(strata: Sequence[Group], by: str, title: str) -> Picture | None:
    lines = [
        ForestLine(
            f"{group.name} (n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{group.counts.get('lesions', 0)})",
            {"": group.figures["lesion.sensitivity"]},
            bool(group.warning),
        )
        for group in strata
        if group.by == by and group.counts.get("lesions")
    ]
    caption = "Share of reference lesions found, with the number of them."
    return draw_forest(lines, f"strata_{by}", title, "lesion sensitivity", caption)


def _protocols(study: Study) -> Picture | None:
    lines = [
        ForestLine(name, {heading_of(key): figures[key.partition(".")[2]] for key in SHARES})
        for name, figures in study.by_protocol.items()
    ]
    caption = "The same predictions under every protocol."
    return draw_forest(lines, "protocols", "Protocols side by side", "share", caption)


def _subgroups(study: Study, name: str, title: str, key: str) -> Picture | None:
    lines = [
        ForestLine(
            f"{group.by}: {group.name} (n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{group.counts.get('cases', 0)})",
            {"": group.figures[key]},
            bool(group.warning),
        )
        for group in study.subgroups
        if key in group.figures
    ]
    part, _, figure = key.partition(".")
    whole = study.figures.get(part, {}).get(figure)
    at = whole.value if whole else None
    caption = "By group, with the number of cases." + (" Dotted: over all cases." if at is not None else "")
    return draw_forest(lines, name, title, heading_of(key), caption, at)


def _systems(systems: Mapping[str, Mapping[str, Figure]]) -> Picture | None:
    lines = [
        ForestLine(name, {heading_of(key): figures[key] for key in SHARES if key in figures})
        for name, figures in systems.items()
    ]
    return draw_forest(lines, "systems", "Systems side by side", "share", "Each system on the same cases.")


def _differences(study: Study) -> Picture | None:
    wanted = [row for row in study.differences if row["figure"] in SHARES]
    lines = [
        ForestLine(
            f"{heading_of(row['figure'])}: {row['system']} - {row['against']}",
            {"": Figure(value=row["difference"].value, ci=row["difference"].ci, why=row["difference"].why)},
        )
        for row in wanted
    ]
    caption = "Paired differences; right of the dotted line the first system has the higher figure."
    return draw_forest(lines, "system_differences", "Differences between systems", "difference", caption, 0.0)
