"""Finished models that another recipe is built on."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cmb_autoseg.errors import InputError
from cmb_autoseg.files import text_digest
from cmb_autoseg.geometry import Volume, read_volume
from cmb_autoseg.records import FoldModel

__all__ = ["Member", "read_map"]


@dataclass(frozen=True)
class Member:
    """A model of all folds, with what it says of cases that it has not learned from.

    Attributes:
        recipe: its name.
        folder: of the model.
        records: one a fold, in order.
        maps: files of out-of-fold probability on the prepared grid, by name of each labelled training case.
    """

    recipe: str
    folder: Path
    records: tuple[FoldModel, ...]
    maps: Mapping[str, Path]

    @property
    def identity(self) -> str:
        """Digest of all its folds: models that are built on it share it."""
        return text_digest(" ".join(record.checkpoint for record in self.records))


def read_map(path: Path) -> Volume:
    """One of a member's maps.

    Raises:
        InputError: it is damaged; it was made by us, so that it can be made again.
    """
    try:
        return read_volume(path)
    except InputError as error:
        problem = str(error).rpartition("; ")[0] or str(error)
        raise InputError(f"{problem}; delete it and run the same command again, which predicts it anew") from None
