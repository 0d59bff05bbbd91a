"""Tables as files: TSV and JSON for programs, Markdown and LaTeX for people."""

from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

from cmb_autoseg.evaluation.metrics.figure import Figure
from cmb_autoseg.files import write_json, write_text, write_tsv
from cmb_autoseg.reporting.latex import as_latex
from cmb_autoseg.reporting.tables import Row, Table, shown_rows

__all__ = ["as_markdown", "write_table", "write_tables"]


def write_tables(tables: Iterable[Table], folder: Path, data: str = "") -> None:
    """Write every table by `write_table`; `data` names their kind of data, such as `simulated`."""
    for table in tables:
        write_table(table, folder, data)


def write_table(table: Table, folder: Path, data: str = "", for_people: Table | None = None) -> None:
    """Write `<name>.tsv`, `.json`, `.md` and `.tex` into a folder.

    In the TSV a column of figures is followed by `<key>_low` and `<key>_high`, the interval.

    Args:
        table: what is written for programs.
        folder: made where it is missing.
        data: the kind of data, such as `simulated`, for the JSON and the LaTeX caption.
        for_people: what Markdown and LaTeX show; the same where not given.

    Raises:
        OutputError: a file cannot be written.
    """
    readable = for_people or table
    write_tsv(folder / f"{table.name}.tsv", _tsv_columns(table), [_flat(row) for row in table.rows])
    write_text(folder / f"{table.name}.md", as_markdown(readable) + "\n" + "\n\n".join(table.notes) + "\n")
    write_text(folder / f"{table.name}.tex", as_latex(readable, data))
    keys = (*table.columns, *table.for_programs)
    rows = [{key: _plain(row.get(key)) for key in keys} for row in table.rows]
    content = {"title": table.title, "data": data or None, "notes": list(table.notes), "rows": rows}
    write_json(folder / f"{table.name}.json", content)


def _tsv_columns(table: Table) -> list[str]:
    with_interval = {key for key in table.columns for row in table.rows if isinstance(row.get(key), Figure)}
    parts = ((key, f"{key}_low", f"{key}_high") if key in with_interval else (key,) for key in table.columns)
    return [*(part for own in parts for part in own), *table.for_programs]


def _flat(row: Row) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, Figure):
            low, high = value.ci or (None, None)
            flat |= {key: value.value, f"{key}_low": low, f"{key}_high": high}
        else:
            flat[key] = value
    return flat


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, Figure) else value


def as_markdown(table: Table) -> str:
    """The table alone, without its notes."""
    lines = ["| " + " | ".join(table.columns.values()) + " |", "|" + " --- |" * len(table.columns)]
    lines += ["| " + " | ".join(map(_one_cell, cells)) + " |" for cells in shown_rows(table)]
    return "\n".join(lines) + "\n"


def _one_cell(text: str) -> str:
    # Names of cases come from files; where Markdown may hold HTML they must not become some.
    return escape(" ".join(text.splitlines()), quote=False).replace("|", "\\|")
