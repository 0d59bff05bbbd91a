"""One scan under two names: where two subjects share it, it could stand on both sides of a fold."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from cmb_autoseg.errors import InputError
from cmb_autoseg.files import file_digest
from cmb_autoseg.readers import files_of_volume
from cmb_autoseg.readers.archive import member_checksum, open_member, split_path
from cmb_autoseg.records import Case, ImageSource

__all__ = ["shared_scans"]

GLIMPSES = (0.25, 0.5, 0.75)
"""Where in a file a little is read before all of it; headers at its beginning are often equal."""
GLIMPSE_BYTES = 1 << 12
BLOCK_BYTES = 1 << 20


class _Scan(NamedTuple):
    source: ImageSource
    case: Case

    @property
    def person(self) -> tuple[str, str]:
        return self.case.cohort, self.case.subject

    @property
    def paths(self) -> list[str]:
        return [path for path in self.source.files if path] or [*files_of_volume(self.source.path)]


def shared_scans(cases: Sequence[Case]) -> dict[ImageSource, str]:
    """Scans whose bytes are those of another subject's, each with what is wrong about it.

    Sizes are compared first, then a few places in each file, and only what still agrees is read whole. Labels do
    not count, since masks without lesions are equal.
    """
    scans = [_Scan(source, case) for case in cases for source in case.images.values()]
    groups: list[list[_Scan]] = [scans]
    for trait in (_sizes, _glimpses, _contents):
        groups = [same for group in groups for same in _alike(group, trait)]
    found: dict[ImageSource, str] = {}
    for group in groups:
        for scan in group:
            other = next((other for other in group if other.person != scan.person), None)
            if other is not None:
                found[scan.source] = (
                    f"{scan.source.path}: the very scan of {other.source.path}, though subjects {scan.case.subject} "
                    f"and {other.case.subject} are taken for two people; remove the wrong one, or give both one "
                    "subject with group_by"
                )
    return found


def _alike(group: Sequence[_Scan], trait: Callable[[str], Hashable]) -> Iterator[list[_Scan]]:
    """Those of a group that agree in a trait of all their files, where they are of several people."""
    by_trait: defaultdict[Hashable, list[_Scan]] = defaultdict(list)
    for scan in group:
        with suppress(OSError, InputError):  # told of when the case is read
            by_trait[tuple(trait(path) for path in scan.paths)].append(scan)
    return (same for same in by_trait.values() if len({scan.person for scan in same}) > 1)


def _sizes(path: str) -> Hashable:
    return Path(path).stat().st_size if split_path(path) is None else member_checksum(path)


def _glimpses(path: str) -> Hashable:
    if split_path(path) is not None:
        return None
    with Path(path).open("rb") as stream:
        size = stream.seek(0, 2)
        parts = []
        for share in GLIMPSES:
            stream.seek(int(share * max(0, size - GLIMPSE_BYTES)))
            parts.append(stream.read(GLIMPSE_BYTES))
    return hashlib.sha256(b"".join(parts)).digest()


def _contents(path: str) -> Hashable:
    if split_path(path) is None:
        return file_digest(Path(path))
    digest = hashlib.sha256()
    with open_member(path) as stream:
        while block := stream.read(BLOCK_BYTES):
            digest.update(block)
    return f"sha256:{digest.hexdigest()}"
