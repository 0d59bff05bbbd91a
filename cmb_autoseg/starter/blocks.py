"""Simulated blocks of heads on disk: what the starter model learns from, on the grids of their scanners.

A file holds the blocks of one person; more may be written while a model learns.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cmb_autoseg.errors import InputError
from cmb_autoseg.files import atomic_path
from cmb_autoseg.tensor_file import read_tensors

__all__ = ["MAGNITUDES", "SEQUENCES", "Block", "block_files", "person_file", "read_blocks", "write_person"]

SEQUENCES = ("swi", "mag", "qsm", "phase")
"""Of a block, in this order; `phase` is the local one."""
MAGNITUDES = ("swi", "mag")


@dataclass(frozen=True)
class Block:
    """One block; arrays are in the scan's axes (i right, j front, k top)."""

    images: Tensor
    """Shape (sequence, i, j, k), float16, in the order of `SEQUENCES`; magnitudes with a median of 1 in the
    brain, QSM in ppm, local phase in radians at an echo time of 20 ms."""
    mask: Tensor
    """1 in visible microbleeds, shape (i, j, k), uint8."""
    brain: Tensor
    """Shape (i, j, k), bool."""
    head: Tensor
    """What preparation takes for the brain where nobody has stripped the skull, shape (i, j, k), bool."""
    spacing_mm: tuple[float, float, float]
    facts: dict[str, float]
    """`field_strength_t` and, of the person's whole brain, `brain_ml`."""


def write_person(folder: Path, seed: int, person: int, blocks: Sequence[Block]) -> Path:
    """Write the blocks of one person; whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / person_file(seed, person)
    with atomic_path(path) as temporary:
        torch.save([vars(block) for block in blocks], temporary)
    return path


def person_file(seed: int, person: int) -> str:
    """Name of the file of a person's blocks."""
    return f"seed{seed}_person{person:05d}.pt"


def block_files(folder: Path) -> list[Path]:
    """Files of people's blocks, by name.

    Raises:
        InputError: there are none.
    """
    files = sorted(folder.glob("seed*_person*.pt"))
    if not files:
        raise InputError(f"--pool {folder}: holds no simulated blocks; simulate some first")
    return files


def read_blocks(path: Path) -> list[Block]:
    """The blocks of one person.

    Raises:
        InputError: the file is damaged or holds none.
    """
    cure = "delete it and simulate it again"
    content = read_tensors(path, cure)
    if not content:
        raise InputError(f"{path}: holds no block; {cure}")
    return [Block(**block) for block in content]
