"""People of a folder of blocks, a few in memory at a time."""

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from cmb_autoseg.starter.blocks import block_files

__all__ = ["PeopleInTurn"]

Person = TypeVar("Person")


class PeopleInTurn(Generic[Person]):
    """Some of the people in a folder, of whom one after the other is replaced by another.

    Args:
        pool: folder of simulated blocks; more may be added meanwhile.
        read: what is wanted of a person's file.
        rng: source of every draw.
        at_once: how many are in memory.
    """

    def __init__(self, pool: Path, read: Callable[[Path], Person], rng: np.random.Generator, at_once: int) -> None:
        self._pool, self._read, self._rng, self._at_once = pool, read, rng, at_once
        self._people: list[Person] = []

    def next(self) -> None:
        """Read another person in place of the one that was read first; at the beginning as many as there may be.

        Raises:
            FileNotFoundError: the folder holds nobody.
        """
        files = block_files(self._pool)
        if not files:
            raise FileNotFoundError(f"{self._pool}: holds no simulated blocks; simulate some first")
        for _ in range(1 if self._people else min(self._at_once, len(files))):
            self._people.append(self._read(files[int(self._rng.integers(len(files)))]))
        del self._people[: -self._at_once]

    def any(self) -> Person:
        """One of those in memory."""
        return self._people[int(self._rng.integers(len(self._people)))]
