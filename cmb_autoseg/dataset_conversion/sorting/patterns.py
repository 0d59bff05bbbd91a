"""The pattern language of cards: `{entity}` and `{entity:regex}` in paths."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from cmb_autoseg.dataset_conversion.card import compiled_regex

__all__ = ["IN_ARCHIVE", "Pattern", "compile_pattern", "pieces"]

IN_ARCHIVE = "!/"
"""Between an archive and its member."""
ENTITY_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Pattern:
    """A path pattern of a card as one regular expression over relative paths."""

    text: str
    regex: re.Pattern[str]
    entities: tuple[str, ...]
    archive: "Pattern | None" = None
    """Of a pattern that looks inside archives: its first part, which matches the archives themselves."""

    def match(self, path: str) -> dict[str, str] | None:
        found = self.regex.fullmatch(path)
        return None if found is None else {name: found[name] or "" for name in self.entities}


def compile_pattern(text: str) -> Pattern:
    r"""Compile `sub-{sub}/{ses:ses-\d{2}}_{sub}.nii.gz`.

    `{entity}` matches `[^/_]+`; `{entity:regex}` the regex, which may hold braces; an entity that
    comes again must match the same text. `a_{sub}.zip!/b.nii` looks inside archives.

    Raises:
        ValueError: unbalanced braces, a name that is no name, a regex that is none.
    """
    parts: list[str] = []
    regex_of: dict[str, str | None] = {}
    for literal, entity in pieces(text):
        parts.append(re.escape(literal))
        if entity is None:
            continue
        name, colon, regex = entity.partition(":")
        if not ENTITY_NAME.fullmatch(name):
            raise ValueError(f"{{{entity}}} has no entity name; write {{sub}} or {{sub:regex}}")
        if name in regex_of:
            if colon and regex != regex_of[name]:
                raise ValueError(f"{{{name}}} has two regexes; give it at the first place only, then write {{{name}}}")
            parts.append(f"(?P={name})")
            continue
        regex_of[name] = regex if colon else None
        if colon:
            compiled_regex(regex)
        parts.append(f"(?P<{name}>{regex if colon else '[^/_]+'})")
    archive = _archive_part(text)
    outer = compile_pattern(archive) if archive is not None else None
    try:
        return Pattern(text, compiled_regex("".join(parts)), tuple(regex_of), outer)
    except ValueError as error:
        raise ValueError(f"{text!r} makes no regular expression ({str(error).rpartition('(')[2]}") from None


def _archive_part(text: str) -> str | None:
    """What stands before `!/`, outside braces; None where nothing does."""
    start = 0
    for literal, entity in pieces(text):
        found = literal.find(IN_ARCHIVE)
        if found >= 0:
            if IN_ARCHIVE in text[start + found + len(IN_ARCHIVE) :]:
                raise ValueError(f"{text!r} looks inside an archive in an archive; unpack the outer ones")
            return text[: start + found]
        start += len(literal) + (len(entity) + 2 if entity is not None else 0)
    return None


def pieces(text: str) -> Iterator[tuple[str, str | None]]:
    """Pairs of literal text and the content of the braces that follow it (None at the end)."""
    start = 0
    while True:
        opening = text.find("{", start)
        literal = text[start:] if opening < 0 else text[start:opening]
        if "}" in literal:
            raise ValueError(f"a }} without its {{ in {text!r}; open it")
        if opening < 0:
            yield literal, None
            return
        closing = _closing_brace(text, opening)
        yield literal, text[opening + 1 : closing]
        start = closing + 1


def _closing_brace(text: str, opening: int) -> int:
    depth, position = 0, opening
    while position < len(text):
        character = text[position]
        if character == "\\":
            position += 1
        elif character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
            if depth == 0:
                return position
        position += 1
    raise ValueError(f"a {{ without its }} in {text!r}; close it")
