"""One scan under two names: where two subjects share it, it could stand on both sides of a fold."""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cmb_autoseg.files import file_digest
from cmb_autoseg.records import Case

__all__ = ["shared_scans"]


def shared_scans(cases: Sequence[Case]) -> dict[str, str]:
    """Image files whose bytes are those of another subject's, each with what is wrong about it.

    Only files of equal size are read. Labels do not count, since masks without lesions are equal.
    """
    by_size: dict[int, list[tuple[str, Case]]] = defaultdict(list)
    for case in cases:
        for source in case.images.values():
            with suppress(OSError):  # told of when the case is read
                by_size[Path(source.path).stat().st_size].append((source.path, case))
    found: dict[str, str] = {}
    for group in by_size.values():
        if len({_person(case) for _, case in group}) > 1:
            found |= _shared_within(group)
    return found


def _shared_within(group: Sequence[tuple[str, Case]]) -> dict[str, str]:
    by_content: dict[str, list[tuple[str, Case]]] = defaultdict(list)
    for path, case in group:
        with suppress(OSError):
            by_content[file_digest(Path(path))].append((path, case))
    found: dict[str, str] = {}
    for same in by_content.values():
        for path, case in same:
            other = next(((p, c) for p, c in same if _person(c) != _person(case)), None)
            if other is not None:
                found[path] = (
                    f"{path}: the very scan of {other[0]}, though subjects {case.subject} and {other[1].subject} are "
                    "taken for two people; remove the wrong one, or give both one subject with group_by"
                )
    return found


def _person(case: Case) -> tuple[str, str]:
    return case.cohort, case.subject
