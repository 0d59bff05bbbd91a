"""How `--help` looks: each option once, defaults and units in words, examples that parse, exit codes."""

import argparse
import shutil
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["HelpFormatter", "epilog", "examples_of", "shown_spellings"]

EXAMPLES = "examples:"
SHARED = frozenset({"help", "version", "print_completion", "debug", "log_json"})
"""Options of every command, which the line of usage leaves out."""


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Names an option's value once and leaves out the spellings that differ by underscores alone."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=min(shutil.get_terminal_size().columns, 110) - 2)

    def add_usage(self, usage: Any, actions: Iterable[argparse.Action], *args: Any, **kwargs: Any) -> None:
        super().add_usage(usage, [action for action in actions if action.dest not in SHARED], *args, **kwargs)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return super()._format_action_invocation(action)
        names = ", ".join(shown_spellings(action))
        if action.nargs == 0:
            return names
        return f"{names} {self._format_args(action, self._get_default_metavar_for_optional(action))}"


def shown_spellings(action: argparse.Action) -> list[str]:
    """The spellings of an option that help and completion show; those with underscores are understood too."""
    spellings = list(action.option_strings)
    return [
        one for one in spellings if not (one.startswith("--") and one.replace("_", "-") in spellings and "_" in one)
    ]


def epilog(examples: Mapping[str, str], *, writes: str = "", some_failed: str = "", see: str = "") -> str:
    """The end of a help text.

    Args:
        examples: command line to what it does; a test parses every line.
        writes: which files the command leaves, and where.
        some_failed: what exit code 1 means; empty for a command that never leaves with it.
        see: other commands and pages.
    """
    lines = [EXAMPLES]
    for command, purpose in examples.items():
        lines += [f"  # {purpose}", f"  {command}"]
    if writes:
        lines += ["", "writes:", *(f"  {line}" for line in writes.splitlines())]
    lines += ["", "exit codes:", "  0    done"]
    if some_failed:
        lines.append(f"  1    {some_failed}")
    lines += [
        "  2    bad usage or input: one line names the file, field or case and the cure",
        "  130  stopped by Ctrl-C (143 by SIGTERM): the same command goes on where it stopped",
    ]
    if see:
        lines += ["", f"see also: {see}"]
    return "\n".join(lines)


def examples_of(text: str) -> list[str]:
    """The command lines among the examples of a help text, without their comments."""
    _, _, after = text.partition(f"{EXAMPLES}\n")
    block, _, _ = after.partition("\n\n")
    return [line.strip() for line in block.splitlines() if line.strip() and not line.strip().startswith("#")]
