"""The log that a run leaves behind: what was run, with which versions and seed, what it said, how it ended."""

import json
import os
import platform
import shlex
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from cmb_autoseg import __version__
from cmb_autoseg.machine import described_machine

__all__ = ["RUN_TOKEN", "RunLog", "open_log", "record", "run_log", "versions"]

RUN_TOKEN = f"{os.getpid()}-{os.urandom(4).hex()}"
"""Tells this run from others, also in containers, which number their processes anew, and on shared folders."""
LIBRARIES = ("torch", "openvino", "nnunetv2", "numpy", "scipy", "nibabel")


class RunLog:
    """Keeps what a command says until a stage tells where the log shall lie, then writes line by line.

    Nothing is written for a command that is refused before it wrote anything else.

    Args:
        command: its name, such as `cmb_train`.
        argv: its arguments.
        seed: of its random choices; None where it has none.
        as_json: write every line as JSON too, into a second file.
    """

    def __init__(self, command: str, argv: Sequence[str], seed: int | None, as_json: bool) -> None:
        self.command, self.argv, self.seed, self.as_json = command, argv, seed, as_json
        self.start = datetime.now(UTC)
        self._waiting: list[tuple[datetime, str, dict[str, Any]]] = []
        self._text: TextIO | None = None
        self._json: TextIO | None = None

    def add(self, message: str, **fields: Any) -> None:
        """Note a message, with named values for those who read the log with a program."""
        entry = (datetime.now(UTC), message, fields)
        if self._text is None:
            self._waiting.append(entry)
        else:
            self._write(*entry)

    def open(self, folder: Path) -> None:
        """Write into `<folder>/logs/` from now on; the first folder that is named holds."""
        if self._text is not None:
            return
        stamp = self.start.strftime("%Y%m%dT%H%M%SZ")
        path = folder / "logs" / f"{stamp}_{self.command}_{RUN_TOKEN}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._text = path.open("a", encoding="utf-8", errors="backslashreplace")
        if self.as_json:
            self._json = path.with_suffix(".jsonl").open("a", encoding="utf-8", errors="backslashreplace")
        self._write(self.start, f"{self.command} {shlex.join(self.argv)}".rstrip(), self._circumstances())
        for entry in self._waiting:
            self._write(*entry)
        self._waiting.clear()

    def _circumstances(self) -> dict[str, Any]:
        return {
            "event": "start",
            "seed": self.seed,
            "versions": versions(),
            **described_machine(),
        }

    def close(self) -> None:
        for stream in (self._text, self._json):
            if stream is not None:
                stream.close()

    def _write(self, time: datetime, message: str, fields: dict[str, Any]) -> None:
        assert self._text is not None
        stamp = time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        for line in (message, *_readable(fields)):
            self._text.write(f"{stamp}  {line}\n")
        self._text.flush()
        if self._json is not None:
            content = {"time": stamp, "event": "message", "message": message, **fields}
            self._json.write(json.dumps(content, default=str) + "\n")
            self._json.flush()


def _readable(fields: dict[str, Any]) -> Iterator[str]:
    """The lines under the first one: versions, machine and seed of a start, the traceback of a failure."""
    if fields.get("event") == "start":
        yield ", ".join(f"{name} {number}" for name, number in fields["versions"].items())
        yield f"{fields['system']}, {fields['cores']} cores"
        yield f"seed {fields['seed']}" if fields["seed"] is not None else "no random choices"
    yield from fields.get("traceback", "").splitlines()


def versions(*more: str) -> dict[str, str]:
    """Of this package, Python and the libraries that results hang on, and of `more` by their names on PyPI."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"cmb_autoseg": __version__, "python": platform.python_version()}
    for name in (*LIBRARIES, *more):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


_active: list[RunLog] = []
"""The logs of the commands that run now; `cmb_demo` runs others inside itself."""


@contextmanager
def run_log(command: str, argv: Sequence[str], seed: int | None = None, as_json: bool = False) -> Iterator[None]:
    """Collect what is said within the block; an exception is noted with its traceback and goes on."""
    log = RunLog(command, argv, seed, as_json)
    _active.append(log)
    try:
        yield
    except BaseException as error:
        fields = {"event": "end", "error": type(error).__name__, "traceback": traceback.format_exc()}
        log.add(f"ended with {type(error).__name__}: {error}", **fields)
        raise
    else:
        log.add("ended", event="end")
    finally:
        _active.remove(log)
        log.close()


def open_log(folder: Path) -> None:
    """Tell the running command's log that `folder` is where it writes; nothing where no command runs."""
    if _active:
        try:
            _active[-1].open(folder)
        except OSError as error:
            print(f"{folder / 'logs'}: no log ({error.strerror or error})", file=sys.stderr)  # noqa: T201


def record(message: str, **fields: Any) -> None:
    """Add to the running command's log without showing it on the terminal."""
    if _active:
        _active[-1].add(message, **fields)
