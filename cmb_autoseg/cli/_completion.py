"""Shell completion of a command, made by shtab from its parser; imported only when it is asked for."""

import argparse
from pathlib import Path

import shtab

from cmb_autoseg.cli._help import shown_spellings

__all__ = ["SHELLS", "completion_script"]

SHELLS = ("bash", "zsh")
FOLDERS = frozenset({"DIR", "OUT", "MODEL_DIR", "BIDS"})
FILES = frozenset({"FILE", "CARD", "CARD[=ROOT]", "IN", "PRED", "REF"})
"""Names of values that are paths; after FILES the shell offers folders too, which lead to files."""
NEW_LINE = r"\n"
RECIPES = Path(__file__).parents[1] / "trainers" / "recipes"


def completion_script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The script that makes `shell` complete the options and values of one command.

    The parser is marked for shtab, so it is of no use for parsing afterwards.
    """
    words = _words()
    _mark(parser, words)
    # Where shtab calls these, bash splits words at new lines alone.
    functions = "".join(
        f"_cmb_{name.lower()}() {{ compgen -W $'{NEW_LINE.join(values)}' -- \"$1\"; }}\n"
        for name, values in words.items()
    )
    return str(shtab.complete(parser, shell=shell, preamble={"bash": functions}))


def _words() -> dict[str, list[str]]:
    """Names that a value may have where it may also be something else: a file, a number."""
    return {
        "RECIPE": sorted(path.stem for path in RECIPES.glob("*.yaml")),
        "POINT": ["counting", "screening", "youden"],
        "FOLD": ["0", "1", "2", "3", "4", "all"],
    }


def _mark(parser: argparse.ArgumentParser, words: dict[str, list[str]]) -> None:
    """Tell shtab what each value is, and hide the spellings that differ by underscores alone."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                _mark(each, words)
            continue
        action.option_strings = shown_spellings(action)
        kind = _kind(action, words)
        if kind is not None:
            action.complete = kind  # type: ignore[attr-defined]


def _kind(action: argparse.Action, words: dict[str, list[str]]) -> dict[str, str] | None:
    # Of several values in one option all are of one kind.
    metavar = action.metavar[0] if isinstance(action.metavar, tuple) else str(action.metavar)
    if metavar in words:
        return {"bash": f"_cmb_{metavar.lower()}", "zsh": f"({' '.join(words[metavar])})"}
    if metavar in FOLDERS:
        return dict(shtab.DIRECTORY)
    return dict(shtab.FILE) if metavar in FILES else None
