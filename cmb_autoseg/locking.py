"""One run at a time in a folder, and no leftovers of runs that were killed in it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from cmb_autoseg.errors import InUseError
from cmb_autoseg.files import leftovers, writable_folder

__all__ = ["LONGEST_WAIT_S", "is_owned", "own_folder"]

LOCK_NAME = ".cmb_autoseg.lock"
PROBE_S = 0.5
LONGEST_WAIT_S = 24 * 3600.0
"""For another run that makes the same files; a lock ends with its process."""


@contextmanager
def own_folder(folder: Path, doing: str, wait_s: float = 1.0, nested: bool = True) -> Iterator[None]:
    """Make a folder this process's own for a block; nobody else may write there meanwhile.

    The lock is the operating system's, so it ends with the process however that ends. What a killed
    run left half-written is removed first, and a folder in which the block wrote nothing afterwards.

    Args:
        folder: made where it is missing.
        doing: what others are told is going on there, such as `cmb_predict`.
        wait_s: how long another owner is waited for.
        nested: also clear leftovers in the folders below; those must have no other owner.

    Raises:
        InUseError: another process owns the folder.
        OutputError: it cannot be written to.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    writable_folder(folder)
    path = folder / LOCK_NAME
    lock = FileLock(path, timeout=wait_s)
    try:
        with lock:
            path.write_text(f"{doing}, process {os.getpid()}", encoding="utf-8")
            for half_written in leftovers(folder, nested):
                half_written.unlink(missing_ok=True)
            try:
                yield
            finally:
                _give_back(path, made)
    except Timeout:
        raise InUseError(
            f"{folder}: in use by {_owner(path)}; wait until that ends, stop it, or choose another folder"
        ) from None


def is_owned(folder: Path) -> str | None:
    """What is going on in a folder that another process owns now; None where nothing is.

    To find out takes the lock for a moment, as others who ask do, too: they are waited for.
    """
    path = folder / LOCK_NAME
    if not path.is_file():
        return None
    try:
        with FileLock(path, timeout=PROBE_S, poll_interval=0.01):
            return None
    except Timeout:
        return _owner(path)


def _owner(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(encoding="utf-8") or "another run"
    return "another run"


def _give_back(path: Path, made: list[Path]) -> None:
    """Take the lock's file away, and the folders that were made for nothing."""
    with suppress(OSError):  # Windows keeps an open file; others have written to the folder.
        path.unlink()
        for folder in made:
            folder.rmdir()
