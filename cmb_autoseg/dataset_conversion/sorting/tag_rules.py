"""What a card asks of DICOM tags: rules on their values, and entities read from them."""

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cmb_autoseg.dataset_conversion.card import Card, EntityRule, TagRule, compiled_regex
from cmb_autoseg.dataset_conversion.card_file import OpenCard
from cmb_autoseg.dataset_conversion.sorting.patience import Patience
from cmb_autoseg.readers.dicom_frames import tag_number

__all__ = ["CardTags", "entity_of", "holds"]


@dataclass(frozen=True)
class CardTags:
    """The tags that a card names, by their numbers."""

    numbers: Mapping[str, int]
    """By the card's spelling."""

    @classmethod
    def of(cls, opened: OpenCard) -> "CardTags":
        """Look the tags up.

        Raises:
            CardError: DICOM knows no such keyword.
        """
        numbers: dict[str, int] = {}
        for where, tag in _named(opened.card):
            number = tag_number(tag)
            if number is None:
                raise opened.error(where, f"DICOM knows no tag {tag!r}{_nearest_keyword(tag)}")
            numbers[tag] = number
        return cls(numbers)

    def check_present(
        self, opened: OpenCard, naming: Iterable[str], present: Iterable[int], keywords: Iterable[str]
    ) -> None:
        """Make sure that every tag that must hold, or that names a case, is in some file.

        Args:
            opened: the card.
            naming: entities without which a case has no name; others may be unknown.
            present: numbers of the tags that have a value somewhere.
            keywords: of everything in the headers.

        Raises:
            CardError: a tag is in no file; names the nearest that is.
        """
        there = set(present)
        needed = {f"entities.{name}" for name in naming}
        for where, tag in _named(opened.card):
            if self.numbers[tag] not in there and (where in needed or ".dicom." in where):
                raise opened.error(
                    where, f"no DICOM file under {opened.root} has a value for {tag}{_nearest(tag, keywords)}"
                )


def _named(card: Card) -> Iterable[tuple[str, str]]:
    """Fields of the card and the tags in them."""
    for name, entity in card.entities.items():
        yield f"entities.{name}", entity.tag
    for name, image in card.images.items():
        yield from ((f"images.{name}.dicom.{tag}", tag) for tag in image.dicom)
        yield from ((f"images.{name}.exclude.{tag}", tag) for tag in image.exclude)


def _nearest_keyword(tag: str) -> str:
    from pydicom.datadict import keyword_dict

    return _nearest(tag, keyword_dict)


def _nearest(tag: str, keywords: Iterable[str]) -> str:
    near = difflib.get_close_matches(tag, sorted(set(keywords)), n=1, cutoff=0.5)
    return f"; the nearest is {near[0]}" if near else "; cmb_cohort check lists the series that are there"


def holds(rule: TagRule, text: str, patience: Patience, where: str) -> bool:
    """Whether a tag's value is as a rule wants it; an absent value (an empty text) never is.

    A regex is searched; one that is a plain number must equal a number. Of several numbers all must lie
    between min and max.
    """
    if not text:
        return False
    if rule.regex is None:
        numbers = [_number(value) for value in text.split("\\")]
        low = -math.inf if rule.min is None else rule.min
        high = math.inf if rule.max is None else rule.max
        return all(number is not None and low <= number <= high for number in numbers)
    wanted, found = _number(rule.regex), _number(text)
    if wanted is not None and found is not None:
        return wanted == found
    patience.start(f"{where}: {rule.regex!r} on the value of a tag")
    try:
        return compiled_regex(rule.regex).search(text) is not None
    finally:
        patience.start("")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def entity_of(rule: EntityRule, text: str, patience: Patience, where: str) -> str:
    """The entity in a tag's value; '' where there is none."""
    if rule.regex is None or not text:
        return text
    patience.start(f"{where}: {rule.regex!r} on the value of a tag")
    found = compiled_regex(rule.regex).search(text)
    patience.start("")
    return "" if found is None else (found[1] if found.re.groups else found[0]) or ""
