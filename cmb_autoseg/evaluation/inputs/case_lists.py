"""One list of the lesions of all cases: a table with a column `case`, or a COCO file of pictures."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.inputs.naming import case_of_mask
from cmb_autoseg.evaluation.inputs.rows import Row, Rows, cell_text, first_of, is_missing, read_rows, rows_of_json
from cmb_autoseg.evaluation.inputs.sides import FileKind, SideFile
from cmb_autoseg.files import read_json
from cmb_autoseg.geometry import NIFTI_SUFFIXES

__all__ = ["CASE_COLUMNS", "CaseLists", "read_case_lists"]

CASE_COLUMNS = ("case", "image_id")
"""The column that names the case; the second is of COCO results."""
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class CaseLists:
    """A list of all cases, by case."""

    path: Path
    columns: tuple[str, ...]
    by_case: Mapping[str, tuple[Row, ...]]
    """Of a case that was read and holds no lesion: no row."""
    picture_names: Mapping[str, str]
    """Of a COCO file with pictures: their names by number, which results refer to."""

    def side(self, case: str, kind: FileKind = "list") -> SideFile:
        return SideFile(self.path, kind, self.by_case.get(case, ()), self.columns)


def read_case_lists(path: Path, picture_names: Mapping[str, str] | None = None) -> CaseLists | None:
    """Read a list of all cases; None of one whose columns do not name the case, so that it is of one case alone.

    A row with a case and no place says that the case was read and holds no lesion; so do pictures of a COCO file
    without annotation.

    Args:
        path: TSV, CSV or JSON.
        picture_names: of the other side's COCO file, by number, for results that refer to pictures by number.

    Raises:
        InputError: unreadable, a row that names no case, several categories in COCO.
    """
    names = dict(picture_names or {})
    pictures: list[str] = []
    if path.suffix.lower() == ".json" and _is_coco(content := read_json(path)):
        pictures = _pictures(path, content)
        names = {**names, **dict(zip((cell_text(i["id"]) for i in content["images"]), pictures, strict=True))}
        table = rows_of_json(path, content["annotations"])
    else:
        table = read_rows(path)
    column = first_of(table.columns, CASE_COLUMNS)
    nothing_found = bool(names) and not table.rows
    if column is None and not pictures and not nothing_found:
        return None
    _refuse_categories(table)
    found: dict[str, list[Row]] = {picture: [] for picture in pictures}
    for row in table.rows:
        cell = row.cells.get(column or "")
        if is_missing(cell):
            raise InputError(f"{row.where}: column {column} is empty; name the case of this lesion")
        name = names.get(cell_text(cell)) or _case_name(cell_text(cell))
        found.setdefault(name, []).append(row)
    columns = tuple(name for name in table.columns if name not in CASE_COLUMNS)
    return CaseLists(path, columns, {name: tuple(rows) for name, rows in sorted(found.items())}, names)


def _is_coco(content: Any) -> bool:
    return isinstance(content, dict) and all(isinstance(content.get(key), list) for key in ("images", "annotations"))


def _pictures(path: Path, content: Mapping[str, Any]) -> list[str]:
    for n, image in enumerate(content["images"], 1):
        if not isinstance(image, dict) or "id" not in image or not isinstance(image.get("file_name"), str):
            raise InputError(f"{path}: images item {n} lacks id or file_name; export the file anew")
    return [_case_name(PurePosixPath(image["file_name"]).name) for image in content["images"]]


def _refuse_categories(table: Rows) -> None:
    found = sorted({cell_text(row.cells["category_id"]) for row in table.rows if "category_id" in row.cells})
    if len(found) > 1:
        raise InputError(f"{table.path}: holds categories {', '.join(found)}; keep the boxes of microbleeds alone")


def _case_name(text: str) -> str:
    """The case that a cell names, by itself or by its file."""
    lowered = text.lower()
    for suffix in NIFTI_SUFFIXES:
        if lowered.endswith(suffix):
            return case_of_mask(text[: -len(suffix)])
    return next((text[: -len(suffix)] for suffix in PICTURES if lowered.endswith(suffix)), text)
