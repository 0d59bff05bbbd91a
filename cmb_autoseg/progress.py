"""Progress of long work: a bar with the time left on a terminal, log lines elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

__all__ = ["log", "track"]

T = TypeVar("T")

SECONDS_BETWEEN_LINES = 15.0


def log(message: str) -> None:
    """One line for the user, on standard error, so that standard output stays for results."""
    print(message, file=sys.stderr, flush=True)  # noqa: T201


def track(items: Iterable[T], title: str, total: int | None = None) -> Iterator[T]:
    """Yield `items` and show how far the work is.

    Args:
        items: the work.
        title: what is done, as a participle: "Preparing".
        total: number of items, if `items` has no length.
    """
    count = total if total is not None else len(items) if isinstance(items, Sized) else None
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, desc=title, total=count, leave=False)
        return
    start = last = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if count and (done == count or now - last >= SECONDS_BETWEEN_LINES):
            left = (now - start) / done * (count - done)
            log(f"{title}: {done}/{count}" + (f", {left:.0f} s left" if done < count else f", {now - start:.0f} s"))
            last = now
