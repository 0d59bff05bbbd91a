"""What a table is, and how its cells read."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cmb_autoseg.evaluation.metrics.figure import Figure

__all__ = ["Cell", "Row", "Table", "interval_text", "is_numeric", "shown", "shown_rows", "undefined_cells"]

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
    """Keys of numbers that are not shown with three decimals: plain ones, such as p, with three digits that count,
    figures with as many decimals as tell them from 0 and 1."""
    for_programs: tuple[str, ...] = ()
    """Keys that TSV and JSON have after the columns, and that people are not shown."""


def shown(value: Cell, significant: bool = False) -> str:
    """A cell for people: nothing for None, `n/a` for a figure without value, an interval in brackets."""
    if value is None:
        return ""
    if isinstance(value, Figure):
        if value.value is None:
            return NO_VALUE
        digits = _fine if significant else _plain
        interval = f"{digits(value.ci[0])} to {digits(value.ci[1])}" if value.ci else NO_VALUE
        return f"{digits(value.value)} ({interval})"
    if isinstance(value, float):
        return f"{value:.3g}" if significant else f"{value:.3f}"
    return str(value)


def _plain(value: float) -> str:
    return f"{value:.3f}"


def _fine(value: float) -> str:
    """Three decimals, or enough for two digits that tell the value from 0 or 1: a rate of 0.000021 is not 0."""
    away = min(abs(value), 1 - abs(value)) if abs(value) < 1 else 0.0
    decimals = min(9, 1 - math.floor(math.log10(away))) if 1e-9 < away < 0.001 else 3
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def interval_text(ends: tuple[float, float] | None) -> str | None:
    """Both ends of an interval as one cell, with as many decimals as they need; nothing where there is none."""
    return f"{_fine(ends[0])} to {_fine(ends[1])}" if ends else None


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
