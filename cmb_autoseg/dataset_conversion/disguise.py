"""Texts without identifiers: pseudonyms where the card asks for them, and no folder of the originals."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

__all__ = ["Disguise"]

LONG = 3
"""So many characters tell an identifier from the numbers of a sentence, or from parts of a file's name."""
WORD = re.compile(r"\S+")
OF_FILES = re.compile(r"[/_\\]|\.[A-Za-z]\w")
"""What words that name files have, and words of a sentence do not."""


@dataclass(frozen=True)
class Disguise:
    """Replaces identifiers in texts by their pseudonyms; a disguised text stays as it is.

    An identifier is found where no letter goes on with its letters and no digit with its digits: `7781` in
    `P7781_swi.nii.gz`, not in `177810`. One of three characters or more is found in the midst of a file's name, too,
    if `glued`; a shorter one is found in names of files only.
    """

    aliases: Mapping[str, str]
    """Identifier to pseudonym."""
    roots: tuple[str, ...] = ()
    """Folders that are left out of paths, since they may name people."""
    glued: bool = True
    paths: Mapping[str, str] = field(default_factory=dict)
    """Paths that are shown in other words."""

    def __call__(self, text: str) -> str:
        for path, shown in self.paths.items():
            text = text.replace(path, shown)
        for root in self.roots:
            text = text.replace(root + "/", "")
        if not self.aliases:
            return text
        return self._replaced(text, [word.span() for word in WORD.finditer(text) if OF_FILES.search(word[0])])

    def path(self, text: str) -> str:
        """Of a text that is a path and nothing else, with whatever blanks it has."""
        return self._replaced(text, [(0, len(text))])

    @cached_property
    def _lengths(self) -> tuple[int, ...]:
        """The longest first: one identifier may hold another."""
        return tuple(sorted({len(identifier) for identifier in self.aliases if identifier}, reverse=True))

    @cached_property
    def _pseudonyms(self) -> tuple[frozenset[str], tuple[int, ...]]:
        shown = frozenset(self.aliases.values())
        return shown, tuple({len(pseudonym) for pseudonym in shown})

    def _replaced(self, text: str, files: list[tuple[int, int]]) -> str:
        taken = bytearray(len(text))
        shown, lengths = self._pseudonyms
        for start, end in _windows(text, lengths):
            if text[start:end] in shown:
                taken[start:end] = b"\1" * (end - start)
        found: list[tuple[int, int]] = []
        for start, end in _windows(text, self._lengths):
            if text[start:end] not in self.aliases or any(taken[start:end]):
                continue
            is_long = end - start >= LONG
            of_file = any(first <= start and end <= last for first, last in files)
            apart = not (_goes_on(text, start) or _goes_on(text, end))
            if (apart and (is_long or of_file)) or (self.glued and is_long and of_file):
                taken[start:end] = b"\1" * (end - start)
                found.append((start, end))
        for start, end in sorted(found, reverse=True):
            text = text[:start] + self.aliases[text[start:end]] + text[end:]
        return text


def _windows(text: str, lengths: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Starts and ends of all pieces of these lengths."""
    return ((start, start + length) for length in lengths for start in range(len(text) - length + 1))


def _goes_on(text: str, place: int) -> bool:
    """Whether a word or a number goes on across a place between two characters."""
    if not 0 < place < len(text):
        return False
    before, after = text[place - 1], text[place]
    return (before.isdigit() and after.isdigit()) or (before.isalpha() and after.isalpha())
