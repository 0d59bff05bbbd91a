"""What an evaluation leaves behind: tables, figures, checklists, one page, and everything again for programs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cmb_autoseg.evaluation.evaluation_report import KEY_FIGURES, EvaluationReport
from cmb_autoseg.evaluation.metrics.calibration import reliability
from cmb_autoseg.evaluation.metrics.curves import Froc, froc, lesion_roc, patient_roc, precision_recall
from cmb_autoseg.evaluation.metrics.figure import Figure
from cmb_autoseg.evaluation.metrics.severity import severity_confusion
from cmb_autoseg.evaluation.readers.reader_files import reader_rows
from cmb_autoseg.evaluation.readers.reader_study import ReaderStudy
from cmb_autoseg.evaluation.reporting.area_tests import delong_rows, power_rows
from cmb_autoseg.evaluation.reporting.build_pictures import Curves, build_pictures
from cmb_autoseg.evaluation.reporting.build_tables import build_tables
from cmb_autoseg.evaluation.reporting.checklist import as_markdown, fill_checklists
from cmb_autoseg.evaluation.reporting.figure_names import CANDIDATE, heading_of
from cmb_autoseg.evaluation.reporting.flow import FlowStep, flow_text
from cmb_autoseg.evaluation.reporting.metrics_file import as_text, metrics_json, seconds_per_case
from cmb_autoseg.evaluation.reporting.page import CaseView, PageContent, render
from cmb_autoseg.evaluation.reporting.rows import CASE_COLUMNS, FAILURE_COLUMNS, MATCH_COLUMNS, case_rows, match_rows
from cmb_autoseg.evaluation.reporting.shown_files import write_shown
from cmb_autoseg.evaluation.reporting.study import Study
from cmb_autoseg.evaluation.statistics.bootstrap import subject_weights
from cmb_autoseg.files import writable_folder, write_json, write_text, write_tsv
from cmb_autoseg.reporting.tables import Table
from cmb_autoseg.run_log import versions

__all__ = ["Provenance", "write_report"]

TITLE = "Evaluation of microbleed predictions"
LIBRARIES = ("statsmodels", "surface-distance-based-measures", "matplotlib")
"""That figures of an evaluation hang on, beside those of every run."""
HEADLINE = ("lesion.sensitivity", "lesion.precision", "lesion.f1", "lesion.fp_per_scan", "patient.sensitivity")


@dataclass(frozen=True)
class Provenance:
    """Where the evaluated cases come from, as far as it is known."""

    data: str = ""
    """Kind of data where it is not of patients, such as `simulated`."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """By a key of `checklist.FACTS`: what the records of the run and of the model say."""
    case_views: Sequence[CaseView] = ()
    """Best and worst cases in pictures."""


def write_report(
    report: EvaluationReport, folder: Path, provenance: Provenance | None = None, readers: ReaderStudy | None = None
) -> None:
    """Write `metrics.json`, tables, figures, checklists and `report.html`; `metrics.json` comes last.

    Raises:
        OutputError: `folder` cannot be made or written to.
    """
    provenance = provenance or Provenance()
    writable_folder(folder)
    # What vouches for an earlier evaluation must not stand beside the files of this one, should it be stopped.
    for name in ("metrics.json", "report.html"):
        (folder / name).unlink(missing_ok=True)
    cases, protocol = report.cases, report.settings.protocol
    write_tsv(folder / "per_case.tsv", CASE_COLUMNS, case_rows(cases, protocol))
    write_tsv(folder / "matches.tsv", MATCH_COLUMNS, match_rows(cases, protocol))
    failures = (*report.failures, *report.other_failures)
    write_tsv(folder / "failures.tsv", FAILURE_COLUMNS, [failure.row() for failure in failures])
    study, curves = _study(report, readers), _curves(report)
    tables = build_tables(
        study,
        confusion=severity_confusion(cases),
        precision_recall=curves.precision_recall,
        reliability=curves.reliability,
    )
    pictures = build_pictures(study, curves)
    write_shown(tables, pictures, provenance.case_views, folder, provenance.data)
    facts = _facts(report, provenance, study)
    checklists = fill_checklists(facts)
    write_text(folder / "checklists.md", as_markdown(checklists))
    page = PageContent(
        title=TITLE,
        protocol=protocol,
        definition=report.protocol.defined,
        data=provenance.data,
        facts=_told(report, facts),
        flow=_flow(report),
        headline={heading_of(name): _figure(report, name) for name in HEADLINE},
        tables=[*tables, *_long_tables(report)],
        pictures=pictures,
        cases=provenance.case_views,
        failures=[(failure.case, failure.reason) for failure in report.failures],
        warnings=report.warnings,
        definitions={"lesion": report.settings.rule.told, "candidate": CANDIDATE},
        undefined=_undefined(report),
        statistics=_statistics(report),
        checklists=checklists,
        versions=versions(*LIBRARIES),
    )
    write_text(folder / "report.html", render(page))
    readers_json = {} if readers is None else {"reader_study": readers.model_dump(mode="json")}
    write_json(folder / "metrics.json", {**metrics_json(report), **readers_json})


def _study(report: EvaluationReport, readers: ReaderStudy | None) -> Study:
    more_rows: dict[str, Sequence[dict[str, Any]]] = {} if readers is None else {**reader_rows(readers)}
    if report.systems:
        more_rows |= {"delong": delong_rows(report.systems), "power": power_rows(report.systems)}
    return Study(
        protocol=report.protocol,
        cases=report.cases,
        figures=report.figures,
        limits=report.settings.protocols,
        by_protocol=report.by_protocol,
        strata=report.strata,
        subgroups=report.of_subgroups,
        systems=report.of_systems,
        differences=report.differences,
        more_rows={name: rows for name, rows in more_rows.items() if rows},
        operating_point=_operating_point(report),
    )


def _operating_point(report: EvaluationReport) -> dict[str, str]:
    point = report.point
    if point is None:
        return {"threshold": "masks and lists as they are; probability maps without a mask at 0.5"}
    measured = {
        "sensitivity there": point.sensitivity,
        "precision there": point.precision,
        "F1 there": point.f1,
        "false positives per scan there": point.fp_per_scan,
    }
    shown = {name: f"{value:.3f}" for name, value in measured.items() if value is not None}
    return {"threshold": repr(point.threshold), "name": point.name, "chosen by": point.rule, **shown}


def _threshold(report: EvaluationReport) -> str:
    told = _operating_point(report)
    return "; ".join((told.pop("threshold"), *(f"{name}: {value}" for name, value in told.items())))


def _curves(report: EvaluationReport) -> Curves:
    cases, protocol = report.cases, report.settings.protocol
    weights = _draws(report, [case.subject for case in cases])
    return Curves(
        froc=froc(cases, protocol, weights),
        precision_recall=precision_recall(cases, protocol, weights),
        lesion_roc=lesion_roc(cases, protocol, weights),
        patient_roc=patient_roc(cases, weights=weights),
        reliability=reliability(cases, protocol),
        systems_froc=_froc_of_systems(report),
    )


def _froc_of_systems(report: EvaluationReport) -> dict[str, Froc]:
    return {system.name: froc(system.cases, report.settings.protocol) for system in report.systems}


def _draws(report: EvaluationReport, subjects: Sequence[str]) -> Any:
    import numpy as np

    settings = report.resampling
    if not settings.n_resamples or not subjects:
        return None
    return subject_weights(subjects, settings.n_resamples, np.random.default_rng(settings.seed)).astype(np.float64)


def _figure(report: EvaluationReport, name: str) -> Figure:
    group, key = name.split(".", 1)
    return report.figures[group][key]


def _flow(report: EvaluationReport) -> list[FlowStep]:
    n_scored, n_failed = len(report.cases), len(report.failures)
    n_missing = sum(failure.is_missing for failure in report.failures)
    left_out = (("without prediction", n_missing), ("unreadable or unfit", n_failed - n_missing))
    return [
        FlowStep("Cases with a reference", n_scored + n_failed, left_out),
        FlowStep("Cases scored", n_scored),
        FlowStep("of these with lesions", sum(len(case.reference) > 0 for case in report.cases)),
    ]


def _facts(report: EvaluationReport, provenance: Provenance, study: Study) -> dict[str, str]:
    """For the checklists."""
    cases = report.cases
    results = "; ".join(f"{heading_of(name)} {as_text(_figure(report, name))}" for name in KEY_FIGURES[:5])
    calibration = report.figures["calibration"]["ece"]
    own = {
        "title": TITLE,
        "protocol": report.settings.protocol,
        "definition": report.protocol.defined,
        "lesion_rule": report.settings.rule.told,
        "data": provenance.data,
        "n_cases": str(len(cases)),
        "n_subjects": str(len({case.subject for case in cases})),
        "n_lesions": str(sum(len(case.reference) for case in cases)),
        "n_negative": str(sum(not len(case.reference) for case in cases)),
        "flow": flow_text(_flow(report)),
        "failures": f"{len(report.failures)} cases could not be scored; they are listed and are in no figure",
        "results": results,
        "calibration": "" if calibration.value is None else f"expected calibration error {as_text(calibration)}",
        "threshold": _threshold(report),
        "statistics": " ".join(_statistics(report)),
        "subgroups": ", ".join(dict.fromkeys(group.column for group in report.subgroups)),
        "subgroup_results": "see the table of subgroups" if report.subgroups else "",
        "systems": ", ".join(system.name for system in report.systems),
        "versions": ", ".join(f"{name} {version}" for name, version in versions(*LIBRARIES).items()),
        "power": "see the table of power" if "power" in study.more_rows else "",
        "seconds": _seconds(report),
        "licence": "Apache-2.0",
    }
    return {**own, **provenance.facts}


def _seconds(report: EvaluationReport) -> str:
    told = seconds_per_case(report.cases)
    return f"median {told['median']:.1f} s of {told['n']} cases" if told["n"] else ""


def _told(report: EvaluationReport, facts: Mapping[str, str]) -> dict[str, str]:
    """What the page says first of the evaluation."""
    names = {
        "predictions": "predictions",
        "reference": "reference",
        "model": "model",
        "intended_use": "intended use of the model",
        "n_cases": "cases",
        "n_subjects": "subjects",
        "n_negative": "cases without lesions",
        "n_lesions": "reference lesions",
        "lesion_rule": "lesion",
        "threshold": "threshold",
    }
    shown = {title: facts[key] for key, title in names.items() if facts.get(key)}
    return {**shown, f"protocol {report.settings.protocol}": report.protocol.defined}


def _statistics(report: EvaluationReport) -> list[str]:
    settings = report.resampling
    if not settings.n_resamples:
        return ["No intervals were asked for."]
    return [
        f"Intervals are of {100 * settings.level:g} %, by {settings.n_resamples:,} draws of subjects with replacement, "
        f"each with all its cases (seed {settings.seed}): BCa, the percentile interval where BCa is undefined; tables "
        "and metrics.json have both.",
        "Shares of people with one scan each have Wilson's interval; other shares of exactly 0 or 1, whose draws are "
        "all alike, that of Clopper and Pearson with one trial a subject.",
        "Other figures whose draws are all alike, and those that hang on a single subject, have no interval.",
    ]


def _undefined(report: EvaluationReport) -> dict[str, str]:
    return {
        heading_of(f"{group}.{key}"): figure.why or "undefined"
        for group, figures in report.figures.items()
        for key, figure in figures.items()
        if figure.value is None
    }


def _long_tables(report: EvaluationReport) -> list[Table]:
    """Folded on the page; as files they are beside it."""
    protocol = report.settings.protocol
    lists = (
        ("per_case", "Cases", CASE_COLUMNS, case_rows(report.cases, protocol)),
        ("matches", "Lesions", MATCH_COLUMNS, match_rows(report.cases, protocol)),
    )
    return [
        Table(name=name, title=title, columns={key: key for key in columns}, rows=tuple(rows), notes=())
        for name, title, columns, rows in lists
        if rows
    ]
