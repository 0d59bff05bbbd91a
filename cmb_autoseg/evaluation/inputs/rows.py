"""Rows of lists and tables that any tool may have written: TSV, CSV and JSON."""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmb_autoseg.errors import InputError

__all__ = ["LIST_SUFFIXES", "Row", "Rows", "cell_text", "first_of", "is_missing", "number", "read_rows", "rows_of_json"]

LIST_SUFFIXES = (".tsv", ".csv", ".json")
MISSING = frozenset({"", "n/a", "na", "nan", "none", "null"})
LISTS_IN_JSON = ("lesions", "points", "boxes", "detections", "predictions", "annotations", "cases")
"""Keys under which a JSON object may hold its list."""


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    where: str
    """What messages call it: file and line."""
    cells: Mapping[str, Any]


@dataclass(frozen=True)
class Rows:
    """A table; an empty file has neither columns nor rows."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def read_rows(path: Path) -> Rows:
    """Read a table with a header line, or a JSON list of objects.

    Tabs, commas or semicolons separate; a file of 0 bytes is a table without columns.

    Raises:
        InputError: missing, no text, no table, two columns of one name, or a line longer than the header.
    """
    text = _text(path)
    if path.suffix.lower() == ".json":
        return rows_of_json(path, _json(path, text))
    if not text.strip():
        return Rows(path, (), ())
    # strict: a quote that is never closed would swallow all lines that follow.
    reader = csv.reader(io.StringIO(text), delimiter=_delimiter(path, text), skipinitialspace=True, strict=True)
    try:
        lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num} is no line of a table ({error}); save it anew") from None
    columns = tuple(name.strip() for name in lines[0][1])
    for name in columns:
        if name and columns.count(name) > 1:
            raise InputError(f"{path}: two columns are named {name}; rename or remove one")
    rows = []
    for n, cells in lines[1:]:
        if any(cell.strip() for cell in cells[len(columns) :]):
            raise InputError(
                f"{path} line {n}: {len(cells)} cells, but the header names {len(columns)}; correct the line"
            )
        rows.append(Row(f"{path} line {n}", dict(zip(columns, (cell.strip() for cell in cells), strict=False))))
    return Rows(path, columns, tuple(rows))


def rows_of_json(path: Path, content: Any) -> Rows:
    """The list of objects that JSON content holds, by itself or under one of a few keys.

    Raises:
        InputError: there is none.
    """
    listed = content
    if isinstance(content, dict):
        listed = next((content[key] for key in LISTS_IN_JSON if isinstance(content.get(key), list)), None)
    if content is None:
        listed = []
    if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
        raise InputError(
            f"{path}: expected a list of objects such as "
            '[{"x_mm": 1, "y_mm": 2, "z_mm": 3, "score": 0.9}], by itself or under the key lesions; write it anew'
        )
    columns = tuple(dict.fromkeys(str(name) for item in listed for name in item))
    return Rows(path, columns, tuple(Row(f"{path} item {n}", item) for n, item in enumerate(listed, 1)))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not readable as text in UTF-8; save it as .tsv, .csv or .json in UTF-8") from None
    except OSError as error:
        raise InputError(f"{path}: not readable ({error.strerror or error}); copy the file again") from None


def _json(path: Path, text: str) -> Any:
    if not text.strip():
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable as JSON ({' '.join(str(error).split())}); write it anew") from None


def _delimiter(path: Path, text: str) -> str:
    header = text.lstrip().splitlines()[0]
    if "\t" in header or path.suffix.lower() == ".tsv":
        return "\t"
    return ";" if ";" in header and "," not in header else ","


def cell_text(cell: Any) -> str:
    """What a cell says; 12 and 12.0 of JSON are one number."""
    if cell is None:
        return ""
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return str(cell).strip()


def is_missing(cell: Any) -> bool:
    return cell_text(cell).lower() in MISSING


def number(row: Row, column: str) -> float:
    """The finite number in a cell.

    Raises:
        InputError: it holds none; names file and line.
    """
    cell = row.cells.get(column)
    try:
        value = math.nan if isinstance(cell, bool) or cell is None else float(cell)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{row.where}: column {column} holds {cell_text(cell)!r}, a number is needed; correct it")
    return value


def first_of(columns: Iterable[str], wanted: Sequence[str]) -> str | None:
    """The first of the wanted columns that is there."""
    there = set(columns)
    return next((name for name in wanted if name in there), None)
