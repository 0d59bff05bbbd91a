"""The tables and records of one raw dataset."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from cmb_autoseg._nnunet import dataset_json
from cmb_autoseg.dataset_conversion.case_conversion import CaseRecord, source_paths
from cmb_autoseg.dataset_conversion.sorting.resolver import Cohort, Exclusion
from cmb_autoseg.files import read_tsv, text_digest, write_json, write_text, write_tsv
from cmb_autoseg.readers import source_files
from cmb_autoseg.readers.source_digest import source_digest
from cmb_autoseg.records import Case, ImageSource, PrepSettings, Record, Role
from cmb_autoseg.workspace import DatasetFolders

__all__ = ["ConversionRecord", "case_rows", "write_seconds", "write_tables"]

CASE_COLUMNS = (
    *("case", "cohort", "subject", "session", "site", "field_strength_t", "sequences", "split", "labelled"),
    *("n_lesions", "source_files", "source_digests"),
)
EXCLUSION_COLUMNS = ("case", "cohort", "subject", "reason")


class ConversionRecord(Record):
    """What a raw dataset was made of; `dataset_record.json` beside `dataset.json`."""

    dataset: str
    roles: tuple[Role, ...]
    """Of the channels 0000, 0001, ..."""
    prep: dict[str, PrepSettings]
    """How the scans of each cohort were prepared."""
    prepared: str = ""
    """Digest of all that decided how each case was read and prepared, whatever its files hold."""
    parents: dict[str, str]
    """Digest of each cohort's card."""
    simulated: tuple[str, ...] | None = None
    """Cohorts for which no person was scanned; None in datasets of earlier versions, which did not say so."""


def case_rows(
    cases: Sequence[Case], records: Mapping[str, CaseRecord], cohorts: Mapping[str, Cohort]
) -> list[dict[str, object]]:
    """The rows of cases.tsv."""
    return [_row(case, records[case.name], cohorts[case.cohort]) for case in cases]


def write_tables(
    folders: DatasetFolders,
    cases: Sequence[Case],
    records: Mapping[str, CaseRecord],
    cohorts: Mapping[str, Cohort],
    exclusions: Sequence[Exclusion],
    roles: tuple[Role, ...],
) -> None:
    """Write cases.tsv, exclusions.tsv, the log, the record and, last of all, dataset.json."""
    raw = folders.raw
    free = dict.fromkeys(column for case in cases for column in case.meta if column not in CASE_COLUMNS)
    write_tsv(raw / "cases.tsv", (*CASE_COLUMNS, *free), case_rows(cases, records, cohorts))
    left_out = sorted(
        (exclusion.model_dump() for exclusion in exclusions), key=lambda row: (row["cohort"], row["case"])
    )
    write_tsv(raw / "exclusions.tsv", EXCLUSION_COLUMNS, left_out)
    notes = [
        f"{case.name}: {cohorts[case.cohort].disguise(note)}" for case in cases for note in records[case.name].notes
    ]
    write_text(raw / "conversion_log.txt", "".join(f"{note}\n" for note in notes))
    ConversionRecord(
        dataset=folders.name,
        roles=roles,
        prep={name: cohort.prep for name, cohort in sorted(cohorts.items())},
        prepared=text_digest(json.dumps({case.name: records[case.name].settings for case in cases}, sort_keys=True)),
        parents={name: cohort.card_digest for name, cohort in sorted(cohorts.items())},
        simulated=tuple(sorted(name for name, cohort in cohorts.items() if cohort.simulated)),
    ).write(raw / "dataset_record.json")
    n_training = sum(record.part == "Tr" for record in records.values())
    write_json(raw / "dataset.json", dataset_json(roles, n_training, folders.name))


def write_seconds(folders: DatasetFolders, seconds: Mapping[str, Mapping[str, float]]) -> None:
    """Write what each step of the preparation took, by case; of cases that are as they were, what it took then.

    The table is among the workspace's logs: the dataset itself is the same byte for byte in every run.
    """
    path = folders.workspace / "logs" / f"{folders.name}_preparation.tsv"
    before = {row["case"]: row for row in read_tsv(path)} if path.is_file() else {}
    rows = [{"case": case, **steps} if steps else before.get(case, {"case": case}) for case, steps in seconds.items()]
    columns = dict.fromkeys(column for row in rows for column in row)
    write_tsv(path, list(columns), rows)


def _row(case: Case, record: CaseRecord, cohort: Cohort) -> dict[str, object]:
    sources = _sources(case, record, cohort)
    return {
        **case.meta,
        "case": case.name,
        "cohort": case.cohort,
        "subject": case.subject,
        "session": case.session,
        "sequences": ",".join(record.sequences),
        "split": case.split,
        "labelled": int(record.labelled),
        "n_lesions": record.n_lesions,
        "source_files": ";".join(name for name, _ in sources),
        "source_digests": ";".join(digest for _, digest in sources),
    }


def _sources(case: Case, record: CaseRecord, cohort: Cohort) -> list[tuple[str, str]]:
    """What a case was made of, and its digests; the many files of a DICOM series, or of pictures, count as one."""
    digests = dict(zip(source_paths(case), (stamp.content for stamp in record.sources), strict=True))
    series = [s for s in case.images.values() if s.kind == "dicom" or len(source_files(s)) > 1]
    sources = [
        (
            f"{Path(source.path).relative_to(cohort.root).as_posix()} ({_counted(source)})",
            source_digest(source, digests.__getitem__),
        )
        for source in series
    ]
    slices = {path for source in series for path in source_files(source)}
    sources += [(path.relative_to(cohort.root).as_posix(), digests[path]) for path in digests if path not in slices]
    disguise = cohort.disguise_of(case)
    return [(disguise.path(name), digest) for name, digest in sources]


def _counted(source: ImageSource) -> str:
    """How many files, and of what: digests of other kinds of sources say nothing of whether scans are the same."""
    return f"{len(source_files(source))} {'pictures' if source.kind == 'pictures' else 'files'}"
