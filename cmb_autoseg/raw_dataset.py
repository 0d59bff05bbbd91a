"""The raw folder of one dataset as later stages read it: which cases, which files."""

import re
from dataclasses import dataclass
from pathlib import Path

from cmb_autoseg.errors import InputError
from cmb_autoseg.files import file_digest, read_json, read_tsv
from cmb_autoseg.records import Role
from cmb_autoseg.workspace import DatasetFolders

__all__ = ["RawCase", "RawDataset", "read_raw_dataset"]

CASE_COLUMNS = ("case", "cohort", "subject", "sequences", "split", "labelled")


@dataclass(frozen=True)
class RawCase:
    """One prepared case in the raw folder."""

    name: str
    cohort: str
    subject: str
    sequences: tuple[Role, ...]
    split: str
    labelled: bool
    field_strength_t: float | None
    folder: Path
    """The dataset's raw folder."""

    def image(self, channel: int) -> Path:
        part = "imagesTs" if self.split == "test" else "imagesTr" if self.labelled else "imagesUn"
        return self.folder / part / f"{self.name}_{channel:04d}.nii.gz"

    @property
    def label(self) -> Path:
        return self.folder / ("labelsTs" if self.split == "test" else "labelsTr") / f"{self.name}.nii.gz"


@dataclass(frozen=True)
class RawDataset:
    """One converted dataset."""

    folders: DatasetFolders
    roles: tuple[Role, ...]
    """Of the channels 0000, 0001, ..."""
    cases: tuple[RawCase, ...]
    digest: str
    """Of cases.tsv, which holds the digests of all sources."""

    def training_cases(self) -> tuple[RawCase, ...]:
        """Everything but the declared test cases, unlabelled ones included."""
        return tuple(case for case in self.cases if case.split != "test")

    def test_cases(self) -> tuple[RawCase, ...]:
        return tuple(case for case in self.cases if case.split == "test")


def read_raw_dataset(folders: DatasetFolders) -> RawDataset:
    """Read `dataset.json` and `cases.tsv`.

    Raises:
        InputError: the folder was not finished by cmb_convert, or the table lacks a column.
    """
    table = folders.raw / "cases.tsv"
    if not table.is_file() or not (folders.raw / "dataset.json").is_file():
        raise InputError(f"{folders.raw}: no finished raw dataset; run cmb_convert CARD -d {folders.number}")
    rows = read_tsv(table)
    missing = [column for column in CASE_COLUMNS if not rows or column not in rows[0]]
    if missing:
        raise InputError(f"{table}: column {missing[0]!r} is missing or there is no row; run cmb_convert again")
    channels = read_json(folders.raw / "dataset.json")["channel_names"]
    roles = tuple(Role(channels[str(index)]) for index in range(len(channels)))
    return RawDataset(folders, roles, tuple(_case(row, folders.raw) for row in rows), file_digest(table))


def _case(row: dict[str, str], folder: Path) -> RawCase:
    field = row.get("field_strength_t", "")
    return RawCase(
        name=row["case"],
        cohort=row["cohort"],
        subject=row["subject"],
        sequences=tuple(Role(name) for name in re.findall(r"\w+", row["sequences"]) if name in set(Role)),
        split=row["split"],
        labelled=row["labelled"] == "1",
        field_strength_t=float(field) if re.fullmatch(r"\d+(\.\d+)?", field) else None,
        folder=folder,
    )
