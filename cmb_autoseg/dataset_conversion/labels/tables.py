"""Rows of tables in which lesions are listed: TSV, CSV, Excel, JSON and MATLAB."""

import csv
import io
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cmb_autoseg.dataset_conversion.labels.files import json_content, label_text, remembered, suffix_of
from cmb_autoseg.errors import InputError
from cmb_autoseg.readers import read_bytes
from cmb_autoseg.records import TableRows

__all__ = [
    "Row",
    "Table",
    "case_names",
    "check_column",
    "first_rows",
    "is_empty",
    "number",
    "read_table",
    "rows_of_case",
]

AXES = ("x", "y", "z")
EMPTY = ("", "n/a", "nan")
SPREADSHEETS = (".xlsx", ".xlsm")
TEXTS = (".tsv", ".csv", ".txt")


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    where: str
    """What messages call it."""
    cells: dict[str, Any]
    following: tuple[Any, ...] = ()
    """All cells in their order, also those without a name."""


@dataclass(frozen=True)
class Table:
    """A table with named columns; a file without content has neither."""

    path: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def read_table(path: str, sheet: str | None = None, variable: str | None = None) -> Table:
    """Read a table by what its file's name ends in.

    Raises:
        InputError: unreadable or foreign file, no such sheet or variable, an array that is not N x 3.
    """
    suffix = suffix_of(path)
    if sheet is not None and suffix not in SPREADSHEETS:
        raise InputError(f"{path}: labels.cmb.sheet is of .xlsx files; remove it")
    if variable is not None and suffix != ".mat":
        raise InputError(f"{path}: labels.cmb.variable is of .mat files; remove it")
    if suffix == ".json":
        return _json_table(path)
    if suffix == ".mat":
        return _matlab_table(path, variable)
    if suffix in SPREADSHEETS:
        return _spreadsheet(path, sheet)
    if suffix in TEXTS:
        return _text_table(path)
    raise InputError(f"{path}: tables are read from .tsv, .csv, .xlsx, .json and .mat; save it as one of these")


def _text_table(path: str) -> Table:
    text = label_text(path)
    if not text:
        return Table(path, (), ())
    header = text.splitlines()[0]
    tabs = suffix_of(path) == ".tsv" or "\t" in header
    delimiter = "\t" if tabs else ";" if ";" in header and "," not in header else ","
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True)
    try:
        lines = [(f"{path} line {reader.line_num}", cells) for cells in reader if cells]
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num} is no line of a table ({error}); save it anew") from None
    return _named(path, lines)


def _named(path: str, lines: Sequence[tuple[str, Sequence[Any]]]) -> Table:
    """A table whose first line names the columns; a line may end early, and go on without names."""
    if not lines:
        return Table(path, (), ())
    names = [_cell_text(cell) for cell in lines[0][1]]
    rows = []
    for where, cells in lines[1:]:
        cells_there = [*cells, *[None] * (len(names) - len(cells))]
        named = {name: cell for name, cell in zip(names, cells_there, strict=False) if name}
        rows.append(Row(where, named, tuple(cells_there)))
    return Table(path, tuple(names), tuple(rows))


def _spreadsheet(path: str, sheet: str | None) -> Table:
    content = read_bytes(path)
    if not content:
        return Table(path, (), ())
    try:
        lines = _sheet_lines(path, content, sheet)
    except InputError:
        raise
    except Exception as error:  # openpyxl, zipfile, zlib and XML each raise their own kinds for damaged data
        raise InputError(f"{path}: not readable as .xlsx ({_one_line(error)}); save it anew from Excel") from None
    return _named(path, [(where, cells) for where, cells in lines if any(map(_is_filled, cells))])


def _sheet_lines(path: str, content: bytes, sheet: str | None) -> list[tuple[str, Sequence[Any]]]:
    """The rows of one sheet, of formulas the values that Excel stored."""
    from openpyxl import load_workbook

    book = load_workbook(io.BytesIO(content), read_only=True, data_only=True)
    try:
        if sheet is not None and sheet not in book.sheetnames:
            listed = ", ".join(book.sheetnames)
            raise InputError(f"{path}: no sheet {sheet!r} (there: {listed}); correct labels.cmb.sheet")
        chosen: Any = book[sheet] if sheet is not None else book.worksheets[0]
        return [(f"{path} row {n}", cells) for n, cells in enumerate(chosen.iter_rows(values_only=True), 1)]
    finally:
        book.close()


def _json_table(path: str) -> Table:
    content = json_content(path)
    if content is None:
        return Table(path, (), ())
    listed = content.get("points") if isinstance(content, dict) else content
    if not isinstance(listed, list):
        raise InputError(f'{path}: expected a list, or {{"points": [...]}}; write the file anew')
    rows: list[Row] = []
    for n, item in enumerate(listed, 1):
        where = f"{path} point {n}"
        if isinstance(item, list) and len(item) == len(AXES):
            item = dict(zip(AXES, item, strict=True))
        if not isinstance(item, dict):
            raise InputError(f"{where}: found {item!r}, expected [x, y, z] or x, y and z by name; correct it")
        rows.append(Row(where, item, tuple(item.values())))
    columns = tuple(dict.fromkeys(name for row in rows for name in row.cells))
    return Table(path, columns, tuple(rows))


def _matlab_table(path: str, variable: str | None) -> Table:
    from cmb_autoseg.dataset_conversion.labels.matlab_points import read_points_array

    array = read_points_array(path, variable)
    rows = [Row(f"{path} row {n}", dict(zip(AXES, point, strict=True))) for n, point in enumerate(array.tolist(), 1)]
    return Table(path, AXES, tuple(rows))


def case_names(path: str, sheet: str | None, rows: TableRows) -> Collection[str]:
    """What the column that names the cases says, row by row.

    Raises:
        InputError: unreadable table, or no such column.
    """
    return remembered(_by_case, path, sheet, rows.column)[1].keys()


def first_rows(path: str, sheet: str | None, rows: TableRows) -> Mapping[str, str]:
    """`case_names`, each with the place of its first row.

    Raises:
        InputError: unreadable table, or no such column.
    """
    return {name: own[0].where for name, own in remembered(_by_case, path, sheet, rows.column)[1].items()}


def _by_case(path: str, sheet: str | None, column: str) -> tuple[Table, dict[str, tuple[Row, ...]]]:
    """A table of many cases, and its rows by what the column says."""
    table = read_table(path, sheet)
    if table.columns:
        check_column(table.columns, column, f"{path} header", "labels.cmb.rows.column")
    found: dict[str, list[Row]] = {}
    for row in table.rows:
        found.setdefault(_cell_text(row.cells.get(column)), []).append(row)
    return table, {name: tuple(own) for name, own in found.items()}


def rows_of_case(path: str, sheet: str | None, rows: TableRows) -> Table:
    """The rows of one case in a table of many, as a table of x, y and z.

    Raises:
        InputError: no such column; wide rows of which there are two, or with numbers that are no triples.
    """
    table, by_case = remembered(_by_case, path, sheet, rows.column)
    own = by_case.get(rows.equals, ())
    if not rows.wide:
        return Table(path, table.columns, own)
    if len(own) > 1:
        raise InputError(f"{own[1].where}: a second row of this case, after {own[0].where}; keep one")
    start = table.columns.index(rows.column) + 1 if own else 0
    return Table(path, AXES, tuple(point for row in own for point in _triples(row, row.following[start:])))


def _triples(row: Row, cells: Sequence[Any]) -> Iterable[Row]:
    last = max((n for n, cell in enumerate(cells, 1) if _is_filled(cell)), default=0)
    if last % len(AXES):
        raise InputError(f"{row.where}: {last} cells follow the name; x, y and z of each lesion are needed, correct it")
    for n in range(0, last, len(AXES)):
        where = f"{row.where} lesion {n // len(AXES) + 1}"
        yield Row(where, dict(zip(AXES, cells[n : n + len(AXES)], strict=True)))


def check_column(columns: Iterable[str], column: str, where: str, key: str = "labels.cmb.columns") -> None:
    """Raises InputError where the table has no such column."""
    if column not in columns:
        listed = ", ".join(str(name) for name in columns if name)
        raise InputError(f"{where}: no column {column} (there: {listed}); name it in {key}")


def number(row: Row, column: str) -> float:
    """The number in a cell, also one that is stored as text.

    Raises:
        InputError: the column is missing, or holds no finite number.
    """
    check_column(row.cells, column, row.where)
    cell = row.cells[column]
    try:
        value = math.nan if isinstance(cell, bool) else float(cell)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{row.where}: column {column} holds {cell!r}, a number is needed; correct the cell")
    return value


def is_empty(row: Row, columns: Iterable[str]) -> bool:
    """Whether none of the columns of a row holds anything."""
    return not any(_is_filled(row.cells.get(column)) for column in columns)


def _is_filled(cell: Any) -> bool:
    return _cell_text(cell).lower() not in EMPTY


def _cell_text(cell: Any) -> str:
    """What a cell says; 1001 and 1001.0 are one number, as Excel has it."""
    if cell is None:
        return ""
    if isinstance(cell, float | np.floating) and float(cell).is_integer():
        cell = int(cell)
    return str(cell).strip()


def _one_line(error: Exception) -> str:
    return re.sub(r"\s+", " ", str(error)) or type(error).__name__
