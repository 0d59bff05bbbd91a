"""Stops from outside: signals become an exception at once, or are held back until a safe moment."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["StopRequest", "Stopped", "end_with", "hold_back_stops", "raise_stop_behind", "stops_raise"]

STOPS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Ctrl-C, a batch system that ends a job, a terminal that closes."""

SECONDS_BETWEEN_LOOKS = 1.0


class Stopped(KeyboardInterrupt):
    """A signal asked this process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class StopRequest:
    """Whether a stop was asked for; `raise_if_made` ends the work where it is safe."""

    def __init__(self) -> None:
        self.number: int | None = None

    def __bool__(self) -> bool:
        return self.number is not None

    def raise_if_made(self) -> None:
        if self.number is not None:
            raise Stopped(self.number)


@contextmanager
def stops_raise() -> Iterator[None]:
    """Within the block the signals of `STOPS` raise `Stopped`, so that what is half-written is cleared away."""

    def stop(number: int, _: FrameType | None) -> None:
        raise Stopped(number)

    with _handlers(stop):
        yield


@contextmanager
def hold_back_stops() -> Iterator[StopRequest]:
    """Within the block a first signal is only noted in the request; a second one raises at once."""
    request = StopRequest()

    def note(number: int, _: FrameType | None) -> None:
        if request:
            raise Stopped(number)
        request.number = number

    with _handlers(note):
        yield request


def raise_stop_behind(error: BaseException) -> None:
    """Raise the stop that an error came of, if there is one.

    For handlers of broad kinds of errors around imports: until version 3.12, Python wraps what is raised while a class
    is made in a RuntimeError.

    Raises:
        KeyboardInterrupt: the stop.
    """
    behind: BaseException | None = error
    while behind is not None:
        if isinstance(behind, KeyboardInterrupt):
            raise behind
        behind = behind.__cause__ or behind.__context__


def end_with(parent: int) -> None:
    """Leave it to the process `parent` when this worker, which it started, ends.

    A signal to all processes of a job must not take the workers from a parent that is just finishing its
    step, and workers must not outlive a parent that was killed. Call it in the worker's main thread.
    """
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _handlers(handle: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle the signals that nobody told this process to ignore; only a main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()

    def handle_in_owner(number: int, frame: FrameType | None) -> None:
        if os.getpid() == owner:  # Workers are forked with this handler; `end_with` tells them when to end.
            handle(number, frame)

    before = {number: signal.getsignal(number) for number in STOPS}
    taken = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    for number in taken:
        signal.signal(number, handle_in_owner)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, before[number])
