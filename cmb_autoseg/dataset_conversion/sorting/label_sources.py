"""Which files say where the microbleeds of one case are."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from cmb_autoseg.dataset_conversion.card import LABEL_NAME, Card, ImageCard, LabelCard, RatersCard
from cmb_autoseg.dataset_conversion.labels.case_lists import is_listed
from cmb_autoseg.dataset_conversion.labels.unclaimed import Unclaimed
from cmb_autoseg.dataset_conversion.sorting.matching import FileMatch
from cmb_autoseg.dataset_conversion.sorting.patterns import Pattern, compile_pattern, pieces
from cmb_autoseg.errors import InputError
from cmb_autoseg.records import SUSCEPTIBILITY_ROLES, ImageSource, LabelSource, Role, TableRows

__all__ = ["claim_left_out", "label_source"]

PASSED_ON = frozenset(["kind", "values", "columns", "space", "radius_mm", "variable", "sheet", "format", "resample"])
"""Keys of the card that mean the same in the record."""


def label_source(
    card: Card,
    root: Path,
    found: Sequence[FileMatch],
    entities: Mapping[str, str],
    images: Mapping[Role, ImageSource],
    columns: Mapping[str, str],
    reviewed: bool,
    unclaimed: Unclaimed | None = None,
) -> LabelSource | None:
    """What marks the microbleeds of one case; None for an unlabelled one.

    A table or COCO file of all cases is opened once, to see whether it speaks of this one.

    Args:
        card: whose `labels` are asked.
        root: the cohort's folder.
        found: files that `labels.cmb.path` matches for this case, with their entities.
        entities: of the case.
        images: the case's sequences.
        columns: what `meta` and the participants table say of the case.
        reviewed: `labels.no_cmb` says that somebody read it and found none.
        unclaimed: keeps account of what tables and COCO files of all cases say of nobody.

    Raises:
        InputError: the files cannot be this case's label; the case is left out.
    """
    source = _marks(card, root, found, {**columns, **entities}, images)
    if source is not None and unclaimed is not None:
        unclaimed.claim(source)
    if source is not None and is_listed(source):
        return source.model_copy(update={"reviewed": reviewed})
    if reviewed:
        return LabelSource(kind="reviewed", path="")
    if found and card.label is not None and not card.label.optional:
        raise InputError(
            f"{found[0].path}: {_what_lacks(card.label)} says nothing of this case; set labels.cmb.optional: true to "
            "use it unlabelled, or correct the card"
        )
    return None


def claim_left_out(
    card: Card,
    root: Path,
    found: Mapping[str, Sequence[FileMatch]],
    known: Mapping[str, str],
    unclaimed: Unclaimed,
) -> None:
    """Claim what tables and COCO files say of a case that is left out: its entries name somebody.

    Args:
        card: as of `label_source`.
        root: the cohort's folder.
        found: files of the case by the card's field.
        known: its entities and columns.
        unclaimed: the account.
    """
    label = card.label
    if label is None or (label.rows is None and label.format != "coco"):
        return
    scans = [match for name in card.images for match in found.get(f"images.{name}", ())]
    pictures = tuple(str(root / path) for match in scans for path in match.files or (match.path,) if path)
    with suppress(InputError):
        rows = _rows(label, known)
        for match in found.get(LABEL_NAME, ()):
            path = str(root / match.path)
            unclaimed.claim(
                LabelSource(
                    kind=label.kind, path=path, sheet=label.sheet, format=label.format, pictures=pictures, **rows
                )
            )


def _what_lacks(label: LabelCard) -> str:
    if label.raters is not None and label.raters.one is not None:
        return f"the reader {label.raters.one}"
    return "the table" if label.rows is not None else "the file"


def _marks(
    card: Card,
    root: Path,
    found: Sequence[FileMatch],
    known: Mapping[str, str],
    images: Mapping[Role, ImageSource],
) -> LabelSource | None:
    """The files of the case, whether or not they say something of it."""
    label = card.label
    if label is None or not found:
        return None
    several = label.raters is not None and label.raters.combine != "one"
    if label.raters is not None:
        found = _of_readers(label.raters, found)
    settings: dict[str, Any] = {**label.model_dump(include=set(PASSED_ON)), **_rows(label, known)}
    if not label.values and (label.kind == "mask" or label.format == "yolo"):
        settings["values"] = {"cmb": 1 if label.kind == "mask" else 0}
    role = _marked_role(card, images)
    settings["grid"] = None if role == _reference_role(card, images) else role
    image = images.get(role) if role is not None else None
    if image is not None and label.kind == "boxes":
        settings["pictures"] = image.files if image.kind == "pictures" else (image.path,)
    if not found:
        return None
    if image is not None and image.kind == "pictures":
        pictures = _card_of_pictures(card, root, image)
        if pictures.stack in _pattern(label.path).entities:
            if several:
                raise InputError(
                    f"{LABEL_NAME}.raters: files of single slices by several readers are not combined; name one of "
                    "them (combine: one), or give one file a scan"
                )
            settings["files"] = _by_slice(root, found, pictures, image)
            return LabelSource(path=str(root / found[0].path), **settings)
    if several:
        return _readings(label, root, found, settings)
    if len(found) > 1:
        listed = " and ".join(match.path for match in found)
        raise InputError(f"{len(found)} files for {LABEL_NAME}: {listed}; make the pattern match one of them")
    return LabelSource(path=str(root / found[0].path), **settings)


def _rows(label: LabelCard, known: Mapping[str, str]) -> dict[str, Any]:
    """The rows of this case in a table of many; `equals` is filled with what is known of it."""
    if label.rows is None:
        return {}
    parts: list[str] = []
    for literal, entity in pieces(label.rows.equals):
        parts.append(literal)
        if entity is not None:
            if entity not in known:
                raise InputError(f"labels.cmb.rows.equals: {{{entity}}} is not known; there are {', '.join(known)}")
            parts.append(known[entity])
    return {"rows": TableRows(column=label.rows.column, equals="".join(parts).strip(), wide=label.rows.wide)}


def _marked_role(card: Card, images: Mapping[Role, ImageSource]) -> Role | None:
    """The sequence on whose grid the marks are: the card's, else the reference."""
    if card.label is not None and card.label.grid is not None:
        return card.images[card.label.grid].role
    return _reference_role(card, images)


def _reference_role(card: Card, images: Mapping[Role, ImageSource]) -> Role | None:
    """As `Case.reference_role` has it."""
    preferred = [card.prep.reference] if card.prep.reference is not None else []
    return next((role for role in (*preferred, *SUSCEPTIBILITY_ROLES) if role in images), None)


def _of_readers(raters: RatersCard, found: Sequence[FileMatch]) -> list[FileMatch]:
    """The files of all readers, or of the one that the card names."""
    if any(raters.entity not in match.entities for match in found):
        raise InputError(
            f"{LABEL_NAME}.raters: the path has no {{{raters.entity}}}; write it where the reader is named"
        )
    return [match for match in found if raters.combine != "one" or match.entities[raters.entity] == raters.one]


def _readings(label: LabelCard, root: Path, found: Sequence[FileMatch], settings: Mapping[str, Any]) -> LabelSource:
    """The readings of several readers, of whom each has one file."""
    assert label.raters is not None
    readings: dict[str, str] = {}
    for match in found:
        reader = match.entities[label.raters.entity]
        if reader in readings:
            raise InputError(f"2 files of reader {reader or '(empty)'} for {LABEL_NAME}, one is {match.path}; keep one")
        readings[reader] = str(root / match.path)
    ordered = dict(sorted(readings.items()))
    return LabelSource(path=next(iter(ordered.values())), raters=ordered, combine=label.raters.combine, **settings)


@cache
def _pattern(text: str) -> Pattern:
    return compile_pattern(text)


def _by_slice(root: Path, found: Sequence[FileMatch], image_card: ImageCard, image: ImageSource) -> tuple[str, ...]:
    """Files of marks aligned with the pictures of the stack; "" where a picture has none."""
    by_slice: dict[str, str] = {}
    for match in found:
        number = _number_of(match.entities[image_card.stack or ""])
        if number in by_slice:
            raise InputError(
                f"2 files for {LABEL_NAME} of slice {number}, one is {match.path}; make the pattern match one of them"
            )
        by_slice[number] = str(root / match.path)
    numbers = [_slice_of(image_card, root, picture) for picture in image.files]
    stray = sorted(set(by_slice) - set(numbers))
    if stray:
        raise InputError(f"{by_slice[stray[0]]}: marks slice {stray[0]}, of which there is no picture; remove it")
    return tuple(by_slice.get(number, "") for number in numbers)


def _card_of_pictures(card: Card, root: Path, image: ImageSource) -> ImageCard:
    """The sequence of the card that the pictures were found by; several may have one role."""
    relative = next(picture for picture in image.files if picture).removeprefix(f"{root}/")
    cards = [entry for entry in card.images.values() if entry.path is not None]
    return next(entry for entry in cards if _pattern(entry.path or "").match(relative) is not None)


def _slice_of(image_card: ImageCard, root: Path, picture: str) -> str:
    """The slice's number in a picture's path; '' of a slice without a picture."""
    if not picture or image_card.path is None or image_card.stack is None:
        return ""
    matched = _pattern(image_card.path).match(picture.removeprefix(f"{root}/"))
    return _number_of(matched[image_card.stack]) if matched else ""


def _number_of(text: str) -> str:
    """Without leading zeros, since scans and labels may count with different widths."""
    digits = re.search(r"\d+", text)
    return str(int(digits[0])) if digits else text
