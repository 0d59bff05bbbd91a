"""Patterns of a card that match no file: refused where they are needed, else told where files may be theirs."""

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from cmb_autoseg.dataset_conversion.card import BRAIN_MASK, LABEL_NAME, REVIEWED_NAME, Card
from cmb_autoseg.dataset_conversion.card_file import OpenCard
from cmb_autoseg.dataset_conversion.sorting.card_paths import suffix_of
from cmb_autoseg.dataset_conversion.sorting.matching import MatchedFiles
from cmb_autoseg.dataset_conversion.sorting.patterns import IN_ARCHIVE, Pattern, pieces
from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import NIFTI_SUFFIXES
from cmb_autoseg.readers.archive import ARCHIVE_SUFFIXES, is_archive, list_members

__all__ = ["check_matches"]

FILES_COMPARED = 2000
"""At most so many files are compared with a pattern that matches nothing."""

PATTERN_SHOWN = 160
"""A longer pattern is shortened in messages."""


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
        unmatched: scans, and archives, that belong to no sequence.
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
    kinds = (*NIFTI_SUFFIXES, *ARCHIVE_SUFFIXES, suffix_of(pattern) or ".nii")
    candidates = [path for path in paths if path.lower().endswith(kinds)] or list(paths)
    step = max(1, len(candidates) // FILES_COMPARED)
    literal = "".join(
        text if entity is None else text + entity.partition(":")[0] for text, entity in pieces(pattern.text)
    )
    return max(
        candidates[::step],
        key=lambda path: difflib.SequenceMatcher(None, literal.lower(), path.lower(), autojunk=False).ratio(),
    )
