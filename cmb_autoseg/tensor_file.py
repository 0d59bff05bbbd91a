"""Files of tensors whose bytes hang on their content alone."""

import warnings
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile

import torch

from cmb_autoseg.errors import InputError
from cmb_autoseg.files import atomic_path

__all__ = ["read_tensors", "write_tensors"]

_DAMAGES = (
    *(ArithmeticError, AttributeError, EOFError, LookupError, OSError, RuntimeError, TypeError, ValueError),
    *(UnpicklingError, BadZipFile),
)


def write_tensors(path: Path, content: Mapping[str, Any]) -> None:
    """Write plain types and tensors, to be read by `read_tensors`.

    The same content gives the same bytes: torch is handed an open file, since it writes the name of one that it opens
    itself into it, and temporary names differ from run to run.

    Raises:
        OutputError: it cannot be written (a full disk).
    """
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        torch.save(dict(content), stream)


def read_tensors(path: Path, cure: str) -> Any:
    """What a file of plain types and tensors holds, on the CPU; no code of the file is run.

    Raises:
        InputError: it is none; ends with `cure`.
    """
    content = BytesIO(path.read_bytes())  # An unreadable file is another matter than unreadable content.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of kinds of pickles that are refused all the same
            return torch.load(content, map_location="cpu", weights_only=True)
    # What torch raises for a truncated or foreign file depends on where it is broken.
    except _DAMAGES:
        raise InputError(f"{path}: damaged, or no file of weights alone; {cure}") from None
