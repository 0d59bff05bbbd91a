"""Seconds of the steps of some work, so that a run can say where its time went."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

__all__ = ["StepTimes"]


class StepTimes:
    """Seconds by step, added up; threads may share one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._lock = Lock()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Count the block's seconds for a step; nothing of a block that raises."""
        begun = time.monotonic()
        yield
        took = time.monotonic() - begun
        with self._lock:
            self.seconds[name] = self.seconds.get(name, 0.0) + took

    @property
    def shares(self) -> str:
        """Such as `read 62 %, write 38 %`, in the order in which the steps first came."""
        total = sum(self.seconds.values())
        return ", ".join(f"{name} {100 * seconds / total:.0f} %" for name, seconds in self.seconds.items() if total)
