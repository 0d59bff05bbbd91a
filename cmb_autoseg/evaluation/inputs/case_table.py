"""What a table says of the cases, for subgroups and for whose scans they are."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.inputs.folders import listed
from cmb_autoseg.evaluation.inputs.rows import cell_text, first_of, is_missing, read_rows
from cmb_autoseg.geometry import canonical_grid, read_grid

__all__ = [
    "CaseTable",
    "DescribedCase",
    "bids_subject",
    "described_cases",
    "header_columns",
    "number_of",
    "read_case_table",
    "subject_of",
]

KEYS = ("case", "participant_id", "subject")
SESSION_KEYS = ("session_id", "session")
BIDS_NAME = re.compile(r"(?P<sub>sub-[A-Za-z0-9]+)(?:_(?P<ses>ses-[A-Za-z0-9]+))?(?:_.*)?")


@dataclass(frozen=True)
class CaseTable:
    """Rows by what names them; cells that say nothing (`n/a`) are left out."""

    path: Path
    key: str
    """`case`, `participant_id` or `subject`."""
    columns: tuple[str, ...]
    rows: Mapping[tuple[str, str], Mapping[str, str]]
    """By key and session; the session is '' where the table has none, and where a case names itself."""

    def of(self, case: str) -> Mapping[str, str] | None:
        """What the table says of a case; None where it has no row.

        A table of people is looked into by the case's name, else by the BIDS entities sub and ses that it begins with.
        """
        if self.key == "case" or (case, "") in self.rows:
            return self.rows.get((case, ""))
        name = BIDS_NAME.fullmatch(case)
        if name is None:
            return None
        people = (name["sub"], name["sub"].removeprefix("sub-"))
        visits = (name["ses"] or "", (name["ses"] or "").removeprefix("ses-"), "")
        keys = ((person, visit) for visit in visits for person in people)
        return next((self.rows[key] for key in keys if key in self.rows), None)


@dataclass(frozen=True)
class DescribedCase:
    """Whose scan a case is, and its columns."""

    case: str
    subject: str
    columns: Mapping[str, str]


def read_case_table(path: Path) -> CaseTable:
    """Read a table of cases or people: `cases.tsv` of a workspace, BIDS `participants.tsv`, or any TSV, CSV or JSON.

    Raises:
        InputError: unreadable, no column that names cases or people, an empty name, two rows of one name.
    """
    table = read_rows(path)
    key = first_of(table.columns, KEYS)
    if key is None:
        raise InputError(
            f"{path}: no column {', '.join(KEYS[:-1])} or {KEYS[-1]} (there: "
            f"{', '.join(filter(None, table.columns)) or 'none'}); name the column of the cases' names {KEYS[0]}"
        )
    session = None if key == "case" else first_of(table.columns, SESSION_KEYS)
    rows: dict[tuple[str, str], Mapping[str, str]] = {}
    first: dict[tuple[str, str], str] = {}
    for row in table.rows:
        if is_missing(row.cells.get(key)):
            raise InputError(f"{row.where}: column {key} is empty; name the case, or remove the row")
        visit = row.cells.get(session) if session else None
        name = (cell_text(row.cells[key]), "" if is_missing(visit) else cell_text(visit))
        if name in rows:
            shown = " ".join(filter(None, name))
            raise InputError(f"{row.where}: a second row of {shown}, after {first[name]}; keep one")
        rows[name] = {column: cell_text(cell) for column, cell in row.cells.items() if column and not is_missing(cell)}
        first[name] = row.where
    return CaseTable(path, key, tuple(filter(None, table.columns)), rows)


def bids_subject(case: str) -> str | None:
    """The BIDS entity `sub` that a case's name begins with: `sub-01` of `sub-01_ses-2`; None of other names."""
    name = BIDS_NAME.fullmatch(case)
    return None if name is None else name["sub"]


def number_of(subject: str) -> str:
    """What all ways of naming one person share: `01` of `sub-01` and of `cohort/sub-01`."""
    return subject.rpartition("/")[2].removeprefix("sub-")


def subject_of(case: str, columns: Mapping[str, str]) -> str:
    """Whose scan it is: `cohort/subject`, the subject, the BIDS entity `sub` of the case's name, or the case itself."""
    own = columns.get("subject") or columns.get("participant_id") or bids_subject(case) or case
    return f"{columns['cohort']}/{own}" if "cohort" in columns and "subject" in columns else own


def header_columns(path: Path) -> dict[str, str]:
    """Voxel size of a mask as columns, from its header: `voxel_size_mm` along x, y, z and `slice_thickness_mm`.

    The slice thickness is the distance of slices: the longest edge of a voxel. A header that cannot be read gives no
    columns; the case itself will fail by it.
    """
    try:
        affine = canonical_grid(*read_grid(path))[1]
    except InputError:
        return {}
    sizes = [round(float(size), 3) for size in np.linalg.norm(affine[:3, :3], axis=0)]
    return {
        "voxel_size_mm": " x ".join(f"{size:g}" for size in sizes),
        "slice_thickness_mm": f"{max(sizes):g}",
    }


def described_cases(
    cases: Sequence[str], table: CaseTable | None, headers: Mapping[str, Mapping[str, str]]
) -> tuple[list[DescribedCase], tuple[str, ...]]:
    """Subject and columns of each case, in their order, and warnings.

    Args:
        cases: their names.
        table: what the user says of them; its columns come before those of headers of the same name.
        headers: `header_columns` by case, where there is a mask.

    A scan of whom the table says nothing is of the person of the table's other scans with the same BIDS entity `sub`,
    where these are of one person.

    Raises:
        InputError: the table speaks of none of them.
    """
    rows = {case: None if table is None else table.of(case) for case in cases}
    missing = [case for case, row in rows.items() if row is None]
    warnings: tuple[str, ...] = ()
    if table is not None and missing:
        if len(missing) == len(rows):
            there = listed([" ".join(filter(None, name)) for name in table.rows])
            raise InputError(
                f"{table.path}: has no row for any case ({listed(missing)}); its column {table.key} holds {there}; "
                "name them alike"
            )
        warnings = (f"{table.path}: no row for {listed(missing)}; in subgroups they are counted as not known",)
    known = {} if table is None else _subjects_by_entity(table)
    described = []
    for case in cases:
        row = rows[case] or {}
        sibling = None if _names_subject(row) else known.get(number_of(bids_subject(case) or ""))
        described.append(DescribedCase(case, sibling or subject_of(case, row), {**headers.get(case, {}), **row}))
    return described, warnings


def _names_subject(row: Mapping[str, str]) -> bool:
    return "subject" in row or "participant_id" in row


def _subjects_by_entity(table: CaseTable) -> dict[str, str]:
    """Subjects that a table names, by the number in the BIDS entity `sub`; without numbers of several subjects."""
    subjects: dict[str, set[str]] = {}
    for (name, _visit), row in table.rows.items():
        entity = bids_subject(name) if table.key == "case" else f"sub-{number_of(name)}"
        if entity is not None and _names_subject(row):
            subjects.setdefault(number_of(entity), set()).add(subject_of(name, row))
    return {number: found.pop() for number, found in subjects.items() if len(found) == 1}
