"""Texts without identifiers: pseudonyms where the card asks for them, and no folder of the originals."""

import re
from collections.abc import Container, Iterable, Mapping
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
        return _lengths(self.aliases)

    @cached_property
    def _pseudonyms(self) -> tuple[frozenset[str], tuple[int, ...]]:
        return frozenset(self.aliases.values()), _lengths(self.aliases.values())

    def _replaced(self, text: str, files: list[tuple[int, int]]) -> str:
        taken = bytearray(len(text))
        for start, end in _places(text, *self._pseudonyms):
            taken[start:end] = b"\1" * (end - start)
        found: list[tuple[int, int]] = []
        for start, end in _places(text, self.aliases, self._lengths):
            if any(taken[start:end]):
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


def _lengths(words: Iterable[str]) -> tuple[int, ...]:
    """The longest first: one word may hold another."""
    return tuple(sorted({len(word) for word in words if word}, reverse=True))


def _places(text: str, words: Container[str], lengths: Iterable[int]) -> list[tuple[int, int]]:
    """Where words of these lengths begin and end; looks at every place, so that their number costs nothing."""
    return [
        (start, start + length)
        for length in lengths
        for start in range(len(text) - length + 1)
        if text[start : start + length] in words
    ]


def _goes_on(text: str, place: int) -> bool:
    """Whether a word or a number goes on across a place between two characters."""
    if not 0 < place < len(text):
        return False
    before, after = text[place - 1], text[place]
    return (before.isdigit() and after.isdigit()) or (before.isalpha() and after.isalpha())
