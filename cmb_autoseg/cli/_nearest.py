"""Which options were meant by mistyped ones."""

import difflib
from collections.abc import Iterable

__all__ = ["nearest_options"]

SHORTEST_BEGINNING = 3


def nearest_options(legal: Iterable[str], typed: Iterable[str]) -> list[str]:
    """For each word that looks like an option the nearest legal one, where one is near.

    Args:
        legal: options with their dashes; of several spellings of one the first is named.
        typed: words that were not understood, values among them.
    """
    named: dict[str, str] = {}
    for option in legal:
        if len(_bare(option)) > 1:  # Every letter is as near to every other one.
            named.setdefault(_bare(option), option)
    words = [word.partition("=")[0] for word in typed if word.startswith("-")]
    found = (_nearest(_bare(word), list(named)) for word in words)
    return list(dict.fromkeys(named[name] for name in found if name is not None))


def _nearest(typed: str, names: list[str]) -> str | None:
    begun = [name for name in names if len(typed) >= SHORTEST_BEGINNING and name.startswith(typed)]
    if len(begun) == 1:
        return begun[0]
    return next(iter(difflib.get_close_matches(typed, names, n=1)), None)


def _bare(option: str) -> str:
    return option.lstrip("-").replace("_", "-").lower()
