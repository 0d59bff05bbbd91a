"""What `torchrun` tells a process that it started, without importing torch."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from cmb_autoseg.errors import CMBError

__all__ = ["OwnFaultError", "is_first_process", "n_processes", "own_faults", "process_rank", "speaks_for_its_machine"]


class OwnFaultError(CMBError):
    """What a process other than the first met while it learned, which the first one need not have met."""


def n_processes() -> int:
    """Of the run; 1 without `torchrun`."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def process_rank() -> int:
    """Number of this process among those of `torchrun`.

    A process that is alone is the first one, whatever a batch system left in `RANK`.
    """
    return int(os.environ.get("RANK") or 0) if n_processes() > 1 else 0


def is_first_process() -> bool:
    """Whether it is this process that writes files and talks."""
    return process_rank() == 0


def speaks_for_its_machine() -> bool:
    """Whether a refusal that every process meets is to be said by this one: the first one of each machine."""
    return is_first_process() or int(os.environ.get("LOCAL_RANK") or 0) == 0


@contextmanager
def own_faults() -> Iterator[None]:
    """Errors within the block are this process's own, and say so."""
    try:
        yield
    except CMBError as error:
        raise OwnFaultError(f"process {process_rank()}: {error}") from error
