"""From the files of one sequence of a case to its volumes: pictures are stacked, and what has no place gets one."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cmb_autoseg.dataset_conversion.card import ImageCard, SliceTable
from cmb_autoseg.dataset_conversion.labels.tables import Row, check_column, number, read_table
from cmb_autoseg.dataset_conversion.sorting.matching import FileMatch
from cmb_autoseg.dataset_conversion.sorting.placement import Slice, affine_by_axes, affine_by_slices
from cmb_autoseg.errors import InputError
from cmb_autoseg.readers import MATLAB_SUFFIX, PICTURE_SUFFIXES
from cmb_autoseg.records import Affine, ImageSource

__all__ = ["slice_number", "volumes_of"]

PICTURE_AXES, MATLAB_AXES = "LPS", "RAS"
UNKNOWN_MM = (1.0, 1.0, 1.0)
MOST_SLICES = 2048
SIZES = ("pixel_mm", "slice_mm")
PLACES = ("x_mm", "y_mm", "z_mm")


def volumes_of(
    name: str, image: ImageCard, root: Path, matches: Sequence[FileMatch], tables: Sequence[FileMatch]
) -> list[FileMatch]:
    """The volumes that the files of one sequence of a case make; NIfTI and DICOM are what they are.

    Args:
        name: of the sequence.
        image: what the card says of it.
        root: the cohort's folder.
        matches: its files.
        tables: files of `slices` of this case.

    Returns:
        One match a volume, with how it is read, what was assumed of it, and what keeps it from being used.
    """
    if not matches or matches[0].image is not None:
        return list(matches)
    suffix = Path(matches[0].path).suffix.lower()
    if suffix == MATLAB_SUFFIX:
        return [_matlab(name, image, root, match) for match in matches]
    if suffix not in PICTURE_SUFFIXES:
        return list(matches)
    return [_Stack(name, image, root, files, tables).match() for files in _stacks(image, matches)]


def slice_number(text: str) -> int | None:
    """The number in an entity's text, `7` of `s007`; None where it has none."""
    digits = re.search(r"\d+", text)
    return int(digits[0]) if digits else None


def _matlab(name: str, image: ImageCard, root: Path, match: FileMatch) -> FileMatch:
    note = ""
    if image.spacing_mm is None:
        note = f"{match.name} says nothing of its voxels' size: 1 mm assumed; give images.{name}.spacing_mm"
    affine = affine_by_axes(image.spacing_mm or UNKNOWN_MM, image.axes or MATLAB_AXES)
    source = ImageSource(path=str(root / match.path), variable=image.variable, affine=affine)
    return replace(match, image=source, note=note)


def _stacks(image: ImageCard, matches: Sequence[FileMatch]) -> list[list[FileMatch]]:
    """Pictures that make one volume each: alone, or those that differ in the number of the slice only."""
    stacks: dict[object, list[FileMatch]] = {}
    for match in matches:
        others = frozenset(item for item in match.entities.items() if item[0] != image.stack)
        stacks.setdefault(match.path if image.stack is None else others, []).append(match)
    return list(stacks.values())


@dataclass(frozen=True)
class _Stack:
    """Pictures of one volume."""

    name: str
    image: ImageCard
    root: Path
    pictures: Sequence[FileMatch]
    tables: Sequence[FileMatch]

    def match(self) -> FileMatch:
        """The pictures as one volume, or with what is wrong with them."""
        first = self.pictures[0]
        path = first.path if len(self.pictures) == 1 else first.path.rpartition("/")[0] or "."
        try:
            by_number = self._by_number()
        except InputError as error:
            return replace(first, path=path, fault=self._relative(error))
        numbers = range(min(by_number), max(by_number) + 1)
        files = tuple(str(self.root / by_number[n].path) if n in by_number else "" for n in numbers)
        absent = files.count("")
        notes = [f"{absent} of {len(files)} slices absent and taken as zero"] if absent else []
        try:
            affine, note = self._place(by_number)
        except InputError as error:
            return replace(first, path=path, fault=self._relative(error))
        source = ImageSource(path=str(self.root / path), kind="pictures", files=files, affine=affine)
        relative = tuple(by_number[n].path if n in by_number else "" for n in numbers)
        return replace(first, path=path, files=relative, image=source, note="; ".join(filter(None, [*notes, note])))

    def _relative(self, error: InputError) -> str:
        return str(error).replace(f"{self.root}/", "")

    def _by_number(self) -> dict[int, FileMatch]:
        if self.image.stack is None:
            return {0: self.pictures[0]}
        found: dict[int, FileMatch] = {}
        for picture in self.pictures:
            number_ = slice_number(picture.entities[self.image.stack])
            if number_ is None:
                raise InputError(
                    f"{picture.path}: {{{self.image.stack}}} is {picture.entities[self.image.stack]!r}, which holds no "
                    f"number of a slice; correct images.{self.name}.stack"
                )
            if number_ in found:
                raise InputError(f"{picture.path}: slice {number_} is also {found[number_].path}; keep one")
            found[number_] = picture
        if max(found) - min(found) >= MOST_SLICES:
            raise InputError(
                f"{self.pictures[0].path}: {{{self.image.stack}}} runs from {min(found)} to {max(found)}, more than a "
                f"scan's slices; correct images.{self.name}.stack"
            )
        return dict(sorted(found.items()))

    def _place(self, by_number: Mapping[int, FileMatch]) -> tuple[Affine, str]:
        """The affine, and what was assumed for it."""
        axes = self.image.axes or PICTURE_AXES
        if self.image.slices is not None:
            return self._by_table(self.image.slices, by_number, axes), ""
        if self.image.spacing_mm is not None:
            return affine_by_axes(self.image.spacing_mm, axes), ""
        from cmb_autoseg.readers.pictures import pixel_mm

        picture = next(iter(by_number.values()))
        size_mm, why = pixel_mm(str(self.root / picture.path))
        cure = f"give images.{self.name}.spacing_mm or slices"
        if size_mm is None:
            return affine_by_axes(UNKNOWN_MM, axes), f"{picture.name} {why}: 1 mm assumed; {cure}"
        note = f"pixels of {size_mm:.4g} mm by the resolution of {picture.name}, slices 1 mm apart assumed; {cure}"
        return affine_by_axes((size_mm, size_mm, 1.0), axes), note

    def _by_table(self, table: SliceTable, by_number: Mapping[int, FileMatch], axes: str) -> Affine:
        from cmb_autoseg.readers.pictures import read_shape

        if len(self.tables) != 1:
            found = " and ".join(match.path for match in self.tables) or "none"
            raise InputError(
                f"{self.pictures[0].path}: one table for images.{self.name}.slices needed, found {found}; "
                "correct its path"
            )
        path = str(self.root / self.tables[0].path)
        rows = _rows_by_picture(path, table)
        slices = []
        for number_, picture in by_number.items():
            row = rows.get(picture.name, rows.get(picture.name.partition(".")[0]))
            if row is None:
                raise InputError(f"{self.tables[0].path}: no row of {picture.name} in column {table.key}; add it")
            slices.append(_slice(number_, row, table))
        i, j, _ = read_shape([str(self.root / next(iter(by_number.values())).path)])
        try:
            return affine_by_slices(slices, axes, (i, j))
        except InputError as error:
            raise InputError(f"{self.tables[0].path}: {error}") from None


def _rows_by_picture(path: str, table: SliceTable) -> dict[str, Row]:
    content = read_table(path)
    for column in (table.key, *_columns(table)):
        check_column(content.columns, column, path, "images.<name>.slices")
    return {str(row.cells[table.key]).rpartition("/")[2]: row for row in content.rows}


def _columns(table: SliceTable) -> list[str]:
    """Names of the columns with place and sizes."""
    called = {str(key): column for key, column in table.columns.items()}
    return [called.get(name, name) for name in (*PLACES, *SIZES)]


def _slice(slice_: int, row: Row, table: SliceTable) -> Slice:
    x_mm, y_mm, z_mm, pixel, thickness = (number(row, column) for column in _columns(table))
    if pixel <= 0 or thickness <= 0:
        raise InputError(f"{row.where}: sizes of {pixel:g} and {thickness:g} mm; correct them")
    return Slice(slice_, (x_mm, y_mm, z_mm), pixel, thickness)
