"""What a table is, and how its cells read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cmb_autoseg.evaluation.metrics.figure import Figure

__all__ = ["Cell", "Row", "Table", "is_numeric", "shown", "shown_rows", "undefined_cells"]

Cell = str | int | float | Figure | None
Row = dict[str, Any]
"""Column to `Cell`."""
NO_VALUE = "n/a"


@dataclass(frozen=True)
class Table:
    """Rows of figures under named columns."""

    name: str
    """Of its files, without ending."""
    title: str
    columns: Mapping[str, str]
    """Key of the rows to heading, from the left."""
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    significant: frozenset[str] = frozenset()
    """Keys of numbers that are shown with three digits that count, such as p, instead of three decimals."""
    for_programs: tuple[str, ...] = ()
    """Keys that TSV and JSON have after the columns, and that people are not shown."""


def shown(value: Cell, significant: bool = False) -> str:
    """A cell for people: nothing for None, `n/a` for a figure without value, an interval in brackets."""
    if value is None:
        return ""
    if isinstance(value, Figure):
        if value.value is None:
            return NO_VALUE
        interval = f"{value.ci[0]:.3f} to {value.ci[1]:.3f}" if value.ci else NO_VALUE
        return f"{value.value:.3f} ({interval})"
    if isinstance(value, float):
        return f"{value:.3g}" if significant else f"{value:.3f}"
    return str(value)


def shown_rows(table: Table) -> list[list[str]]:
    """All cells for people, in the order of the columns."""
    return [[shown(row.get(key), key in table.significant) for key in table.columns] for row in table.rows]


def is_numeric(table: Table, key: str) -> bool:
    """Whether a column holds numbers alone, and is aligned to the right."""
    values = [row[key] for row in table.rows if row.get(key) is not None]
    return bool(values) and all(isinstance(value, int | float | Figure) for value in values)


def undefined_cells(table: Table) -> dict[str, str]:
    """Heading of every column with a figure that has no value, and the reasons."""
    found: dict[str, list[str]] = {}
    for key, heading in table.columns.items():
        cells = [row[key] for row in table.rows if isinstance(row.get(key), Figure)]
        reasons = [figure.why or "undefined" for figure in cells if figure.value is None]
        if reasons:
            found[heading] = list(dict.fromkeys(reasons))
    return {heading: "; ".join(reasons) for heading, reasons in found.items()}
