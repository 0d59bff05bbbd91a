"""The result of an evaluation, and the files and the text table that it is read in."""

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

from cmb_autoseg.evaluation.matching import Pair
from cmb_autoseg.evaluation.metrics import Figure, dice, pooled_metrics, ratio, subject_f1
from cmb_autoseg.evaluation.protocols import PROTOCOLS
from cmb_autoseg.evaluation.scores import CaseScore
from cmb_autoseg.files import writable_folder, write_json, write_text, write_tsv
from cmb_autoseg.records import Lesion, Record

__all__ = ["CASE_COLUMNS", "FAILURE_COLUMNS", "MATCH_COLUMNS", "EvaluationReport", "Failure"]

CASE_COLUMNS = (
    "case",
    "n_reference",
    "n_predicted",
    "hits",
    "misses",
    "false_positives",
    "sensitivity",
    "precision",
    "f1",
    "dice",
    "count_error",
)
MATCH_COLUMNS = (
    "case",
    "kind",
    "reference",
    "predicted",
    "x_mm",
    "y_mm",
    "z_mm",
    "distance_mm",
    "overlap",
    "volume_mm3",
    "diameter_mm",
    "predicted_volume_mm3",
    "prob_max",
    "prob_mean",
)
FAILURE_COLUMNS = ("case", "reason")
SHOWN = {
    "lesion sensitivity": ("lesion", "sensitivity"),
    "lesion precision": ("lesion", "precision"),
    "lesion F1": ("lesion", "f1"),
    "lesion F1, median of cases": ("lesion", "f1_per_subject_median"),
    "false positives per scan": ("lesion", "fp_per_scan"),
    "false positives per lesion-free scan": ("lesion", "fp_per_negative_scan"),
    "voxel Dice": ("voxel", "dice"),
    "voxel Dice, mean of cases": ("voxel", "dice_per_case_mean"),
    "count, mean absolute error": ("count", "mean_absolute_error"),
    "count, bias": ("count", "bias"),
}
"""Rows of the text table; the JSON has them all."""
DEFINITIONS = (
    "A lesion is a 26-connected component of a mask, on both sides.",
    "Sensitivity is found reference lesions / reference lesions; precision is matched predicted lesions / predicted "
    "lesions; F1 is their harmonic mean. All are pooled over cases unless said otherwise.",
    "Voxel figures count every voxel of the images, pooled over cases.",
    "The count's error is predicted minus reference lesions of a case; its mean is the bias.",
)


class Failure(Record):
    """A case that could not be scored, and why."""

    case: str
    reason: str


class EvaluationReport(Record):
    """Scored cases under one protocol; all figures are worked out from them."""

    protocol: str
    cases: tuple[CaseScore, ...]
    failures: tuple[Failure, ...] = ()
    warnings: tuple[str, ...] = ()

    def metrics(self) -> dict[str, Any]:
        """The content of `metrics.json`."""
        groups = {
            group: {name: _plain(figure) for name, figure in figures.items()}
            for group, figures in self._pooled().items()
        }
        return {
            "protocol": self.protocol,
            "definition": PROTOCOLS[self.protocol].definition,
            "n_cases": len(self.cases),
            "n_negative_cases": sum(case.n_reference == 0 for case in self.cases),
            "n_lesions": sum(case.n_reference for case in self.cases),
            "n_predicted_lesions": sum(case.n_predicted for case in self.cases),
            "n_failed_cases": len(self.failures),
            **groups,
            "warnings": list(self.warnings),
        }

    def _pooled(self) -> dict[str, Any]:
        return pooled_metrics(self.cases)

    def case_rows(self) -> list[dict[str, Any]]:
        """One row a scored case, columns `CASE_COLUMNS`."""
        return [_case_row(score) for score in self.cases]

    def match_rows(self) -> list[dict[str, Any]]:
        """One row a reference lesion and one a false positive, columns `MATCH_COLUMNS`."""
        return [row for score in self.cases for row in _match_rows(score)]

    def table(self) -> str:
        """The main figures as aligned plain text."""
        pooled = self._pooled()
        negative = sum(case.n_reference == 0 for case in self.cases)
        rows = [
            ("protocol", self.protocol),
            ("cases", f"{len(self.cases)} ({negative} without lesions)"),
            ("reference lesions", str(sum(case.n_reference for case in self.cases))),
            *((title, _text(pooled[group][name])) for title, (group, name) in SHOWN.items()),
        ]
        if self.failures:
            rows.append(("failed cases", f"{len(self.failures)} (not in the figures; see failures.tsv)"))
        width = max(len(title) for title, _ in rows)
        return "\n".join(f"{title:<{width}}  {value}" for title, value in rows)

    def write(self, folder: Path) -> None:
        """Write metrics.json, per_case.tsv, matches.tsv, failures.tsv and report.html.

        Raises:
            OutputError: `folder` cannot be made or written to.
        """
        writable_folder(folder)
        write_tsv(folder / "per_case.tsv", CASE_COLUMNS, self.case_rows())
        write_tsv(folder / "matches.tsv", MATCH_COLUMNS, self.match_rows())
        write_tsv(folder / "failures.tsv", FAILURE_COLUMNS, [failure.model_dump() for failure in self.failures])
        write_text(folder / "report.html", self.html())
        write_json(folder / "metrics.json", self.metrics())

    def html(self) -> str:
        """A page that stands alone: the definitions, the figures and the tables."""
        figures = [
            (f"{group} {name}", _text(figure))
            for group, named in self._pooled().items()
            for name, figure in named.items()
            if isinstance(figure, Figure)
        ]
        n_lesions = sum(case.n_reference for case in self.cases)
        parts = [
            "<h1>Evaluation of microbleed predictions</h1>",
            f"<p>{len(self.cases)} cases, {n_lesions} reference lesions. "
            f"Protocol <b>{escape(self.protocol)}</b>: {escape(PROTOCOLS[self.protocol].definition)}</p>",
            *(f"<p>{escape(text)}</p>" for text in DEFINITIONS),
            *(f"<p><b>Warning:</b> {escape(warning)}</p>" for warning in self.warnings),
            _html_table("Figures", ("figure", "value"), figures),
            _html_table("Cases that failed", FAILURE_COLUMNS, [(f.case, f.reason) for f in self.failures]),
            _html_table("Cases", CASE_COLUMNS, [_cells(row, CASE_COLUMNS) for row in self.case_rows()]),
            _html_table("Lesions", MATCH_COLUMNS, [_cells(row, MATCH_COLUMNS) for row in self.match_rows()]),
        ]
        return PAGE.format(body="\n".join(part for part in parts if part))


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Evaluation of microbleed predictions</title>
<style>
body {{ font: 15px/1.4 sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ border-bottom: 1px solid #ccc; padding: .2em .8em .2em 0; text-align: left; }}
</style></head><body>
{body}
</body></html>
"""


def _plain(figure: Any) -> Any:
    return figure.model_dump(mode="json") if isinstance(figure, Figure) else figure


def _text(figure: Figure) -> str:
    return f"{figure.value:.3f}" if figure.value is not None else f"n/a ({figure.why})"


def _case_row(score: CaseScore) -> dict[str, Any]:
    matches = score.matches
    sensitivity = ratio(matches.hits, score.n_reference, "")
    precision = ratio(matches.matched_predictions, score.n_predicted, "")
    return {
        "case": score.case,
        "n_reference": score.n_reference,
        "n_predicted": score.n_predicted,
        "hits": matches.hits,
        "misses": matches.misses,
        "false_positives": matches.false_positives,
        "sensitivity": sensitivity.value,
        "precision": precision.value,
        "f1": subject_f1(score).value,
        "dice": dice(score.voxels).value,
        "count_error": score.n_predicted - score.n_reference,
    }


def _match_rows(score: CaseScore) -> Iterator[dict[str, Any]]:
    matches = score.matches
    predicted = {lesion.lesion: lesion for lesion in matches.predicted.lesions}
    pairs: dict[int, list[Pair]] = {}
    for pair in matches.pairs:
        pairs.setdefault(pair.reference, []).append(pair)
    for lesion in matches.reference.lesions:
        best = pairs.get(lesion.lesion, [None])[0]
        yield {
            "case": score.case,
            "kind": "miss" if best is None else "hit",
            "reference": lesion.lesion,
            **_place(lesion),
            **({} if best is None else _of_pair(pairs[lesion.lesion])),
            **({} if best is None else _of_prediction(predicted[best.predicted], score.probability_known)),
        }
    matched = {pair.predicted for pair in matches.pairs}
    for number, lesion in predicted.items():
        if number not in matched:
            yield {
                "case": score.case,
                "kind": "false_positive",
                "predicted": number,
                **_place(lesion),
                **_of_prediction(lesion, score.probability_known),
            }


def _place(lesion: Lesion) -> dict[str, Any]:
    return lesion.model_dump(include={"x_mm", "y_mm", "z_mm", "volume_mm3", "diameter_mm"})


def _of_pair(pairs: Sequence[Pair]) -> dict[str, Any]:
    numbers = ";".join(str(pair.predicted) for pair in pairs)
    return {"predicted": numbers, "distance_mm": pairs[0].distance_mm, "overlap": pairs[0].overlap}


def _of_prediction(lesion: Lesion, probability_known: bool) -> dict[str, Any]:
    volume = {"predicted_volume_mm3": lesion.volume_mm3}
    if not probability_known:
        return volume
    return {**volume, "prob_max": lesion.prob_max, "prob_mean": lesion.prob_mean}


def _cells(row: dict[str, Any], columns: Sequence[str]) -> list[str]:
    return [_cell(row.get(column)) for column in columns]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _html_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<h2>{escape(title)}</h2>\n<table><tr>{head}</tr>\n{body}\n</table>"
