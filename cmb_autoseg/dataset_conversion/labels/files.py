"""Content of small files of labels: of a folder or of a member of an archive, opened once for many cases."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from cmb_autoseg.errors import InputError
from cmb_autoseg.readers import file_on_disk, read_bytes

__all__ = ["json_content", "label_text", "remembered", "suffix_of"]

Content = TypeVar("Content")
ZIP = b"PK\x03\x04"
"""Workbooks are zip archives."""
REMEMBERED = 4
"""Tables of all cases are parsed once; of so many the content is kept."""

_memory: dict[tuple[Any, ...], Any] = {}


def suffix_of(path: str) -> str:
    """The file's ending in small letters, `.tsv` say."""
    return Path(path).suffix.lower()


def label_text(path: str) -> str:
    """The file as text without white space at its ends; '' of an empty one.

    Raises:
        InputError: it cannot be read, or is no UTF-8.
    """
    content = read_bytes(path)
    try:
        return content.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        if content.startswith(ZIP):
            raise InputError(f"{path}: not text but a workbook or archive; name it .xlsx, or save it as .tsv") from None
        raise InputError(f"{path}: not readable as text in UTF-8; save it anew in UTF-8") from None


def json_content(path: str) -> Any:
    """What a JSON file says; None of an empty one.

    Raises:
        InputError: it cannot be read, or is no JSON.
    """
    text = label_text(path)
    if not text:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not readable as JSON ({reason}); write the file anew") from None


def remembered(parse: Callable[..., Content], path: str, *more: Any) -> Content:
    """`parse(path, *more)`, from memory where the same file was parsed before."""
    try:
        status = file_on_disk(path).stat()
        key = (parse.__qualname__, path, *more, status.st_size, status.st_mtime_ns)
    except OSError:
        return parse(path, *more)
    if key not in _memory:
        while len(_memory) >= REMEMBERED:
            del _memory[next(iter(_memory))]
        _memory[key] = parse(path, *more)
    content: Content = _memory[key]
    return content
