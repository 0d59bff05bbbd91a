"""One side of all cases: what a folder or a file given on the command line holds."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.inputs.case_lists import CaseLists, read_case_lists
from cmb_autoseg.evaluation.inputs.naming import (
    LIST_PATTERNS,
    MASK_PATTERNS,
    NUMBERED,
    RUN_RECORD,
    TABLE_OF_RUN,
    Inventory,
    case_of_list,
    case_of_map,
    case_of_mask,
    shown,
    take_stock,
)
from cmb_autoseg.evaluation.inputs.rows import LIST_SUFFIXES, read_rows
from cmb_autoseg.evaluation.inputs.sides import FileKind, SideFile
from cmb_autoseg.evaluation.matching.lesion_set import Kind
from cmb_autoseg.geometry import is_nifti, nifti_stem

__all__ = ["KIND_FLAGS", "LEGAL_NAMES", "Side", "listed", "read_side"]

LEGAL_NAMES = f"masks {', '.join(MASK_PATTERNS)}, or lists {', '.join(LIST_PATTERNS)}"
KIND_FLAGS = {"-p": "--predicted-kind", "--reference": "--reference-kind"}
NAMED = 3
"""Examples that a message lists."""
LARGEST_EMPTY_BYTES = 64
"""`[]`, or blank lines."""
OWN_LISTS = ("_lesions", NUMBERED)
"""Endings of the tables that cmb_predict writes of its own masks."""


@dataclass
class Side:
    """One side of all cases."""

    place: Path
    flag: str
    """`-p` or `--reference`."""
    files: dict[str, SideFile] = field(default_factory=dict)
    probabilities: dict[str, SideFile] = field(default_factory=dict)
    lists: CaseLists | None = None
    """Where one list speaks of all cases."""
    alone: bool = False
    """A single file of a single case, which need not be called like the other side's."""
    signs_of_prediction: tuple[str, ...] = ()
    """Files that only predictions have."""
    images: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    there: str = ""
    """What else lies there, for messages."""

    @property
    def kind_flag(self) -> str:
        return KIND_FLAGS[self.flag]


def read_side(place: Path, flag: str, kind: Kind | None, picture_names: Mapping[str, str]) -> Side:
    """Sort what was given for one side by case; of lists of all cases the rows are read, else names alone.

    Args:
        place: a folder or file.
        flag: `-p` or `--reference`.
        kind: which files to take where a case has several; None for masks before boxes before points.
        picture_names: of the other side's COCO file.

    Raises:
        InputError: no such file, one of a foreign kind, two files of one case.
    """
    if place.is_dir():
        return _folder(take_stock(place), flag, kind, picture_names)
    if not place.exists():
        raise InputError(f"{flag} {place}: no such file or folder; correct the path")
    if is_nifti(place):
        if kind not in (None, "mask"):
            raise InputError(f"{KIND_FLAGS[flag]} {kind}: {place} is a mask; give a list of {kind}, or leave it out")
        return _volume(place, flag)
    if place.suffix.lower() not in LIST_SUFFIXES or kind == "mask":
        raise InputError(f"{flag} {place}: neither a mask (.nii.gz) nor a list (.tsv, .csv, .json); give one of these")
    whole = _of_all_cases(place, flag, kind, picture_names)
    if whole is not None:
        return whole
    case, side = case_of_list(place)
    return Side(place, flag, {case: _as_kind(side, kind)}, alone=True)


def _volume(path: Path, flag: str) -> Side:
    """A mask or probability map that was given by itself."""
    mapped = case_of_map(nifti_stem(path))
    files = {mapped or case_of_mask(nifti_stem(path)): SideFile(path, "mask")}
    return Side(path, flag, files, dict(files) if mapped else {}, alone=True)


def listed(cases: Mapping[str, object] | list[str]) -> str:
    """`a, b, c, ... (9 in all)`."""
    names = list(cases)
    return (", ".join(names[:NAMED]) or "none") + (f", ... ({len(names)} in all)" if len(names) > NAMED else "")


def _of_all_cases(path: Path, flag: str, kind: Kind | None, picture_names: Mapping[str, str]) -> Side | None:
    """None of a list that is of one case alone."""
    lists = read_case_lists(path, picture_names)
    if lists is None:
        return None
    return Side(path, flag, {case: _as_kind(lists.side(case), kind) for case in lists.by_case}, lists=lists)


def _folder(stock: Inventory, flag: str, kind: Kind | None, picture_names: Mapping[str, str]) -> Side:
    table = _only_table(stock, kind)
    whole = None if table is None else _of_all_cases(table, flag, kind, picture_names)
    if whole is not None:
        return whole
    side = Side(stock.folder, flag, images=tuple(stock.images), there=shown(stock))
    if kind in (None, "mask"):
        _add_volumes(side, stock)
    if kind != "mask":
        _add_lists(side, stock, kind)
    side.files = {**side.files, **_empty_lists_as_others(side.files)}
    maps = (*stock.probabilities.values(), *stock.arrays.values())
    records = (name for name in stock.others if name == RUN_RECORD)
    side.signs_of_prediction = (*(path.name for path in maps), *records)
    return side


def _only_table(stock: Inventory, kind: Kind | None) -> Path | None:
    """The one table of a folder, which may speak of all cases, where nothing else does."""
    if stock.lists or (kind is None and (stock.masks or stock.probabilities)) or kind == "mask":
        return None
    tables = [side.path for sides in stock.plain_lists.values() for side in sides]
    if len(tables) == 1:
        return tables[0]
    return stock.folder / TABLE_OF_RUN if not tables and TABLE_OF_RUN in stock.others else None


def _add_volumes(side: Side, stock: Inventory) -> None:
    for case, path in stock.masks.items():
        side.files[case] = SideFile(path, "mask")
        beside = stock.probabilities.get(case) or stock.arrays.get(case)
        if beside is not None:
            side.probabilities[case] = SideFile(beside, "mask")
    if side.flag == "-p":
        for case, path in stock.probabilities.items():
            side.probabilities[case] = SideFile(path, "mask")
            side.files.setdefault(case, side.probabilities[case])


def _add_lists(side: Side, stock: Inventory, kind: Kind | None) -> None:
    volumes = bool(side.files)
    both: dict[str, str] = {}
    for case in {**stock.lists, **({} if volumes else stock.plain_lists)}:
        found = [*stock.lists.get(case, ()), *(() if volumes else stock.plain_lists.get(case, ()))]
        ranked = sorted((rank, list_.path, list_) for list_ in found if (rank := _rank(list_, kind)) is not None)
        if case in side.files:
            if not all(list_.path.stem.endswith(OWN_LISTS) for list_ in found):
                both[case] = side.files[case].path.name
            continue
        if len(ranked) > 1 and ranked[0][0] == ranked[1][0]:
            names = f"{ranked[0][1].name} and {ranked[1][1].name}"
            raise InputError(f"{stock.folder}: {names} are both lists of {case}; keep one")
        if ranked:
            side.files[case] = _as_kind(ranked[0][2], kind)
            if len(ranked) > 1:
                both[case] = ranked[0][1].name
    if both:
        side.notes = (
            f"{stock.folder}: several kinds of files of {listed(both)}; scored are those like "
            f"{next(iter(both.values()))}, {side.kind_flag} chooses others",
        )


def _empty_lists_as_others(files: Mapping[str, SideFile]) -> dict[str, SideFile]:
    """Lists without a header get that of another list, which says whether the detector gives scores."""
    lists = {case: side for case, side in files.items() if side.kind != "mask"}
    empty = {case: side for case, side in lists.items() if _is_empty(side.path)}
    filled = [side for case, side in lists.items() if case not in empty] if empty else []
    columns: dict[FileKind, tuple[str, ...]] = {}
    for kind in {side.kind for side in empty.values()}:
        own = (_columns(side.path) for side in filled if side.kind == kind)
        columns[kind] = next(filter(None, own), ())
    return {case: replace(side, rows=(), columns=columns[side.kind]) for case, side in empty.items()}


def _is_empty(path: Path) -> bool:
    return path.stat().st_size <= LARGEST_EMPTY_BYTES and _columns(path) == ()


def _columns(path: Path) -> tuple[str, ...] | None:
    """None of a file that cannot be read, by which its own case will fail."""
    try:
        return read_rows(path).columns
    except InputError:
        return None


def _rank(side: SideFile, kind: Kind | None) -> int | None:
    """Which of several lists of a case is taken: the lowest; None for one of another kind than asked for."""
    if side.kind == "list":
        telling = case_of_list(side.path)[0] != side.path.stem
        return 2 if telling else 4 if side.path.suffix.lower() == ".json" else 3
    if kind is not None and side.kind != kind:
        return None
    return 0 if side.kind == "boxes" else 1


def _as_kind(side: SideFile, kind: Kind | None) -> SideFile:
    return side if kind is None else replace(side, kind=kind)
