"""Which file of a cohort is which sequence of whom: patterns of the card against relative paths."""

import fnmatch
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from cmb_autoseg.dataset_conversion.card import REVIEWED_NAME, Card
from cmb_autoseg.dataset_conversion.card_file import OpenCard
from cmb_autoseg.dataset_conversion.sorting.patience import Patience
from cmb_autoseg.dataset_conversion.sorting.patterns import IN_ARCHIVE, Pattern
from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import NIFTI_SUFFIXES
from cmb_autoseg.readers import ITK_SUFFIXES, MATLAB_SUFFIX, PICTURE_SUFFIXES
from cmb_autoseg.readers.archive import ARCHIVE_SUFFIXES, is_archive, list_members
from cmb_autoseg.records import ImageSource

__all__ = [
    "FileMatch",
    "LeftOver",
    "MatchedFiles",
    "SeriesFound",
    "assign_files",
    "name_tags",
    "plain_tag",
]


@dataclass(frozen=True)
class FileMatch:
    """One file, or the files of one volume, that a sequence of the card describes."""

    path: str
    """Relative to the cohort's root: a file, `ARCHIVE!/MEMBER`, or the folder of several files."""
    entities: Mapping[str, str]
    files: tuple[str, ...] = ()
    """Of several files these, relative too, in the order of slices; "" where a slice is absent."""
    image: ImageSource | None = None
    """How it is read, with absolute paths; None where the path alone says it."""
    fault: str = ""
    """Why it cannot be used, in one line; '' where nothing is known against it."""
    note: str = ""
    """What was assumed of it, for the case's record."""
    echo_time_ms: float | None = None
    """Of DICOM series; the echo time of files is in their sidecars."""
    acquired: str = ""
    """Sorts scans of one case by their age, for `pick: latest`; '' where names alone tell. Never written."""

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def told_fault(self) -> str:
        """Its fault with the file's name, once."""
        return self.fault if self.path in self.fault else f"{self.path}: {self.fault}"

    @property
    def tags(self) -> frozenset[str]:
        """Of the series, without leading zeros: `run-2` for `run-02`."""
        return name_tags(self.series)

    @property
    def series(self) -> str:
        """The file's name without its echo: equal for the echoes of one scan."""
        return self.name.replace(self.entities.get("echo", ""), "", 1)

    @property
    def echo(self) -> int | None:
        """The number in the entity `echo`, if the pattern has one and it is not empty."""
        digits = re.search(r"\d+", self.entities.get("echo", ""))
        return int(digits[0]) if digits else None


def plain_tag(tag: str) -> str:
    """A tag without leading zeros in its number: `run-02` and `run-2` are the same."""
    return re.sub(r"-0+(?=\d+$)", "-", tag)


def name_tags(name: str) -> frozenset[str]:
    """The parts of a file's name that hold a hyphen, as in `run-2`."""
    return frozenset(plain_tag(tag) for tag in name.split(".")[0].split("_") if "-" in tag)


@dataclass(frozen=True)
class SeriesFound:
    """What `dicom_cohort.find_series` finds in a cohort of DICOM files."""

    matches: Mapping[str, Sequence[FileMatch]]
    """By field of the card, `images.NAME`; each with all of the card's entities and with `image`."""
    unmatched: tuple[str, ...] = ()
    """Series that no sequence asks for, as `check` should list them."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class MatchedFiles:
    """The files of one sequence, of the labels or of the brain masks, by the case's entities that they have."""

    name: str
    """The card's field, such as `images.NAME`."""
    pattern: Pattern | None
    """None of sequences that are found by DICOM tags."""
    key_entities: tuple[str, ...]
    files: dict[tuple[str, ...], list[FileMatch]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[FileMatch]:
        return (match for files in self.files.values() for match in files)

    def add(self, match: FileMatch) -> None:
        self.files.setdefault(self._key(match.entities), []).append(match)

    def of(self, entities: Mapping[str, str]) -> list[FileMatch]:
        """The files of the case with these entities."""
        return self.files.get(self._key(entities), [])

    def _key(self, entities: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(entities[name] for name in self.key_entities)


@dataclass(frozen=True)
class LeftOver:
    """Files that belong to no pattern, but for those that the card ignores."""

    scans: tuple[str, ...]
    """Of a kind in use; archives are where some pattern looks into one."""
    archives: tuple[str, ...]
    """Where no pattern looks into one: a sequence that comes as plain files may lie packed in them."""
    unreadable: tuple[tuple[str, str], ...]
    """Archives of unknown cases that cannot be read, with why."""


def assign_files(
    opened: OpenCard,
    root: Path,
    paths: Sequence[str],
    matched: Mapping[str, MatchedFiles],
    patience: Patience,
    name_files: bool = True,
) -> LeftOver:
    """Put every file, and every member of an archive that a pattern looks into, where it belongs.

    Args:
        opened: the card.
        root: the cohort's folder.
        paths: of all files.
        matched: where they are put.
        patience: limits the card's regular expressions.
        name_files: False where the names of files tell who was scanned, which must not be written.

    Raises:
        CardError: two patterns match one file.
    """
    sorter = _Assigner(opened, root, matched, patience, name_files)
    for path in paths:
        sorter.assign(path)
    patience.start("")
    return LeftOver(
        _not_ignored(opened.card, sorter.unmatched), _not_ignored(opened.card, sorter.archives), tuple(sorter.lost)
    )


def _not_ignored(card: Card, paths: Sequence[str]) -> tuple[str, ...]:
    return tuple(path for path in paths if not any(fnmatch.fnmatchcase(path, glob) for glob in card.ignore))


class _Assigner:
    """Gives files to the patterns that match them."""

    def __init__(
        self,
        opened: OpenCard,
        root: Path,
        matched: Mapping[str, MatchedFiles],
        patience: Patience,
        name_files: bool,
    ) -> None:
        self.opened = opened
        self.root = root
        self.patience = patience
        self.name_files = name_files
        self.unmatched: list[str] = []
        self.archives: list[str] = []
        self.lost: list[tuple[str, str]] = []
        patterns = [(files, files.pattern) for files in matched.values() if files.pattern is not None]
        self._plain = [(files, pattern) for files, pattern in patterns if pattern.archive is None]
        self._inside = [(files, pattern) for files, pattern in patterns if pattern.archive is not None]
        self._kinds = _kinds_of_files(opened.card, bool(self._inside))
        participants = opened.card.meta.participants
        self._known = {participants.path} if participants is not None else set()

    def assign(self, path: str) -> None:
        """Find the owner of a file."""
        if self._inside and is_archive(path) and self._assign_members(path):
            return
        if self._give(path, self._plain) or path in self._known:
            return
        if path.lower().endswith(self._kinds):
            self.unmatched.append(path)
        elif is_archive(path):
            self.archives.append(path)

    def _give(self, path: str, candidates: Sequence[tuple[MatchedFiles, Pattern]], fault: str = "") -> bool:
        owners: list[str] = []
        for files, pattern in candidates:
            entities = self._match(files.name, pattern, path)
            if entities is not None:
                files.add(FileMatch(path, entities, fault=fault))
                owners.append(files.name)
        # Which scans were read is often told by a folder of the scans themselves.
        rivals = [name for name in owners if name != REVIEWED_NAME]
        if len(rivals) > 1:
            which = path if self.name_files else "a file"
            raise self.opened.error(
                rivals[1], f"matches {which}, which {rivals[0]} matches too; make the patterns distinct"
            )
        return bool(owners)

    def _assign_members(self, path: str) -> bool:
        """Whether some pattern uses the archive; an archive that cannot be listed is one of its cases' faults."""
        wanted = [
            (files, pattern, entities)
            for files, pattern in self._inside
            if pattern.archive is not None and (entities := self._match(files.name, pattern.archive, path)) is not None
        ]
        if not wanted:
            return False
        self.patience.start("")
        try:
            members = list_members(self.root / path)
        except InputError as error:
            self._add_broken(path, wanted, str(error).replace(f"{self.root}/", ""))
            return True
        inside = [(files, pattern) for files, pattern, _ in wanted]
        used = [self._give(f"{path}{IN_ARCHIVE}{member.name}", inside, member.fault) for member in members]
        return any(used)

    def _add_broken(
        self, path: str, wanted: Sequence[tuple[MatchedFiles, Pattern, Mapping[str, str]]], fault: str
    ) -> None:
        """Lay an unreadable archive on the cases that its name tells of; of another nobody knows whose it is."""
        told = False
        for files, _, entities in wanted:
            if set(files.key_entities) <= set(entities):
                files.add(FileMatch(path, entities, fault=fault))
                told = True
        if not told:
            self.lost.append((path, f"none of its cases are known: {fault}"))

    def _match(self, name: str, pattern: Pattern, path: str) -> dict[str, str] | None:
        where = f" on {path!r}" if self.name_files else ""
        self.patience.start(f"{name}.path: {pattern.text!r}{where}")
        return pattern.match(path)


def _kinds_of_files(card: Card, in_archives: bool) -> tuple[str, ...]:
    """Suffixes of scans, and of the files in which lesions are marked; small letters."""
    kinds = {*NIFTI_SUFFIXES, *ITK_SUFFIXES}
    if card.dim == 2:
        kinds |= set(PICTURE_SUFFIXES)
    if in_archives:
        kinds |= set(ARCHIVE_SUFFIXES)
    if any(image.path is not None and image.path.lower().endswith(MATLAB_SUFFIX) for image in card.images.values()):
        kinds.add(MATLAB_SUFFIX)
    label = card.label
    if label is not None and label.kind != "mask":
        kinds.add(PurePosixPath(label.path).suffix.lower() or ".tsv")
    return tuple(sorted(kinds))
