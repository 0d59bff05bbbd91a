"""Files of tensors whose bytes hang on their content alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cmb_autoseg.files import atomic_path

__all__ = ["write_tensors"]


def write_tensors(path: Path, content: Mapping[str, Any]) -> None:
    """Write plain types and tensors, to be read by `torch.load(..., weights_only=True)`.

    The same content gives the same bytes: torch is handed an open file, since it writes the name of one that it opens
    itself into it, and temporary names differ from run to run.

    Raises:
        OutputError: it cannot be written (a full disk).
    """
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        torch.save(dict(content), stream)
