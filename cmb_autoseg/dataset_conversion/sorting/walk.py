"""The files of a cohort's folder, as relative paths with `/`."""

import os
from pathlib import Path

__all__ = ["list_files"]


def list_files(root: Path) -> list[str]:
    """All files under `root` as sorted relative paths with `/`; hidden ones are left out.

    Links are followed (as git-annex and DataLad need), but no folder is visited twice.
    """
    found: list[str] = []
    visited: set[str] = {os.path.realpath(root)}
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        with os.scandir(root / folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                relative = folder + entry.name
                if not _is_folder(entry):
                    found += [relative] * _is_plain_file(entry)
                elif not entry.is_symlink() or _is_new(entry.path, visited):
                    waiting.append(relative + "/")
    return sorted(found)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False


def _is_plain_file(entry: os.DirEntry[str]) -> bool:
    """Whether it can be read to its end: no pipe, socket or device. A link to nothing is told of when it is read."""
    try:
        return entry.is_file() or (entry.is_symlink() and not Path(entry.path).exists())
    except OSError:
        return entry.is_symlink()


def _is_new(path: str, visited: set[str]) -> bool:
    real = os.path.realpath(path)
    if real in visited:
        return False
    visited.add(real)
    return True
