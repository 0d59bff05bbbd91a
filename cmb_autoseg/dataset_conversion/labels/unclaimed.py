"""Entries of label files of many cases that speak of no case at all, as a mistyped name makes them."""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from cmb_autoseg.dataset_conversion.labels.box_files import coco_images, coco_named
from cmb_autoseg.dataset_conversion.labels.tables import case_names, first_rows
from cmb_autoseg.errors import InputError
from cmb_autoseg.records import LabelSource, TableRows

__all__ = ["Unclaimed"]

LISTED = 3
"""So many entries are named in a message."""
MANY = 10
"""Suffixes of files are shorter than this, with their dot."""


@dataclass(frozen=True)
class _Entry:
    name: str
    """By which it would be found: what a table's column says, or the file name of a picture."""
    where: str
    """Its place in the file."""


@dataclass
class _File:
    """What one file says of whom, as far as no case has asked for it."""

    what: str
    """Names its entries in messages."""
    left: dict[int | str, _Entry]
    total: int = 0
    in_vain: dict[str, str] = field(default_factory=dict)
    """Names of cases or pictures that the file lacks, by their plain form."""

    def __post_init__(self) -> None:
        self.total = len(self.left)


class Unclaimed:
    """Goes through the cases and keeps account of what their label files say of nobody."""

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}

    def claim(self, source: LabelSource) -> None:
        """Take what speaks of one case off the account; files that cannot be read are told of elsewhere."""
        for path in source.raters.values() or (source.path,):
            with suppress(InputError):
                if source.rows is not None:
                    self._claim_rows(path, source.sheet, source.rows)
                elif source.format == "coco":
                    self._claim_pictures(path, source.pictures)

    def warnings(self, root: str, name_entries: bool) -> list[str]:
        """One line for each file with entries left over.

        Args:
            root: of the cohort; file names are shown relative to it.
            name_entries: False where names tell who was scanned: their places in the file are given instead.
        """
        return [
            f"labels.cmb: {_shown_file(path, root, name_entries)}{_told(file, name_entries)}"
            for path, file in sorted(self._files.items())
            if file.left
        ]

    def _claim_rows(self, path: str, sheet: str | None, rows: TableRows) -> None:
        if path not in self._files:
            named = first_rows(path, sheet, rows).items()
            entries: dict[int | str, _Entry] = {
                name: _Entry(name, where.removeprefix(path).strip()) for name, where in named if name
            }
            self._files[path] = _File(f"names in column {rows.column} match no case", entries)
        file = self._files[path]
        file.left.pop(rows.equals, None)
        if rows.equals not in case_names(path, sheet, rows):
            file.in_vain[_plain(rows.equals)] = rows.equals

    def _claim_pictures(self, path: str, pictures: Iterable[str]) -> None:
        if path not in self._files:
            images: dict[int | str, _Entry] = {
                key: _Entry(name, where) for key, (name, where) in coco_images(path).items()
            }
            self._files[path] = _File("images match no picture of any case", images)
        file = self._files[path]
        for picture, keys in coco_named(path, pictures):
            for key in keys:
                file.left.pop(key, None)
            if not keys:
                name = PurePosixPath(picture).name
                file.in_vain[_plain(name)] = name


def _plain(name: str) -> str:
    """A name without what is often written in two ways: capitals, leading zeros, `sub-`, the suffix of a file."""
    base = PurePosixPath(name.replace("\\", "/")).name.lower()
    suffix = re.search(r"(\.[a-z][a-z0-9]*)+$", base)
    if suffix is not None and len(suffix[0]) < MANY:
        base = base[: suffix.start()]
    return re.sub(r"0*(\d+)", r"\1", base.removeprefix("sub-"))


def _shown_file(path: str, root: str, name_entries: bool) -> str:
    return f"{path.removeprefix(f'{root}/')}: " if name_entries else ""


def _told(file: _File, name_entries: bool) -> str:
    left = list(file.left.values())
    shown = [entry.name if name_entries else entry.where for entry in left[:LISTED]]
    listed = ", ".join([*shown, *(["..."] if len(left) > LISTED else [])])
    near = _near(left, file.in_vain)
    cure = "correct them if they should be used"
    if near and name_entries:
        cure = ", ".join(f"write {asked} for {name}" for name, asked in list(near.items())[:LISTED])
    elif near:
        cure = f"{len(near)} would match but for capitals, leading zeros or suffixes"
    return f"{len(left)} of {file.total} {file.what} ({listed}) and are not used; {cure}"


def _near(left: Iterable[_Entry], in_vain: Mapping[str, str]) -> dict[str, str]:
    """Entries that differ little from a name which the file lacks, and that name."""
    return {entry.name: in_vain[_plain(entry.name)] for entry in left if _plain(entry.name) in in_vain}
