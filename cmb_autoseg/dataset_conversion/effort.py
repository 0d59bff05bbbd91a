"""How much memory the preparation of a case takes, and how many cases repay a process of their own."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cmb_autoseg.errors import CMBError
from cmb_autoseg.readers import read_grid
from cmb_autoseg.records import Case

__all__ = ["Effort", "estimate_effort"]

CASES_LOOKED_AT = 50
PROGRAM_BYTES = 600_000_000
"""Of a process with ITK, ANTs and torch in it, before the first voxel."""
BYTES_A_VOXEL = 40
"""Of one sequence: as read, repaired, turned and prepared, float32, and what a step needs in passing."""
NETWORK_BYTES = 3_000_000_000
"""HD-BET's network at work."""
QUICK_CASES, SLOW_CASES = 24, 2
"""A process takes seconds to start: so long as many quick cases take, or one that is registered."""


@dataclass(frozen=True)
class Effort:
    """What one process needs, and how many cases it must have to be worth its start."""

    bytes_each: int
    jobs_each: int


def estimate_effort(cases: Sequence[Case]) -> Effort:
    """Look at the headers of some cases, drawn evenly."""
    drawn = cases[:: max(1, len(cases) // CASES_LOOKED_AT)]
    network = any(case.prep.hd_bet is not None for case in drawn)
    grids = [_grids(case) for case in drawn]
    voxels = max((sum(math.prod(shape) for shape, _ in grid) for grid in grids), default=0)
    registered = any(len(set(grid)) > 1 for grid in grids)
    slow = network or registered or any(case.prep.bias == "n4" for case in drawn)
    memory = PROGRAM_BYTES + NETWORK_BYTES * network + voxels * BYTES_A_VOXEL
    return Effort(memory, SLOW_CASES if slow else QUICK_CASES)


def _grids(case: Case) -> list[tuple[tuple[int, ...], bytes]]:
    """Shape and place of each sequence whose header can be read; of the others preparation will tell."""
    found: list[tuple[tuple[int, ...], bytes]] = []
    for source in case.images.values():
        try:
            shape, affine = read_grid(source)
        except CMBError:
            continue
        found.append((shape[:3], np.round(affine, 2).tobytes()))
    return found
