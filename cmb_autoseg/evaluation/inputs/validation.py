"""Validation cases must be other people's than those of the test."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.inputs.folders import listed
from cmb_autoseg.evaluation.inputs.rows import cell_text, read_rows
from cmb_autoseg.evaluation.inputs.sides import CaseFiles, SideFile
from cmb_autoseg.files import file_digest, text_digest
from cmb_autoseg.geometry import read_volume

__all__ = ["refuse_judged_cases"]


def refuse_judged_cases(
    validation: Sequence[CaseFiles],
    test: Sequence[CaseFiles],
    validation_subjects: Mapping[str, str],
    test_subjects: Mapping[str, str],
) -> None:
    """Refuse to choose a threshold on cases, people or references that the test is made of.

    References without a lesion are compared by name and subject alone: empty masks of one grid are the same bytes.

    Args:
        validation: cases that a threshold is to be chosen on.
        test: cases that it is to be judged by.
        validation_subjects: by case, see `case_table.subject_of`.
        test_subjects: by case.

    Raises:
        InputError: names what is on both sides.
    """
    cure = "choose the threshold on other cases, or give a number that was fixed before"
    places = {_place(case.reference) for case in validation} & {_place(case.reference) for case in test}
    if places:
        raise InputError(f"--validation: the references in {sorted(places)[0]} are the test's own; {cure}")
    names = sorted({case.name for case in validation} & {case.name for case in test})
    if names:
        raise InputError(f"--validation: {listed(names)} of validation are cases of the test, too; {cure}")
    judged = {test_subjects[case.name] for case in test}
    shared = sorted({validation_subjects[case.name] for case in validation} & judged)
    if shared:
        raise InputError(f"--validation: subjects {listed(shared)} are in the test, too; {cure}")
    tested = {_digest(case.reference): case for case in test}
    for case in validation:
        same = tested.get(_digest(case.reference))
        if same is not None and _has_lesions(case.reference):
            raise InputError(
                f"--validation: the reference of {case.name} is the same file as that of {same.name} in the test "
                f"({case.reference.path}, {same.reference.path}); {cure}"
            )


def _place(side: SideFile) -> Path:
    """The file of all cases, or the folder."""
    return side.path.resolve() if side.rows is not None else side.path.resolve().parent


def _digest(side: SideFile) -> str:
    if side.rows is None:
        return file_digest(side.path)
    lines = sorted(" ".join(cell_text(row.cells.get(column)) for column in side.columns) for row in side.rows)
    return text_digest("\n".join(lines))


def _has_lesions(side: SideFile) -> bool:
    if side.kind == "mask":
        return bool(read_volume(side.path).data.any())
    return bool(side.rows if side.rows is not None else read_rows(side.path).rows)
