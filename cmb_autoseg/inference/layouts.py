"""Where the results of a case and of a run are written: one interface, several layouts.

A layout knows names and forms; what is predicted it is told. The record of a case is written last, so
that it vouches for the other files; a case that fails leaves no files of its name behind.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.errors import InputError
from cmb_autoseg.files import read_json, write_json, write_tsv
from cmb_autoseg.geometry import Volume, write_volume
from cmb_autoseg.inference.box_files import write_boxes
from cmb_autoseg.inference.ensemble import SliceBox
from cmb_autoseg.inference.inputs import InputFailure
from cmb_autoseg.inference.overlay import write_overlay
from cmb_autoseg.inference.training_range import picture_note
from cmb_autoseg.lesions import LESION_COLUMNS
from cmb_autoseg.records import Case, LesionTable

__all__ = [
    "COUNT_COLUMNS",
    "OUTDATED",
    "CaseFiles",
    "CaseResult",
    "FlatLayout",
    "Layout",
    "Outcome",
    "count_row",
    "stored_result",
]

COUNT_COLUMNS = (
    "case",
    "status",
    "n_lesions",
    "total_volume_mm3",
    "sequences_used",
    "sequences_missing",
    "warnings",
)
FIXED_PARTS = {
    "inputs": "scan",
    "brain_mask": "brain mask",
    "notes": "choice of files",
    "prep": "preparation",
    "model": "model, its folds or --fast",
    "operating_point": "operating point",
    "software": "version of the tool",
}
"""Of what a result hangs on, as its record names it, and in words."""
OUTDATED = "outdated"
"""Folder for the results of a case that an earlier run could predict and this one could not."""


@dataclass(frozen=True)
class CaseResult:
    """One predicted case."""

    table: LesionTable
    warnings: tuple[str, ...]
    sequences_used: tuple[str, ...] = ()
    sequences_missing: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    """By step; empty for a case that an earlier run had finished."""


@dataclass(frozen=True)
class Outcome:
    """What is to be written of one case, on the grid of the scan as it came."""

    scan: Volume
    probability: Volume
    components: NDArray[np.int32]
    """(i, j, k): the number of the lesion, 0 outside."""
    table: LesionTable
    record: Mapping[str, Any]
    boxes: tuple[SliceBox, ...] | None = None
    """Of a detector, in voxels of the scan's canonical axes; None of models that segment."""

    doubts: tuple[str, ...] = ()
    """What the picture warns of."""

    @property
    def mask(self) -> NDArray[np.uint8]:
        return (self.components > 0).astype(np.uint8)


@dataclass(frozen=True)
class CaseFiles:
    """The files of one case."""

    probability: Path
    mask: Path
    lesions: Path
    overlay: Path
    record: Path
    boxes: Path
    """Of detectors alone."""
    others: tuple[Path, ...] = ()

    @property
    def all(self) -> tuple[Path, ...]:
        """Those of every model."""
        return (self.probability, self.mask, self.lesions, self.overlay, self.record, *self.others)


class Layout(ABC):
    """How results are laid out under one folder."""

    def __init__(self, out: Path) -> None:
        self.out = out

    def begin(self, cases: Sequence[Case], failures: Sequence[InputFailure]) -> None:  # noqa: B027
        """Refuse what cannot be named, before anything is predicted."""

    def territory(
        self,
        cases: Sequence[Case],  # noqa: ARG002
        failures: Sequence[InputFailure],  # noqa: ARG002
    ) -> list[tuple[Path, bool]]:
        """The folders that a run must own, and whether with all that is below them."""
        return [(self.out, True)]

    def own_root(self, doing: str) -> AbstractContextManager[None]:  # noqa: ARG002
        """For a block, nobody else writes files about the whole; a layout in which nobody else may needs nothing."""
        return nullcontext()

    @abstractmethod
    def files(self, case: str) -> CaseFiles:
        """Where the files of a case are; none need exist."""

    @abstractmethod
    def write_tables(self, case: str, outcome: Outcome) -> None:
        """Write the lesions, and everything else but the maps, the picture and the record."""

    def record(self, case: str, outcome: Outcome) -> dict[str, Any]:  # noqa: ARG002
        """What the record of a case says."""
        return dict(outcome.record)

    @abstractmethod
    def write_run(self, results: Sequence[CaseResult], failed: Sequence[InputFailure], run: Mapping[str, Any]) -> None:
        """Write the tables of a run; `run` is what it says of itself."""

    def write(self, case: str, outcome: Outcome) -> None:
        """Write all files of a case, its record last."""
        files = self.files(case)
        # The record of an earlier run must not vouch for files that are about to be replaced.
        files.record.unlink(missing_ok=True)
        write_volume(files.probability, outcome.probability, np.float32)
        write_volume(files.mask, outcome.probability.with_data(outcome.mask), np.uint8)
        self.write_tables(case, outcome)
        if outcome.boxes is None:
            files.boxes.unlink(missing_ok=True)
        else:
            write_boxes(files.boxes, outcome.boxes, outcome.scan)
        note = picture_note(outcome.record["intended_use"], outcome.doubts)
        write_overlay(files.overlay, outcome.scan, outcome.mask, outcome.table, case, note)
        write_json(files.record, self.record(case, outcome))

    def finished(self, case: str, fixed: Mapping[str, Any]) -> CaseResult | None:
        """The result of an earlier run, if all its files are there and its record says the same of `fixed`."""
        files = self.files(case)
        if not all(path.is_file() for path in files.all):
            return None
        try:
            content = read_json(files.record)
            if content.get("n_boxes") is not None and not files.boxes.is_file():
                return None
            return stored_result(content) if all(content.get(key) == value for key, value in fixed.items()) else None
        except (InputError, KeyError, TypeError, ValueError, AttributeError):
            return None

    def differing(self, case: str, fixed: Mapping[str, Any]) -> tuple[str, ...]:
        """What of `fixed` the record of an earlier run says otherwise, in words; nothing where there is no record."""
        path = self.files(case).record
        try:
            content = read_json(path) if path.is_file() else fixed
            return tuple(name for key, name in FIXED_PARTS.items() if content.get(key) != fixed.get(key))
        except (InputError, AttributeError):
            return ()

    def set_aside(self, case: str) -> list[Path]:
        """Move files of a failed case that an earlier run wrote to `outdated/`, lest they be taken for new ones.

        Returns:
            What was moved.
        """
        moved = [path for path in (*self.files(case).all, self.files(case).boxes) if path.is_file()]
        for path in moved:
            target = self.out / OUTDATED / path.relative_to(self.out)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
        return moved


def stored_result(content: Mapping[str, Any]) -> CaseResult:
    """The result that the record of a case holds.

    Raises:
        KeyError, TypeError, ValueError: it is no such record.
    """
    return CaseResult(
        LesionTable(case=content["case"], lesions=content["lesions"]),
        tuple(content["warnings"]),
        tuple(content["sequences_used"]),
        tuple(content["sequences_missing"]),
    )


def count_row(result: CaseResult) -> dict[str, Any]:
    """The row of a predicted case in `counts.tsv`."""
    return {
        "case": result.table.case,
        "status": "done",
        "n_lesions": len(result.table.lesions),
        "total_volume_mm3": sum(lesion.volume_mm3 for lesion in result.table.lesions),
        "sequences_used": ",".join(result.sequences_used),
        "sequences_missing": ",".join(result.sequences_missing) or None,
        "warnings": len(result.warnings),
    }


class FlatLayout(Layout):
    """All files in one folder, named after the case; the tables are those of the latest run."""

    def files(self, case: str) -> CaseFiles:
        return CaseFiles(
            probability=self.out / f"{case}_prob.nii.gz",
            mask=self.out / f"{case}_mask.nii.gz",
            lesions=self.out / f"{case}_lesions.tsv",
            overlay=self.out / f"{case}_overlay.png",
            record=self.out / f"{case}.json",
            boxes=self.out / f"{case}_boxes.tsv",
        )

    def write_tables(self, case: str, outcome: Outcome) -> None:
        write_tsv(self.files(case).lesions, LESION_COLUMNS, [lesion.model_dump() for lesion in outcome.table.lesions])

    def write_run(self, results: Sequence[CaseResult], failed: Sequence[InputFailure], run: Mapping[str, Any]) -> None:
        write_tsv(self.out / "counts.tsv", COUNT_COLUMNS, _count_rows(results, failed))
        rows = [row for result in results for row in result.table.rows()]
        write_tsv(self.out / "lesions.tsv", ("case", *LESION_COLUMNS), rows)
        write_tsv(self.out / "failures.tsv", ("case", "reason"), [vars(failure) for failure in failed])
        write_json(self.out / "run.json", run)


def _count_rows(results: Sequence[CaseResult], failed: Sequence[InputFailure]) -> Iterator[dict[str, Any]]:
    yield from (count_row(result) for result in results)
    yield from ({"case": failure.case, "status": "failed"} for failure in failed)
