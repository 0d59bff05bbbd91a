"""Which file of a cohort is which sequence of whom: patterns of the card against relative paths."""

import difflib
import fnmatch
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from cmb_autoseg.dataset_conversion.card import BRAIN_MASK, LABEL_NAME, REVIEWED_NAME, Card
from cmb_autoseg.dataset_conversion.card_file import OpenCard
from cmb_autoseg.dataset_conversion.patience import Patience
from cmb_autoseg.dataset_conversion.patterns import Pattern, compile_pattern, pieces
from cmb_autoseg.geometry import NIFTI_SUFFIXES
from cmb_autoseg.records import ImageSource

__all__ = [
    "FileMatch",
    "MatchedFiles",
    "SeriesFound",
    "assign_files",
    "card_patterns",
    "case_template",
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
    acquired: str = ""
    """Sorts scans of one case by their age, for `pick: latest`; '' where names alone tell. Never written."""

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

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


def card_patterns(opened: OpenCard, labels: bool) -> dict[str, Pattern]:
    """Compiled patterns by the field that holds them: `images.NAME`, `labels.cmb`, `brain_mask` and so on.

    Raises:
        CardError: a pattern is none, or its suffix is that of files that are not read.
    """
    card = opened.card
    texts = {f"images.{name}": image.path for name, image in card.images.items() if image.path is not None}
    if labels and card.label is not None:
        texts[LABEL_NAME] = card.label.path
    if labels and card.labels.no_cmb is not None and card.labels.no_cmb.path is not None:
        texts[REVIEWED_NAME] = card.labels.no_cmb.path
    if card.brain_mask is not None:
        texts[BRAIN_MASK] = card.brain_mask.path
    return {name: _compiled(opened, name, text) for name, text in texts.items()}


def _compiled(opened: OpenCard, name: str, text: str) -> Pattern:
    try:
        pattern = compile_pattern(text)
    except ValueError as error:
        raise opened.error(f"{name}.path", str(error)) from None
    suffix = re.search(r"\.[A-Za-z0-9.]+$", text)
    volume_needed = name not in (LABEL_NAME, REVIEWED_NAME) or (
        name == LABEL_NAME and opened.card.label is not None and opened.card.label.kind == "mask"
    )
    if volume_needed and suffix and not suffix[0].lower().endswith(NIFTI_SUFFIXES):
        raise opened.error(f"{name}.path", f"ends in {suffix[0]}; only .nii and .nii.gz are read, convert the files")
    return pattern


def case_template(opened: OpenCard, patterns: Mapping[str, Pattern]) -> tuple[str, tuple[str, ...]]:
    """The template of case names and the entities in it.

    Raises:
        CardError: it, `group_by` or the participants table's key names an entity that no image has.
    """
    card = opened.card
    there = {entity for name, pattern in patterns.items() if _is_image(name) for entity in pattern.entities}
    there |= set(card.entities)
    template = card.case
    if template is None:
        if "sub" not in there:
            raise opened.error("images", "no path has {sub}; call the part that names the subject {sub}, or set case")
        template = "{sub}_{ses}" if "ses" in there else "{sub}"
    try:
        entities = tuple(dict.fromkeys(entity for _, entity in pieces(template) if entity is not None))
    except ValueError as error:
        raise opened.error("case", str(error)) from None
    listed = ", ".join(f"{{{entity}}}" for entity in sorted(there)) or "none"
    if not entities:
        raise opened.error("case", f"{template!r} names no entity; use those of the paths ({listed})")
    table = card.meta.participants
    keys = (table.key,) if table else ()
    for owner, names in (("case", entities), ("group_by", card.group_by), ("meta.participants.key", keys)):
        for entity in names:
            if entity not in there:
                raise opened.error(owner, f"{{{entity}}} is in no image path (there: {listed}); name one of these")
    if LABEL_NAME in patterns and not _one_file_for_many(card):
        _check_label_entities(opened, patterns[LABEL_NAME], entities)
    complete = card.source == "dicom" or any(
        set(entities) <= set(pattern.entities) for name, pattern in patterns.items() if _is_image(name)
    )
    if not complete:
        raise opened.error("case", f"no image path holds all of {template!r}; add the missing entity to one")
    return template, entities


def _is_image(name: str) -> bool:
    return name.startswith("images.")


def _one_file_for_many(card: Card) -> bool:
    """Whether one file of labels may hold several cases."""
    return card.label is not None and (card.label.rows is not None or card.label.format == "coco")


def _check_label_entities(opened: OpenCard, pattern: Pattern, entities: Sequence[str]) -> None:
    lacking = [entity for entity in entities if entity not in pattern.entities]
    if not lacking:
        return
    coarser = "_".join(f"{{{entity}}}" for entity in entities if entity not in lacking)
    what = " and ".join("session" if entity == "ses" else entity for entity in lacking)
    instead = f', or set case: "{coarser}" where everybody has one {what}' if coarser else ""
    raise opened.error(
        f"{LABEL_NAME}.path",
        f"lacks {{{lacking[0]}}}, so one label would serve several cases; add {{{lacking[0]}}}{instead}",
    )


def assign_files(
    opened: OpenCard, paths: Sequence[str], matched: Mapping[str, MatchedFiles], patience: Patience
) -> list[str]:
    """Put every file where it belongs; returns the files of a kind in use that belong nowhere.

    Raises:
        CardError: two patterns match one file.
    """
    kinds = _kinds_of_files(opened.card)
    participants = opened.card.meta.participants
    unmatched: list[str] = []
    for path in paths:
        owners: list[str] = []
        for name, files in matched.items():
            if files.pattern is None:
                continue
            patience.start(f"{name}.path: {files.pattern.text!r} on {path!r}")
            entities = files.pattern.match(path)
            if entities is not None:
                files.add(FileMatch(path, entities))
                owners.append(name)
        # Which scans were read is often told by a folder of the scans themselves.
        rivals = [name for name in owners if name != REVIEWED_NAME]
        if len(rivals) > 1:
            raise opened.error(rivals[1], f"matches {path}, which {rivals[0]} matches too; make the patterns distinct")
        if not owners and path.lower().endswith(kinds) and (participants is None or path != participants.path):
            unmatched.append(path)
    patience.start("")
    return [path for path in unmatched if not any(fnmatch.fnmatchcase(path, glob) for glob in opened.card.ignore)]


def _kinds_of_files(card: Card) -> tuple[str, ...]:
    """Suffixes of scans, and of the files in which lesions are marked; small letters."""
    label = card.label
    if label is None or label.kind == "mask":
        return NIFTI_SUFFIXES
    return (*NIFTI_SUFFIXES, *(PurePosixPath(label.path).suffix.lower() or ".tsv",))


def check_matches(opened: OpenCard, paths: Sequence[str], matched: Mapping[str, MatchedFiles]) -> Iterator[str]:
    """Refuse a needed pattern that matches nothing; warn of an optional one.

    Raises:
        CardError: names the field, and the file that comes nearest.
    """
    card = opened.card
    if not paths:
        raise opened.error("root", f"{opened.root} holds no files; say where they are with CARD=ROOT on the command")
    nothing = {name for name, files in matched.items() if not files.files}
    images = {name for name in matched if _is_image(name)}
    if images <= nothing:
        name = next(name for name in matched if name in images)
        raise opened.error(*_matches_nothing(opened, matched[name], paths))
    for name in sorted(nothing):
        field_name, problem = _matches_nothing(opened, matched[name], paths)
        if not _is_optional(card, name):
            raise opened.error(field_name, problem)
        yield f"{card.name}: {field_name} (optional): {problem}"


def _is_optional(card: Card, name: str) -> bool:
    if name == LABEL_NAME:
        return card.label is not None and card.label.optional
    return not _is_image(name) or card.images[name.removeprefix("images.")].optional


def _matches_nothing(opened: OpenCard, files: MatchedFiles, paths: Sequence[str]) -> tuple[str, str]:
    """The field at fault and what is wrong with it."""
    pattern = files.pattern
    if pattern is None:
        return (
            f"{files.name}.dicom",
            f"no series under {opened.root} has these tags; cmb_cohort check lists what is there",
        )
    text = pattern.text if len(pattern.text) <= PATTERN_SHOWN else f"{pattern.text[:40]}...{pattern.text[-40:]}"
    problem = f"'{text}' matches nothing under {opened.root}; the nearest file is {_nearest(pattern, paths)}"
    return f"{files.name}.path", problem


def _nearest(pattern: Pattern, paths: Sequence[str]) -> str:
    """The file that looks most like the pattern with its entities cut out."""
    candidates = [path for path in paths if path.lower().endswith(NIFTI_SUFFIXES)] or list(paths)
    step = max(1, len(candidates) // FILES_COMPARED)
    literal = "".join(
        text if entity is None else text + entity.partition(":")[0] for text, entity in pieces(pattern.text)
    )
    return max(
        candidates[::step],
        key=lambda path: difflib.SequenceMatcher(None, literal.lower(), path.lower(), autojunk=False).ratio(),
    )
