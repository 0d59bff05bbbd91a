"""Writing so that no partial file ever carries its final name, and reading of small tables."""

import csv
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cmb_autoseg.errors import InputError, OutputError
from cmb_autoseg.run_log import RUN_TOKEN

__all__ = [
    "as_text",
    "atomic_path",
    "file_digest",
    "leftovers",
    "read_json",
    "read_tsv",
    "text_digest",
    "writable_folder",
    "write_bytes",
    "write_json",
    "write_text",
    "write_tsv",
]


TEMPORARY_NAME = re.compile(r"\.tmp\d+-[0-9a-f]{8}_.+")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FULL_DISK_BYTES = 2**20
"""Libraries that write in C report a full disk in words of their own; less free space than this explains them."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; rename it to `path` when the block succeeds.

    The temporary name is hidden and keeps the suffixes, because writers choose a format by them.

    Raises:
        OutputError: the temporary file cannot be made, written (a full disk) or renamed.
    """
    temporary = path.with_name(f".tmp{RUN_TOKEN}_{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        yield temporary
        temporary.replace(path)
    except OutputError:
        raise
    except Exception as error:
        reason = _write_fault(error, temporary)
        if reason is None:
            raise
        raise OutputError(f"{path}: cannot be written ({reason}); choose another place or free this one") from None
    finally:
        with suppress(OSError):
            temporary.unlink()


def _write_fault(error: Exception, temporary: Path) -> str | None:
    """Why writing failed; None where the error has nothing to do with the file that is written."""
    if isinstance(error, OSError) and error.errno is not None:
        ours = error.filename in (str(temporary), str(temporary.parent)) or error.errno in FULL
        return (error.strerror or str(error)) if ours else None
    with suppress(OSError):
        if shutil.disk_usage(temporary.parent).free < FULL_DISK_BYTES:
            return os.strerror(errno.ENOSPC)
    return None


def leftovers(folder: Path, nested: bool = True) -> list[Path]:
    """What runs that were killed left half-written in a folder, and in those below it if `nested`."""
    found = folder.rglob(".tmp*") if nested else folder.glob(".tmp*")
    return [path for path in found if TEMPORARY_NAME.fullmatch(path.name) and path.is_file()]


def as_text(name: str) -> str:
    """A file's name as text; bytes that are no UTF-8, which no table can hold, are shown as hexadecimal numbers."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text under a temporary name, then rename."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, content: bytes) -> None:
    """Write under a temporary name, then rename."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON with keys in the order given; NaN is refused because JSON has none."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: the file is missing or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: not readable as JSON ({error}); write the file anew") from None


def write_tsv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a tab-separated table; a missing or None cell becomes `n/a`, as in BIDS."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            writer.writerow([_cell(row.get(column)) for column in columns])


def _cell(value: Any) -> str:
    if value is None:
        return "n/a"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def read_tsv(path: Path) -> list[dict[str, str]]:
    """Read a tab-separated table with a header line as one dict a row.

    Raises:
        InputError: the file is missing or is no text.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            return list(csv.DictReader(stream, delimiter="\t"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise InputError(f"{path}: not readable as a tab-separated table ({error})") from None


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, as `sha256:<hex>`."""
    with path.open("rb") as stream:
        return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()


def text_digest(text: str) -> str:
    """SHA-256 of a text in UTF-8, as `sha256:<hex>`."""
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def writable_folder(path: Path) -> Path:
    """Make sure before long work that results can be written under `path`; the folder is made.

    Raises:
        OutputError: the folder cannot be made or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".tmp{RUN_TOKEN}_probe"
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"{path}: cannot write there ({reason}); choose another folder") from None
    return path
