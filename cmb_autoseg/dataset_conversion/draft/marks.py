"""Whether a file marks microbleeds as points or boxes, and how a card says that; contents are looked at."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cmb_autoseg.dataset_conversion.draft.meaning import quoted
from cmb_autoseg.dataset_conversion.labels.files import json_content
from cmb_autoseg.dataset_conversion.labels.tables import Table, read_table
from cmb_autoseg.errors import InputError

__all__ = ["box_keys", "case_table_keys", "point_keys"]

AXES = "xyz"
BYTES_LOOKED_AT = 4096
ROWS_LOOKED_AT = 2000
LARGEST_TABLE = 20_000_000
"""Bytes; a larger file is no table of points."""


def point_keys(path: Path) -> str | None:
    """What a card says of a file with the points of one case, `kind: points, ...`; None if it holds none."""
    if path.suffix == ".mat":
        variable = _points_variable(path)
        return f"kind: points, variable: {variable}, space: voxel1" if variable else None
    if path.suffix not in (".tsv", ".csv", ".txt", ".json", ".xlsx"):
        return None
    if path.suffix == ".json" and not _is_point_list(path):
        return None
    table = _table(path)
    columns = _axes(table.columns) if table is not None else {}
    return f"kind: points, {_space(table)}{_columns(columns)}" if table is not None and columns else None


def _points_variable(path: Path) -> str | None:
    """The array of N points in a MATLAB file without volumes."""
    from cmb_autoseg.readers.matlab import list_arrays

    try:
        arrays = list_arrays(path)
    except InputError:
        return None
    if any(len(shape) > 2 for _, shape in arrays):
        return None
    return next((name for name, shape in arrays if len(shape) == 2 and shape[1] == len(AXES)), None)


def _is_point_list(path: Path) -> bool:
    try:
        content = json_content(str(path))
    except InputError:
        return False
    listed = content.get("points") if isinstance(content, dict) else content
    if not isinstance(listed, list):
        return False
    return all((isinstance(item, list) and len(item) == len(AXES)) or _has_axes(item) for item in listed)


def _has_axes(item: Any) -> bool:
    return isinstance(item, dict) and set(AXES) <= set(item)


def _table(path: Path) -> Table | None:
    try:
        return read_table(str(path)) if path.stat().st_size < LARGEST_TABLE else None
    except (InputError, OSError):
        return None


def _axes(columns: Iterable[str]) -> dict[str, str]:
    """The columns that hold x, y and z; empty where they are not there."""
    listed = list(columns)
    found = {axis: name for axis in AXES for name in listed if re.fullmatch(rf"{axis}(?:_?mm)?", name.strip(), re.I)}
    return found if len(found) == len(AXES) else {}


def _columns(columns: Mapping[str, str]) -> str:
    named = ", ".join(f"{axis}: {quoted(name)}" for axis, name in columns.items() if axis != name)
    return f", columns: {{{named}}}" if named else ""


def _space(table: Table | None) -> str:
    """Whole numbers that are never negative are voxels, more likely counted from 1 where no 0 occurs."""
    columns = _axes(table.columns) if table is not None else {}
    if table is None or not columns or any("mm" in name.lower() for name in columns.values()):
        return "space: ras_mm"
    return _space_of([row.cells.get(name) for row in table.rows for name in columns.values()])


def _space_of(cells: Iterable[Any]) -> str:
    numbers: list[float] = []
    for cell in cells:
        try:
            numbers.append(float(cell))
        except (TypeError, ValueError):
            continue
    if numbers and all(value >= 0 and value.is_integer() for value in numbers):
        return f"space: {'voxel0' if 0 in numbers else 'voxel1'}"
    return "space: ras_mm"


def case_table_keys(path: Path, names: Mapping[str, Mapping[str, str]]) -> str | None:
    """What a card says of one table with the points of many cases; None if it is none.

    Args:
        path: of the table.
        names: by what `rows.equals` would be (as `{sub}_swi.nii`) what it says for each case: case to text.
    """
    table = _table(path)
    if table is None or not table.rows:
        return None
    for column in filter(None, table.columns):
        said = {_text(row.cells.get(column)) for row in table.rows[:ROWS_LOOKED_AT]} - {""}
        for equals, texts in names.items():
            if said & set(texts.values()):
                return _rows_keys(table, column, equals)
    return None


def _text(cell: Any) -> str:
    return str(int(cell) if isinstance(cell, float) and cell.is_integer() else "" if cell is None else cell).strip()


def _rows_keys(table: Table, column: str, equals: str) -> str | None:
    rows = f"rows: {{column: {quoted(column)}, equals: {quoted(equals)}"
    columns = _axes(table.columns)
    if columns:
        return f"kind: points, {_space(table)}{_columns(columns)}, {rows}}}"
    start = table.columns.index(column) + 1
    cells = [cell for row in table.rows for cell in row.following[start:]]
    if not any(_is_number(cell) for cell in cells):
        return None
    return f"kind: points, {_space_of(cells)}, {rows}, wide: true}}"


def _is_number(cell: Any) -> bool:
    try:
        return not isinstance(cell, bool) and float(cell) == float(cell)
    except (TypeError, ValueError):
        return False


def box_keys(files: Sequence[Path]) -> str | None:
    """What a card says of files of boxes, `kind: boxes, ...`; None if they are none.

    Args:
        files: some of those that share a pattern; most pictures have no box, so one file says little.
    """
    if not files:
        return None
    suffix = files[0].suffix.lower()
    heads = [_head(path) for path in files]
    if suffix == ".txt":
        lines = [line.split() for head in heads for line in head.splitlines()[:1]]
        are_boxes = all(len(line) == 5 and line[0].isdigit() for line in lines)
        return "kind: boxes, format: yolo, values: {cmb: 0}" if are_boxes else None
    if suffix == ".xml":
        names = list(dict.fromkeys(name for head in heads for name in re.findall(r"<name>\s*([^<]*?)\s*</name>", head)))
        return _with_class("voc", names) if all("<annotation" in head for head in heads) else None
    if suffix == ".json":
        return _coco_keys(files[0])
    return None


def _head(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return stream.read(BYTES_LOOKED_AT).decode("utf-8", "replace")
    except OSError:
        return ""


def _coco_keys(path: Path) -> str | None:
    try:
        content = json_content(str(path))
    except InputError:
        return None
    if not isinstance(content, dict) or not {"images", "annotations"} <= set(content):
        return None
    categories = content.get("categories") or []
    names = [str(item.get("name")) for item in categories if isinstance(item, dict) and item.get("name")]
    return _with_class("coco", names)


def _with_class(format_: str, names: Sequence[str]) -> str:
    """The first class that sounds like microbleeds, else the first."""
    likely = next((name for name in names if re.search(r"cmb|bleed|hem|mb", name, re.IGNORECASE)), None)
    chosen = likely or (names[0] if names else None)
    others = [name for name in names if name != chosen]
    if chosen is None:
        return f"kind: boxes, format: {format_}"
    listed = [f"cmb: {quoted(chosen)}", *(f"other_{n}: {quoted(name)}" for n, name in enumerate(others, 1))]
    return f"kind: boxes, format: {format_}, values: {{{', '.join(listed)}}}"
