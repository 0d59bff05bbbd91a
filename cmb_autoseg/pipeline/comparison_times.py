"""How long folds of a comparison were trained, over all runs that went on with them."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cmb_autoseg.errors import InputError
from cmb_autoseg.files import read_json, write_json

__all__ = ["counted_seconds", "seconds_of"]

NAME = "training_seconds.json"


@contextmanager
def counted_seconds(fold: Path) -> Iterator[None]:
    """Add the seconds of the block to those of the fold, however it ends; a killed run's are lost.

    Args:
        fold: folder of the fold; of one that is finished already nothing is added.
    """
    if (fold / "fold.json").is_file():
        yield
        return
    start = time.monotonic()
    begun = any(fold.glob("checkpoint_*.pth"))
    before = seconds_of(fold) or 0.0
    try:
        yield
    finally:
        if fold.is_dir() and (before or not begun):
            write_json(fold / NAME, round(before + time.monotonic() - start, 1))


def seconds_of(fold: Path) -> float | None:
    """Of the training; None where they were not counted from its beginning."""
    try:
        found = read_json(fold / NAME)
    except InputError:
        return None
    return float(found) if isinstance(found, int | float) else None
