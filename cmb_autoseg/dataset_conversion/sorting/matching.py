"""Which file of a cohort is which sequence of whom: patterns of the card against relative paths."""

import difflib
import fnmatch
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from cmb_autoseg.dataset_conversion.card import BRAIN_MASK, LABEL_NAME, REVIEWED_NAME, Card
from cmb_autoseg.dataset_conversion.card_file import OpenCard
from cmb_autoseg.dataset_conversion.sorting.card_paths import suffix_of
from cmb_autoseg.dataset_conversion.sorting.patience import Patience
from cmb_autoseg.dataset_conversion.sorting.patterns import IN_ARCHIVE, Pattern, pieces
from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import NIFTI_SUFFIXES
from cmb_autoseg.readers import ITK_SUFFIXES, MATLAB_SUFFIX, PICTURE_SUFFIXES
from cmb_autoseg.readers.archive import ARCHIVE_SUFFIXES, is_archive, list_members
from cmb_autoseg.records import ImageSource

__all__ = [
    "FileMatch",
    "MatchedFiles",
    "SeriesFound",
    "assign_files",
    "check_matches",
    "name_tags",
    "plain_tag",
]

FILES_COMPARED = 2000
"""At most so many files are compared with a pattern that matches nothing."""

PATTERN_SHOWN = 160
"""A longer pattern is shortened in messages."""


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


def assign_files(
    opened: OpenCard,
    root: Path,
    paths: Sequence[str],
    matched: Mapping[str, MatchedFiles],
    patience: Patience,
    name_files: bool = True,
) -> tuple[list[str], list[tuple[str, str]]]:
    """Put every file, and every member of an archive that a pattern looks into, where it belongs.

    Args:
        opened: the card.
        root: the cohort's folder.
        paths: of all files.
        matched: where they are put.
        patience: limits the card's regular expressions.
        name_files: False where the names of files tell who was scanned, which must not be written.

    Returns:
        The files of a kind in use that belong nowhere; and archives of unknown cases that cannot be read, with why.

    Raises:
        CardError: two patterns match one file.
    """
    sorter = _Assigner(opened, root, matched, patience, name_files)
    for path in paths:
        sorter.assign(path)
    patience.start("")
    ignored = opened.card.ignore
    return [
        path for path in sorter.unmatched if not any(fnmatch.fnmatchcase(path, glob) for glob in ignored)
    ], sorter.lost


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
        if not self._give(path, self._plain) and path.lower().endswith(self._kinds) and path not in self._known:
            self.unmatched.append(path)

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


def check_matches(
    opened: OpenCard,
    paths: Sequence[str],
    matched: Mapping[str, MatchedFiles],
    unmatched: Sequence[str],
    name_files: bool = True,
) -> Iterator[str]:
    """Refuse a needed pattern that matches nothing; warn of an optional one.

    That a cohort lacks an optional sequence is nothing to warn of where every scan belongs to another one.

    Args:
        opened: the card.
        paths: of all files.
        matched: where they were put.
        unmatched: scans that belong to no sequence.
        name_files: False where the names of files tell who was scanned, which must not be written.

    Raises:
        CardError: names the field, and the file that comes nearest.
    """
    card = opened.card
    if not paths:
        raise opened.error("root", f"{opened.root} holds no files; say where they are with CARD=ROOT on the command")
    nothing = {name for name, files in matched.items() if not files.files}
    images = [f"images.{name}" for name in card.images]
    if set(images) <= nothing:
        raise opened.error(*_matches_nothing(opened, matched[images[0]], paths, name_files))
    for name in sorted(nothing):
        if not _is_optional(card, name):
            raise opened.error(*_matches_nothing(opened, matched[name], paths, name_files))
        left = unmatched if _is_seen_in_full(matched[name], images) else paths
        if left:
            field_name, problem = _matches_nothing(opened, matched[name], left, name_files)
            yield f"{card.name}: {field_name} (optional): {problem}"


def _is_seen_in_full(files: MatchedFiles, images: Collection[str]) -> bool:
    """Whether files of a field's that its pattern misses would be among those that nothing matches.

    Marks and masks may be files of any kind, and members of an archive are not listed.
    """
    return files.name in images and (files.pattern is None or files.pattern.archive is None)


def _is_optional(card: Card, name: str) -> bool:
    if name == LABEL_NAME:
        return card.label is not None and card.label.optional
    image = card.images.get(name.removeprefix("images."))
    return image.optional if image is not None else name in (REVIEWED_NAME, BRAIN_MASK)


def _matches_nothing(opened: OpenCard, files: MatchedFiles, paths: Sequence[str], name_files: bool) -> tuple[str, str]:
    """The field at fault and what is wrong with it."""
    pattern = files.pattern
    if pattern is None:
        return (
            f"{files.name}.dicom",
            f"no series under {opened.root} has these tags; cmb_cohort check lists what is there",
        )
    text = pattern.text if len(pattern.text) <= PATTERN_SHOWN else f"{pattern.text[:40]}...{pattern.text[-40:]}"
    problem = f"'{text}' matches nothing under {opened.root}"
    if not name_files:
        return f"{files.name}.path", f"{problem}; cmb_cohort check names the nearest file"
    try:
        nearest = _nearest(pattern, _members_of_first(opened.root, pattern, paths) or paths)
    except InputError as error:
        return f"{files.name}.path", f"{problem}: {str(error).replace(f'{opened.root}/', '')}"
    return f"{files.name}.path", f"{problem}; the nearest file is {nearest}"


def _members_of_first(root: Path, pattern: Pattern, paths: Sequence[str]) -> list[str]:
    """What the first archive holds that the pattern looks into; nothing where it looks into none."""
    if pattern.archive is None:
        return []
    for path in paths:
        if is_archive(path) and pattern.archive.match(path) is not None:
            return [f"{path}{IN_ARCHIVE}{member.name}" for member in list_members(root / path)]
    return []


def _nearest(pattern: Pattern, paths: Sequence[str]) -> str:
    """The file that looks most like the pattern with its entities cut out."""
    kinds = (*NIFTI_SUFFIXES, suffix_of(pattern) or ".nii")
    candidates = [path for path in paths if path.lower().endswith(kinds)] or list(paths)
    step = max(1, len(candidates) // FILES_COMPARED)
    literal = "".join(
        text if entity is None else text + entity.partition(":")[0] for text, entity in pieces(pattern.text)
    )
    return max(
        candidates[::step],
        key=lambda path: difflib.SequenceMatcher(None, literal.lower(), path.lower(), autojunk=False).ratio(),
    )
