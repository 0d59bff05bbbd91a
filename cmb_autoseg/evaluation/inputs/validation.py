"""Validation cases must be other people's than those of the test."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.inputs.case_lists import CASE_COLUMNS
from cmb_autoseg.evaluation.inputs.case_table import bids_subject, number_of
from cmb_autoseg.evaluation.inputs.folders import listed
from cmb_autoseg.evaluation.inputs.rows import Row, cell_text, read_rows
from cmb_autoseg.evaluation.inputs.sides import CaseFiles, SideFile
from cmb_autoseg.files import text_digest
from cmb_autoseg.geometry import read_volume, to_canonical

__all__ = ["refuse_judged_cases"]

SAME_PLACE_MM = 0.01
CURE = "choose the threshold on other cases, or give a number that was fixed before"


@dataclass(frozen=True)
class _Content:
    """What a reference says, however it is stored."""

    digest: str
    affine: NDArray[np.float64] | None = None
    """(4, 4) of a mask in canonical axes."""

    def is_like(self, other: "_Content") -> bool:
        if self.affine is None or other.affine is None:
            return self.digest == other.digest
        return self.digest == other.digest and np.allclose(self.affine, other.affine, rtol=0, atol=SAME_PLACE_MM)


@dataclass(frozen=True)
class _Scan:
    """Whose scan a case is, as far as its name and the table tell."""

    case: str
    subject: str

    @cached_property
    def numbers(self) -> frozenset[str]:
        return frozenset(map(number_of, filter(None, (self.subject, bids_subject(self.case)))))

    @cached_property
    def is_told(self) -> bool:
        """By the table, not by the name alone."""
        return self.subject not in (self.case, bids_subject(self.case))

    @property
    def has_cohort(self) -> bool:
        return "/" in self.subject

    def may_be_of_the_person_of(self, other: "_Scan") -> bool:
        if self.is_told and other.is_told:
            without_cohort = not (self.has_cohort and other.has_cohort)
            return without_cohort and number_of(self.subject) == number_of(other.subject)
        return bool(self.numbers & other.numbers)


def refuse_judged_cases(
    validation: Sequence[CaseFiles],
    test: Sequence[CaseFiles],
    validation_subjects: Mapping[str, str],
    test_subjects: Mapping[str, str],
) -> None:
    """Refuse to choose a threshold on cases, people or references that the test is made of.

    The same number in two cohorts is two people; where a cohort or the subject is not told, one number is one person.
    Masks are compared voxel by voxel and lists row by row, however they are stored; those without a lesion are compared
    by name and subject alone, since empty masks of one grid are all alike.

    Args:
        validation: cases that a threshold is to be chosen on.
        test: cases that it is to be judged by.
        validation_subjects: by case, see `case_table.subject_of`.
        test_subjects: by case.

    Raises:
        InputError: names what is on both sides.
    """
    places = {_place(case.reference) for case in validation} & {_place(case.reference) for case in test}
    if places:
        raise InputError(f"--validation: the references in {sorted(places)[0]} are the test's own; {CURE}")
    names = sorted({case.name for case in validation} & {case.name for case in test})
    if names:
        raise InputError(f"--validation: {listed(names)} of validation are cases of the test, too; {CURE}")
    judged = {test_subjects[case.name] for case in test}
    shared = sorted({validation_subjects[case.name] for case in validation} & judged)
    if shared:
        raise InputError(f"--validation: subjects {listed(shared)} are in the test, too; {CURE}")
    _refuse_namesakes(_scans(validation, validation_subjects), _scans(test, test_subjects))
    _refuse_same_references(validation, test)


def _scans(cases: Sequence[CaseFiles], subjects: Mapping[str, str]) -> list[_Scan]:
    return [_Scan(case.name, subjects[case.name]) for case in cases]


def _refuse_namesakes(validation: Sequence[_Scan], test: Sequence[_Scan]) -> None:
    for scan in validation:
        same = next((other for other in test if scan.may_be_of_the_person_of(other)), None)
        if same is not None:
            raise InputError(
                f"--validation: {scan.case} (subject {scan.subject}) is by its name of the same person as {same.case} "
                f"(subject {same.subject}) in the test; {CURE}, or name cohort and subject of both with --cases if "
                "they are two people"
            )


def _refuse_same_references(validation: Sequence[CaseFiles], test: Sequence[CaseFiles]) -> None:
    tested: dict[str, list[tuple[CaseFiles, _Content]]] = {}
    for case in test:
        content = _content(case.reference)
        if content is not None:
            tested.setdefault(content.digest, []).append((case, content))
    for case in validation:
        content = _content(case.reference)
        if content is None:
            continue
        for same, other in tested.get(content.digest, ()):
            if content.is_like(other):
                raise InputError(
                    f"--validation: the reference of {case.name} is the same as that of {same.name} in the test "
                    f"({case.reference.path}, {same.reference.path}); {CURE}"
                )


def _place(side: SideFile) -> Path:
    """The file of all cases, or the folder."""
    return side.path.resolve() if side.rows is not None else side.path.resolve().parent


def _content(side: SideFile) -> _Content | None:
    """None of a reference without lesions, and of one that cannot be read, by which its own case will fail."""
    try:
        if side.kind == "mask":
            return _content_of_mask(side.path)
        rows = side.rows if side.rows is not None else read_rows(side.path).rows
    except InputError:
        return None
    return _Content(text_digest("\n".join(sorted(map(_line, rows))))) if rows else None


def _content_of_mask(path: Path) -> _Content | None:
    volume = to_canonical(read_volume(path))
    mask = volume.data > 0.5
    if not mask.any():
        return None
    return _Content(hashlib.sha256(repr(mask.shape).encode() + np.packbits(mask).tobytes()).hexdigest(), volume.affine)


def _line(row: Row) -> str:
    """A row of a list, whatever the order of its columns and however its numbers are written."""
    cells = ((column, cell_text(cell)) for column, cell in row.cells.items() if column not in CASE_COLUMNS)
    return "\t".join(f"{column}={_plain(text)}" for column, text in sorted(cells) if text)


def _plain(text: str) -> str:
    try:
        return repr(float(text))
    except ValueError:
        return text
