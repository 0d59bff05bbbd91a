"""Names of cases and subjects, and pseudonyms where the card asks for them."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from cmb_autoseg.dataset_conversion.card_file import OpenCard
from cmb_autoseg.dataset_conversion.patterns import pieces

__all__ = ["Name", "Namer", "disguise", "safe_name"]

Entities = Mapping[str, str]


def disguise(text: str, aliases: Mapping[str, str]) -> str:
    """Replace identifiers in a text by their pseudonyms."""
    for identifier, pseudonym in aliases.items():
        text = re.sub(rf"(?<![A-Za-z0-9]){re.escape(identifier)}(?![A-Za-z0-9])", pseudonym, text)
    return text


def safe_name(text: str) -> str:
    """A case name that is safe as a file name and that nnU-Net cannot take for a channel.

    Other characters than letters, digits, `_`, `-` and `.` become `-`; separators at the ends go;
    a trailing `_2019` becomes `-2019`, because `_0000` is how nnU-Net numbers channels.
    """
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", text)
    plain = re.sub(r"_{2,}", "_", plain).strip("_-.")
    return re.sub(r"_(\d{4})$", r"-\1", plain)


@dataclass(frozen=True)
class Name:
    """What a case is called."""

    case: str
    subject: str
    session: str | None
    """None where there is one session without a name."""
    plain: str
    """The case's name before identifiers were replaced; equal to `case` where none are. Never written."""


class Namer:
    """Names cases and subjects, with pseudonyms where a salt is given.

    Args:
        opened: the card.
        template: of the case's name, with entities in braces.
        salt: of the pseudonyms; None for none.
    """

    def __init__(self, opened: OpenCard, template: str, salt: str | None) -> None:
        self.opened = opened
        self.template = template
        self.salt = salt
        self.aliases: dict[str, str] = {}
        self._taken: dict[str, Entities] = {}
        self._groups: dict[str, str] = {}

    def name(self, entities: Entities) -> Name:
        """Name a case.

        Raises:
            CardError: two cases get one name, or one person two groups.
        """
        shown = dict(entities)
        if self.salt is not None:
            for entity in {"sub", *self.opened.card.group_by} & set(entities):
                shown[entity] = self._alias(entities[entity])
        name = self._filled(shown)
        if not name or name in self._taken:
            other = f", as {dict(self._taken[name])} does" if name else ""
            raise self.opened.error(
                "case", f"{self.template!r} gives {dict(entities)} the name {name!r}{other}; add an entity that differs"
            )
        self._taken[name] = entities
        subject = "_".join(shown[entity] for entity in self.opened.card.group_by)
        person = entities.get("sub")
        if person is not None and self._groups.setdefault(person, subject) != subject:
            raise self.opened.error(
                "group_by",
                f"sub {person} falls into {self._groups[person]} and {subject}, so it could stand on both sides "
                "of a split; group by sub or by something coarser",
            )
        return Name(name, subject, shown.get("ses") or None, self._filled(entities))

    def check_groups(self) -> None:
        """Refuse groups without a name, which would lump strangers together."""
        if "" in self._groups.values():
            raise self.opened.error("group_by", "gives some cases an empty group; use an entity that every path has")

    def _filled(self, entities: Entities) -> str:
        return safe_name("".join(text + entities.get(entity or "", "") for text, entity in pieces(self.template)))

    def _alias(self, identifier: str) -> str:
        digest = hashlib.sha256(f"{self.salt}:{identifier}".encode()).hexdigest()
        return self.aliases.setdefault(identifier, f"anon{digest[:12]}")
