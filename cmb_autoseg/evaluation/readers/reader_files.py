"""A reader study by itself: tables, a page, and a text for the terminal."""

from pathlib import Path
from typing import Any

from cmb_autoseg.evaluation.readers.reader_study import VERDICTS, ReaderStudy
from cmb_autoseg.evaluation.reporting.free_tables import FREE_TITLES, free_table
from cmb_autoseg.evaluation.reporting.metrics_file import as_text
from cmb_autoseg.evaluation.reporting.page import PageContent, render
from cmb_autoseg.files import writable_folder, write_json, write_text
from cmb_autoseg.reporting.table_files import write_tables
from cmb_autoseg.run_log import versions

__all__ = ["reader_rows", "summary", "write_reader_study"]

TITLE = "Reader study of microbleed findings"


def reader_rows(study: ReaderStudy) -> dict[str, list[dict[str, Any]]]:
    """Rows of the tables of a reader study, by the table's name."""
    agreement = (("Fleiss' kappa", study.fleiss_kappa), ("unanimous", study.unanimous))
    return {
        "reader_verdicts": list(study.verdicts),
        "reader_agreement": [{"figure": n, "value": v, "findings": study.n_judged_by_all} for n, v in agreement],
        "reader_pairs": list(study.pairs),
    }


def write_reader_study(study: ReaderStudy, folder: Path) -> None:
    """Write `metrics.json`, `tables/` and `report.html` of a reader study alone.

    Raises:
        OutputError: `folder` cannot be made or written to.
    """
    writable_folder(folder)
    tables = [free_table(name, FREE_TITLES[name], rows) for name, rows in reader_rows(study).items() if rows]
    write_tables(tables, folder / "tables")
    page = PageContent(
        title=TITLE,
        protocol="",
        definition="",
        facts={
            "readers": ", ".join(study.raters),
            "cases": str(study.n_cases),
            "findings": str(study.n_findings),
            "judged by all readers": str(study.n_judged_by_all),
            "left out of their agreement": str(study.n_left_out),
        },
        tables=tables,
        versions=versions(),
    )
    write_text(folder / "report.html", render(page))
    write_json(folder / "metrics.json", {"reader_study": study.model_dump(mode="json")})


def summary(study: ReaderStudy) -> str:
    """The verdicts and the agreement as plain text."""
    every = next(row for row in study.verdicts if row["rater"] == "all")
    lines = [f"{verdict:<14}{every[verdict]:>5}  {as_text(every[f'{verdict}_share'])}" for verdict in VERDICTS]
    agreement = f"Fleiss' kappa       {as_text(study.fleiss_kappa)}, of {study.n_judged_by_all} findings"
    head = f"{study.n_findings} findings of {study.n_cases} cases, readers {', '.join(study.raters)}"
    return "\n".join([head, *lines, agreement])
