"""Names of cases and subjects, and pseudonyms where the card asks for them."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cmb_autoseg.dataset_conversion.card_file import OpenCard
from cmb_autoseg.dataset_conversion.sorting.patterns import pieces

__all__ = ["Name", "Namer", "safe_name"]

Entities = Mapping[str, str]


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
    replaced: Mapping[str, str] = field(default_factory=dict)
    """Entities that have a pseudonym."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """The case's identifiers to their pseudonyms. Never written."""


class Namer:
    """Names cases and subjects, with pseudonyms where a salt is given.

    Args:
        opened: the card.
        template: of the case's name, with entities in braces.
        salt: of the pseudonyms; None for none.
        visits: subject and session of all scans; sessions that come from DICOM tags, which are dates more often
            than not, are numbered by them.
    """

    def __init__(
        self, opened: OpenCard, template: str, salt: str | None, visits: Iterable[tuple[str, str]] = ()
    ) -> None:
        self.opened = opened
        self.template = template
        self.salt = salt
        self.aliases: dict[str, str] = {}
        self.known: set[str] = set()
        """All names given so far, with pseudonyms and without."""
        self._sessions: dict[str, list[str]] = {}
        for person, session in sorted(set(visits)):
            self._sessions.setdefault(person, []).append(session)
        self._taken: dict[str, Entities] = {}
        self._groups: dict[str, str] = {}

    def name(self, entities: Entities) -> Name:
        """Name a case.

        Raises:
            CardError: two cases get one name, or one person two groups.
        """
        replaced = {} if self.salt is None else self._pseudonyms(entities)
        shown = {**entities, **replaced}
        name = self._filled(shown)
        if not name or name in self._taken:
            other = f", as {dict(self._taken[name])} does" if name else ""
            raise self.opened.error(
                "case", f"{self.template!r} gives {shown} the name {name!r}{other}; add an entity that differs"
            )
        self._taken[name] = shown
        subject = "_".join(shown[entity] for entity in self.opened.card.group_by)
        person = entities.get("sub")
        if person is not None and self._groups.setdefault(person, subject) != subject:
            raise self.opened.error(
                "group_by",
                f"sub {shown['sub']} falls into {self._groups[person]} and {subject}, so it could stand on both sides "
                "of a split; group by sub or by something coarser",
            )
        plain = self._filled(entities)
        self.known |= {name, plain}
        aliases = {entities[entity]: self.aliases[entities[entity]] for entity in replaced}
        return Name(name, subject, shown.get("ses") or None, plain, replaced, aliases)

    def check_groups(self) -> None:
        """Refuse groups without a name, which would lump strangers together."""
        if "" in self._groups.values():
            raise self.opened.error("group_by", "gives some cases an empty group; use an entity that every path has")

    def _pseudonyms(self, entities: Entities) -> dict[str, str]:
        """Of people and their groups; of what names a case and comes from DICOM tags; sessions of these are counted."""
        card = self.opened.card
        of_case = {(entity or "").partition(":")[0] for _, entity in pieces(self.template)}
        hidden = {"sub", *card.group_by} | ({*of_case, "ses"} & set(card.entities))
        replaced = {entity: self._alias(entities[entity]) for entity in sorted(hidden & set(entities))}
        own = self._sessions.get(entities.get("sub", ""), [])
        if "ses" in replaced and entities["ses"] in own:
            replaced["ses"] = str(own.index(entities["ses"]) + 1)
        return replaced

    def _filled(self, entities: Entities) -> str:
        return safe_name("".join(text + entities.get(entity or "", "") for text, entity in pieces(self.template)))

    def _alias(self, identifier: str) -> str:
        digest = hashlib.sha256(f"{self.salt}:{identifier}".encode()).hexdigest()
        return self.aliases.setdefault(identifier, f"anon{digest[:12]}")
