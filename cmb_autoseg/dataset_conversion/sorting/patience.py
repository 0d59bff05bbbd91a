"""A limit for regular expressions of cards: some take longer than a life on a text of thirty letters."""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self

__all__ = ["Patience"]

SECONDS = 2
"""Seconds of processor time, in all, that may go by with few matches done."""
FEW = 20
"""Matches a second; an honest one takes microseconds."""


class Patience:
    """Within its block matches that make no headway are interrupted.

    A timer of the process's own processor time ticks once a second; after `SECONDS` ticks with fewer
    than `FEW` matches the one that runs is given up. Only a main thread on Unix can be interrupted
    so; elsewhere there is no limit.

    Args:
        complain: makes the exception from what was being matched.
    """

    def __init__(self, complain: Callable[[str], Exception]) -> None:
        self._complain = complain
        self._what = ""
        self._begun = self._slow_seconds = 0
        self._able = hasattr(signal, "SIGVTALRM") and threading.current_thread() is threading.main_thread()

    def start(self, what: str) -> None:
        """Say what is matched from now on; nothing, where other work begins."""
        self._what = what
        self._begun += 1

    def _tick(self, _number: int, _frame: FrameType | None) -> None:
        self._slow_seconds += bool(self._what) and self._begun < FEW
        self._begun = 0
        if self._slow_seconds >= SECONDS:
            raise self._complain(self._what)

    def __enter__(self) -> Self:
        if self._able:
            self._before = signal.signal(signal.SIGVTALRM, self._tick)
            signal.setitimer(signal.ITIMER_VIRTUAL, 1, 1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._able:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.signal(signal.SIGVTALRM, self._before)
