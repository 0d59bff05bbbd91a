"""The files of one explained case: names, writing, and whether an earlier run has finished them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cmb_autoseg.errors import InputError
from cmb_autoseg.explanation.places import Explanation
from cmb_autoseg.files import read_json, write_json, write_tsv
from cmb_autoseg.geometry import Volume, write_volume
from cmb_autoseg.records import Role

__all__ = ["OUTDATED", "SCHEMA", "ExplainedCase", "ExplanationFiles", "columns"]

SCHEMA = 2
"""Of the record. To be raised whenever the same inputs give other maps, tables or pictures than before, since what has
another number is explained anew. Records without one are from before all folds had the same say in a map."""
OUTDATED = "outdated"
"""Folder for files of an earlier run about a case that fails now."""
COLUMNS = (
    "lesion",
    "kind",
    "prob",
    "reference",
    "x_mm",
    "y_mm",
    "z_mm",
    "i",
    "j",
    "k",
    "volume_mm3",
    "logit_difference",
    "map_within_5mm",
    "even_within_5mm",
)


def columns(channels: Sequence[Role]) -> tuple[str, ...]:
    """Of `<case>_gradcam.tsv`, for a model with these channels."""
    return (*COLUMNS, *(f"drop_{role}" for role in channels))


@dataclass(frozen=True)
class ExplainedCase:
    """One explained case, as told to the user."""

    case: str
    kinds: dict[str, int]
    """How many findings of each kind were explained."""
    warnings: tuple[str, ...]
    seconds: dict[str, float] = field(default_factory=dict)
    """By step; empty for a case that an earlier run had finished."""


@dataclass(frozen=True)
class ExplanationFiles:
    """Where the files of one case are, all in one folder."""

    out: Path
    case: str

    @property
    def map(self) -> Path:
        return self.out / f"{self.case}_gradcam.nii.gz"

    @property
    def table(self) -> Path:
        return self.out / f"{self.case}_gradcam.tsv"

    @property
    def picture(self) -> Path:
        return self.out / f"{self.case}_gradcam.png"

    @property
    def record(self) -> Path:
        return self.out / f"{self.case}_gradcam.json"

    @property
    def all(self) -> tuple[Path, ...]:
        return self.map, self.table, self.picture, self.record

    def finished(self, fixed: Mapping[str, Any]) -> ExplainedCase | None:
        """What an earlier run made, if all its files are there and its record says the same of `fixed`."""
        if not all(path.is_file() for path in self.all):
            return None
        try:
            content = read_json(self.record)
            same = all(content.get(key) == value for key, value in fixed.items())
            return ExplainedCase(self.case, dict(content["kinds"]), tuple(content["warnings"])) if same else None
        except (InputError, KeyError, TypeError, ValueError, AttributeError):
            return None

    def write_map(self, grid: Volume, explanations: Sequence[Explanation]) -> None:
        """The highest of all findings' maps at each voxel, on the scan's own grid."""
        highest = np.zeros(grid.shape, dtype=np.float32)
        for explanation in explanations:
            np.maximum(highest, explanation.map, out=highest)
        write_volume(self.map, grid.with_data(highest), np.float32)

    def write_table(self, channels: Sequence[Role], explanations: Sequence[Explanation]) -> None:
        """One row a finding."""
        write_tsv(self.table, columns(channels), map(_row, explanations))

    def write_record(self, content: Mapping[str, Any]) -> None:
        """Written last, so that it vouches for the other files."""
        write_json(self.record, content)

    def set_aside(self) -> list[Path]:
        """Move what an earlier run wrote to `outdated/`, lest it be taken for new.

        Returns:
            What was moved.
        """
        moved = [path for path in self.all if path.is_file()]
        for path in moved:
            target = self.out / OUTDATED / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
        return moved


def _row(explanation: Explanation) -> dict[str, Any]:
    finding = explanation.finding
    lesion = finding.lesion
    places = lesion.model_dump(include={"lesion", "x_mm", "y_mm", "z_mm", "i", "j", "k", "volume_mm3"})
    return {
        **places,
        "kind": finding.kind,
        "prob": lesion.prob_max,
        "reference": finding.reference,
        "logit_difference": explanation.score,
        "map_within_5mm": explanation.near,
        "even_within_5mm": explanation.near_by_chance,
        **{f"drop_{role}": drop for role, drop in explanation.drops.items()},
    }
