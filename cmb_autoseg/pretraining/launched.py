"""What `torchrun` tells a process that it started, without importing torch."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from cmb_autoseg.errors import CMBError, InputError, OwnFaultError

__all__ = ["is_first_process", "local_rank", "n_processes", "own_faults", "process_rank", "speaks_for_its_machine"]

WITH_SEVERAL_PROCESSES = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What `torchrun` sets beside `WORLD_SIZE`."""
LAST_PORT = 65535
CURE = "start with torchrun (torchrun --nproc-per-node N --no-python cmb_pretrain ...), or unset WORLD_SIZE"


def n_processes() -> int:
    """Of the run; 1 without `torchrun`.

    Raises:
        InputError: variables of `torchrun` are missing, or are no such numbers.
    """
    n = _number("WORLD_SIZE", 1)
    if n == 1:
        return 1
    missing = [name for name in WITH_SEVERAL_PROCESSES if not os.environ.get(name)]
    if missing:
        raise InputError(
            f"WORLD_SIZE: found {n} in the environment, but no {', '.join(missing)}, which torchrun sets, too; {CURE}"
        )
    _number("RANK", 0, n - 1)
    _number("LOCAL_RANK", 0, n - 1)
    _number("MASTER_PORT", 1, LAST_PORT)
    return n


def process_rank() -> int:
    """Number of this process among those of `torchrun`.

    A process that is alone is the first one, whatever a batch system left in `RANK`.
    """
    return int(os.environ["RANK"]) if n_processes() > 1 else 0


def local_rank() -> int:
    """Number of this process among those on its machine."""
    return int(os.environ["LOCAL_RANK"]) if n_processes() > 1 else 0


def is_first_process() -> bool:
    """Whether it is this process that writes files and talks."""
    return process_rank() == 0


def speaks_for_its_machine() -> bool:
    """Whether a refusal that every process meets is to be said by this one: the first one of each machine."""
    return is_first_process() or local_rank() == 0


@contextmanager
def own_faults() -> Iterator[None]:
    """Errors within the block are this process's own, and say so."""
    try:
        yield
    except CMBError as error:
        raise OwnFaultError(f"process {process_rank()}: {error}") from error


def _number(name: str, least: int, most: int | None = None) -> int:
    """A variable of the environment as a whole number; the least where it is not set."""
    found = os.environ.get(name)
    if not found:
        return least
    legal = f"{least} or more" if most is None else f"{least} to {most}"
    try:
        number = int(found)
    except ValueError:
        number = least - 1
    if number < least or (most is not None and number > most):
        raise InputError(f"{name}: found {found!r} in the environment, expected a whole number, {legal}; {CURE}")
    return number
