"""The raw folder of one dataset as later stages read it: which cases, which files."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from cmb_autoseg.errors import InputError, LeakageError
from cmb_autoseg.files import file_digest, read_json, read_tsv, text_digest
from cmb_autoseg.records import DataKind, PrepSettings, Role
from cmb_autoseg.simulated_cohorts import simulated_cohorts
from cmb_autoseg.workspace import DatasetFolders

__all__ = [
    "LEGAL_N_FOLDS",
    "N_FOLDS",
    "Fold",
    "RawCase",
    "RawDataset",
    "check_folds",
    "choose_folds",
    "folds_digest",
    "folds_file",
    "kind_of_data",
    "parse_folds",
    "read_raw_dataset",
]

N_FOLDS = 5
"""Of a dataset for which nobody asked for another number."""
LEGAL_N_FOLDS = range(2, 21)
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
    n_lesions: int = 0
    """Of a labelled case; 0 where nobody has looked."""

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
    """Of cases.tsv, which holds the digests of all sources, and of how each case was read and prepared."""
    prep: PrepSettings = field(default_factory=PrepSettings)
    """How the scans were prepared; of several cohorts' ways the one of most cases."""
    simulated: frozenset[str] = frozenset()
    """Cohorts for which no person was scanned."""

    def training_cases(self) -> tuple[RawCase, ...]:
        """Everything but the declared test cases, unlabelled ones included."""
        return tuple(case for case in self.cases if case.split != "test")


def read_raw_dataset(folders: DatasetFolders) -> RawDataset:
    """Read `dataset.json` and `cases.tsv`.

    Raises:
        InputError: the folder was not finished by cmb_convert, the table lacks a column, or a file is gone.
    """
    table = folders.raw / "cases.tsv"
    if not table.is_file() or not (folders.raw / "dataset.json").is_file():
        raise InputError(f"{folders.raw}: no finished raw dataset; run cmb_convert CARD -d {folders.number}")
    rows = read_tsv(table)
    missing = [column for column in CASE_COLUMNS if not rows or column not in rows[0]]
    if missing:
        raise InputError(f"{table}: column {missing[0]!r} is missing or there is no row; run cmb_convert again")
    foreign = next((row for row in rows if row["split"] not in ("train", "test")), None)
    if foreign is not None:
        raise InputError(
            f"{table}: case {foreign['case']}: split is {foreign['split']!r}, legal are train and test; "
            "run cmb_convert again"
        )
    cases = tuple(_case(row, folders.raw) for row in rows)
    record = _record(folders)
    prep, prepared = _preparations(folders, record)
    digest = text_digest(f"{file_digest(table)} {prepared}")
    commonest = Counter(case.cohort for case in cases if case.cohort in prep).most_common(1)
    settings = prep[commonest[0][0]] if commonest else PrepSettings()
    prepared_as = settings.model_copy(update={"hd_bet": None})
    dataset = RawDataset(folders, _roles(folders), cases, digest, prepared_as, simulated_cohorts(record, rows))
    _refuse_gaps(dataset)
    return dataset


def _record(folders: DatasetFolders) -> dict[str, Any]:
    """What `cmb_convert` wrote down of the dataset; empty where another tool made it."""
    path = folders.raw / "dataset_record.json"
    content = read_json(path) if path.is_file() else {}
    if path.is_file() and not (isinstance(content, dict) and isinstance(content.get("prep"), dict)):
        raise InputError(f"{path}: says nothing of the preparation; run cmb_convert CARD -d {folders.number} again")
    return dict(content)


def _preparations(folders: DatasetFolders, record: dict[str, Any]) -> tuple[dict[str, PrepSettings], str]:
    """How each cohort was prepared, and a digest of all that decided it case by case; empty where nothing tells."""
    path = folders.raw / "dataset_record.json"
    prep = record.get("prep", {})
    parsed = {name: PrepSettings.parse(settings, f"{path}: prep.{name}") for name, settings in prep.items()}
    return parsed, str(record.get("prepared", ""))


def kind_of_data(cases: Iterable[tuple[RawDataset, RawCase]]) -> DataKind:
    """`simulated` where nobody was scanned for any of the cases, `partly simulated`, or nothing where all are real."""
    made_up = {case.cohort in raw.simulated for raw, case in cases}
    return "simulated" if made_up == {True} else "partly simulated" if True in made_up else ""


def _roles(folders: DatasetFolders) -> tuple[Role, ...]:
    path = folders.raw / "dataset.json"
    try:
        channels = read_json(path)["channel_names"]
        return tuple(Role(channels[str(index)]) for index in range(len(channels)))
    except (KeyError, TypeError, InputError) as error:
        reason = str(error) if isinstance(error, InputError) else f"{path}: no channel_names by number in it"
        raise InputError(f"{reason.partition('; ')[0]}; run cmb_convert CARD -d {folders.number} again") from None
    except ValueError as error:
        raise InputError(f"{path}: channel_names: {error}; run cmb_convert CARD -d {folders.number} again") from None


def _refuse_gaps(dataset: RawDataset) -> None:
    for case in dataset.cases:
        files = [case.image(channel) for channel in range(len(dataset.roles))]
        gone = next((path for path in (*files, *([case.label] if case.labelled else [])) if not path.is_file()), None)
        if gone is not None:
            raise InputError(
                f"{gone}: no such file, though cases.tsv names {case.name}; "
                f"run cmb_convert CARD -d {dataset.folders.number} again"
            )


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
        n_lesions=int(lesions) if (lesions := row.get("n_lesions", "")).isdecimal() else 0,
    )


class Fold(TypedDict):
    """Case names of one fold, as in nnU-Net's `splits_final.json`."""

    train: list[str]
    val: list[str]


def folds_file(folders: DatasetFolders) -> Path:
    return folders.raw / "splits_final.json"


def parse_folds(folders: DatasetFolders) -> list[Fold]:
    """The folds as the file says.

    Raises:
        InputError: it is missing or no list of folds.
    """
    path = folds_file(folders)
    cure = f"delete it and run cmb_plan_preprocess -d {folders.number}"
    try:
        folds = read_json(path)
    except InputError as error:
        raise InputError(f"{str(error).partition('; ')[0]}; {cure}") from None
    if not isinstance(folds, list) or not all(map(_is_fold, folds)):
        raise InputError(f"{path}: no list of folds with train and val names; {cure}")
    if len(folds) not in LEGAL_N_FOLDS:
        least, most = LEGAL_N_FOLDS[0], LEGAL_N_FOLDS[-1]
        raise InputError(f"{path}: holds {len(folds)} folds, legal are {least} to {most}; {cure}")
    return folds


def _is_fold(fold: object) -> bool:
    return isinstance(fold, dict) and all(
        isinstance(fold.get(part), list) and all(isinstance(name, str) for name in fold[part])
        for part in ("train", "val")
    )


def choose_folds(folders: DatasetFolders, wanted: Sequence[int] | None) -> tuple[int, ...]:
    """The folds that a user asks for.

    Args:
        folders: of the dataset, whose folds count; one that is not planned yet is taken to have `N_FOLDS`.
        wanted: numbers from 0; None for all.

    Raises:
        InputError: the dataset has no such fold.
    """
    n_folds = len(parse_folds(folders)) if folds_file(folders).is_file() else N_FOLDS
    if wanted is None:
        return tuple(range(n_folds))
    strange = next((fold for fold in wanted if fold >= n_folds), None)
    if strange is not None:
        raise InputError(
            f"-f: found {strange}, but {folders.name} has {n_folds} folds ({folds_file(folders)}); name some of 0 to "
            f"{n_folds - 1}, or all"
        )
    return tuple(dict.fromkeys(wanted))


def folds_digest(folds: Sequence[Fold]) -> str:
    """Two models with equal digests have learned from and are judged by the same deal of the cases."""
    return text_digest(json.dumps(folds))


def check_folds(dataset: RawDataset, folds: Sequence[Fold]) -> None:
    """Refuse folds that were edited into something that cannot be judged by them.

    Raises:
        InputError: a labelled case is in no part of a fold, or judged in none or several; or a name is none of
            theirs.
        LeakageError: a subject stands on both sides of a fold.
    """
    path = folds_file(dataset.folders)
    cure = f"restore the file, or delete it, run cmb_plan_preprocess -d {dataset.folders.number} and train anew"
    subject_of = {case.name: (case.cohort, case.subject) for case in dataset.training_cases() if case.labelled}
    for number, fold in enumerate(folds):
        named = {*fold["train"], *fold["val"]}
        strange, absent = sorted(named - subject_of.keys()), sorted(subject_of.keys() - named)
        if strange:
            raise InputError(f"{path}: fold {number} names {strange[0]}, which is no labelled training case; {cure}")
        if absent:
            raise InputError(f"{path}: fold {number} lacks case {absent[0]}; {cure}")
        shared = {subject_of[name] for name in fold["train"]} & {subject_of[name] for name in fold["val"]}
        if shared:
            cohort, subject = min(shared)
            raise LeakageError(f"{path}: fold {number} has subject {subject} of {cohort} on both sides; {cure}")
    judged = Counter(name for fold in folds for name in fold["val"])
    odd = next((name for name in sorted(subject_of) if judged[name] != 1), None)
    if odd is not None:
        found = f"{judged[odd]} of its" if judged[odd] else "none of its"
        raise InputError(f"{path}: case {odd} is in val of {found} {len(folds)} folds, one is needed; {cure}")
