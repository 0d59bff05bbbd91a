"""Progress of long work: a bar with the time left on a terminal, log lines elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from threading import Timer
from types import TracebackType
from typing import Any, Self, TypeVar

from cmb_autoseg.run_log import record

__all__ = ["Meter", "log", "report", "telling", "track"]

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 15.0
SECONDS_OF_SILENCE = 3.0


def log(message: str) -> None:
    """One line for the user, on standard error, so that standard output stays for results; also into the log."""
    print(message, file=sys.stderr, flush=True)  # noqa: T201
    record(message)


def report(message: str) -> None:
    """A result for the user, on standard output; also into the log."""
    encoding = sys.stdout.encoding or "utf-8"
    # Unlike standard error, standard output refuses characters that it lacks, such as parts of odd file names.
    print(message.encode(encoding, "backslashreplace").decode(encoding), flush=True)  # noqa: T201
    record(message, event="result")


@contextmanager
def telling(message: str) -> Iterator[None]:
    """Log what takes so long, once it does.

    As in `with telling("loading PyTorch ..."): import torch`. A thread waits meanwhile, so this is not for blocks that
    fork.
    """
    timer = Timer(SECONDS_OF_SILENCE, log, [message])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class Meter:
    """Counts steps of known number: `with Meter("Training", 200) as meter: meter.advance()`.

    Args:
        title: what is done, as a participle: "Preparing".
        total: number of steps.
        done: steps that an earlier run has done.
        slow: a step may take minutes, so that a line says that the first one is on its way.
    """

    def __init__(self, title: str, total: int, done: int = 0, slow: bool = False) -> None:
        self.title, self.total, self.done, self.earlier, self.slow = title, total, done, done, slow
        self.start = self.last = time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(desc=self.title, total=self.total, initial=self.done, leave=False)
        elif self.slow and self.done < self.total:
            log(f"{self.title}: {self.done}/{self.total}, begun")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self, note: str = "") -> None:
        """Count one step; `note` is shown behind it."""
        self.done += 1
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update()
        now = time.monotonic()
        if self.done == self.total or now - self.last >= SECONDS_BETWEEN_LINES:
            self.last = now
            self._say(now - self.start, note)

    def _say(self, spent_s: float, note: str) -> None:
        left_s = spent_s / (self.done - self.earlier) * (self.total - self.done)
        ending = f"{left_s:.0f} s left" if self.done < self.total else f"took {spent_s:.0f} s"
        line = f"{self.title}: {self.done}/{self.total}, {ending}" + (f", {note}" if note else "")
        if self._bar is None:
            print(line, file=sys.stderr, flush=True)  # noqa: T201
        record(line, event="progress", step=self.title, done=self.done, total=self.total, seconds_left=round(left_s, 1))


def track(items: Iterable[T], title: str, total: int | None = None, slow: bool = False) -> Iterator[T]:
    """Yield `items` and show how far the work is.

    Args:
        items: the work.
        title: as in `Meter`.
        total: number of items, if `items` has no length.
        slow: as in `Meter`.
    """
    count = total if total is not None else len(items) if isinstance(items, Sized) else 0
    with Meter(title, count, slow=slow) as meter:
        for item in items:
            yield item
            meter.advance()
