"""One case of a conversion: prepared, written in nnU-Net's raw layout, and left alone once it is finished."""

import json
import shutil
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from cmb_autoseg import __version__
from cmb_autoseg.dataset_conversion.labels import LabelResult, count_lesions, read_label
from cmb_autoseg.dataset_conversion.sorting.disguise import Disguise
from cmb_autoseg.errors import CASE_FAULTS, InputError, OutputError, fault_reason
from cmb_autoseg.files import file_digest, text_digest, write_bytes, write_tsv
from cmb_autoseg.geometry import Volume, write_volume
from cmb_autoseg.preprocessing import PreparedCase, prepare_case
from cmb_autoseg.preprocessing.checks import read_sequences
from cmb_autoseg.quality_control import CaseQuality
from cmb_autoseg.readers import read_grid, source_files
from cmb_autoseg.records import Case, ImageSource, LabelSource, Record, Role, StepRecord

__all__ = [
    "CaseJob",
    "CaseRecord",
    "ConvertedCase",
    "attempt",
    "bring_back",
    "died",
    "read_case_label",
    "remove_files",
    "set_aside",
    "source_paths",
    "stored_grid",
    "strip_file",
]

DIGESTS_KEPT = 1024
SET_ASIDE = "excluded"
"""Folder of volumes of cases that quality control excludes."""
MEMBER = "!/"
IMAGE_FOLDERS = ("imagesTr", "imagesTs", "imagesUn")
LABEL_FOLDERS = ("labelsTr", "labelsTs")
BOX_FOLDERS = ("boxesTr", "boxesTs")
BOX_COLUMNS = ("slice", "x_min", "y_min", "x_max", "y_max")


class SourceStamp(Record):
    """A source file as it was when its case was converted."""

    size: int
    modified_ns: int
    content: str
    """SHA-256 of its bytes."""


class CaseRecord(Record):
    """A finished case; holds no path of the originals, because those may name people."""

    case: str
    part: str
    """`Tr`, `Ts` or `Un`: where its images are."""
    labelled: bool
    settings: str
    """Digest of everything but the files that decides what is written."""
    sources: tuple[SourceStamp, ...]
    sequences: tuple[Role, ...]
    n_lesions: int | None
    marks: str | None = None
    """Digest of the label as it was read: a table of many cases may change without this one."""
    notes: tuple[str, ...] = ()
    steps: tuple[StepRecord, ...] = ()
    """What each step of the preparation decided; its seconds are in the workspace's logs, since they differ by run."""
    quality: CaseQuality | None = None
    boxed: bool = False
    """Its label is of boxes in slices, which are kept beside the mask."""


@dataclass(frozen=True)
class ConvertedCase:
    """What became of a case: its record, whether an earlier run had written it, and seconds by step if not."""

    record: CaseRecord
    unchanged: bool = False
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class CaseJob:
    """A case to be converted into the raw folder `raw`, with the roles of its channels."""

    case: Case
    raw: Path
    roles: tuple[Role, ...]
    disguise: Disguise = field(default_factory=lambda: Disguise({}))
    """Of whatever is written or said of the case."""


def stored_grid(case: Case, role: Role) -> Volume:
    """The grid of a sequence as it came, with data of zeros.

    Raises:
        InputError: its header is unreadable.
    """
    source = case.images[role]
    shape, affine = read_grid(source)
    if source.copy_geometry_from is not None:
        affine = read_grid(case.images[source.copy_geometry_from])[1]
    return Volume(np.broadcast_to(np.uint8(0), shape), affine, None, source.path)


def attempt(job: CaseJob) -> ConvertedCase | str:
    """One case, or the reason why it cannot be converted."""
    try:
        return _convert_case(job)
    except OutputError:
        raise
    except CASE_FAULTS as error:
        return _disguise(job)(fault_reason(error))


def died(job: CaseJob) -> str:
    """The reason of a case whose process was killed."""
    return f"{job.case.name}: its process was killed, most likely for want of memory; give fewer --jobs or more memory"


def _disguise(job: CaseJob) -> Disguise:
    """With pseudonyms a DICOM file is told by its number, since its folder may name its person.

    Reads nothing: it tells of files that cannot be read, too.
    """
    if not job.disguise.aliases:
        return job.disguise
    case = job.case
    sources = [*case.images.values(), *([case.brain_mask.source] if case.brain_mask else [])]
    known = [path for source in sources for path in (source.path, *source.files)]
    if case.label is not None:
        known += [case.label.path, *case.label.files, *case.label.raters.values()]
    paths = {path: job.disguise.path(job.disguise(path)) for path in known if "/" in path}
    series = [source for source in sources if source.kind == "dicom"]
    paths |= {file: f"{source.path} file {n}" for source in series for n, file in enumerate(source.files, 1)}
    return replace(job.disguise, paths=dict(sorted(paths.items(), reverse=True)))


def _convert_case(job: CaseJob) -> ConvertedCase:
    case, raw = job.case, job.raw
    record_file = raw / "records" / f"{case.name}.json"
    earlier = _earlier_record(record_file)
    settings = _settings_digest(job)
    sources = _stamps(case, earlier.sources if earlier and earlier.settings == settings else ())
    part = "Ts" if case.split == "test" else "Tr" if case.label else "Un"
    written = earlier is not None and _is_written(raw, earlier, part, settings, len(job.roles))
    changed = _changed(case, earlier, sources) if earlier is not None and written else None
    label = None if changed == set() else _read_label(case)
    marks = None if label is None else _marks(label)
    if earlier is not None and changed is not None and _leaves_as_is(case, changed, marks == earlier.marks):
        if earlier.sources != sources:
            earlier = earlier.model_copy(update={"sources": sources})
            earlier.write(record_file)
        return ConvertedCase(earlier, unchanged=True)
    prepared = prepare_case(
        case, None if label is None else label.volume, None if label is None else label.grid, quality=True
    )
    _check_lesions(case, label, prepared)
    disguise = _disguise(job)
    record = CaseRecord(
        case=case.name,
        part=part,
        labelled=label is not None,
        settings=settings,
        sources=sources,
        sequences=tuple(role for role in job.roles if role in prepared.volumes),
        n_lesions=None if label is None else label.n_lesions,
        marks=marks,
        notes=tuple(map(disguise, (*case.notes.values(), *(label.notes if label else ()), *prepared.warnings))),
        steps=tuple(step.model_copy(update={"decision": disguise(step.decision)}) for step in prepared.steps),
        quality=prepared.quality,
        boxed=_is_boxed(label),
    )
    (raw / "dataset.json").unlink(missing_ok=True)
    record_file.unlink(missing_ok=True)
    if earlier is not None:
        remove_files(raw, case.name)
    _write_case(raw, record, prepared, job.roles)
    if label is not None and label.boxes is not None and record.boxed:
        rows = (dict(zip(BOX_COLUMNS, box, strict=True)) for box in label.boxes)
        write_tsv(_box_file(raw, record), BOX_COLUMNS, rows)
    record.write(record_file)
    return ConvertedCase(record, seconds=prepared.seconds)


def read_case_label(case: Case) -> LabelResult:
    """The label of a labelled case, on the grid of the sequence that it was made on; reads no scan.

    Raises:
        InputError, GeometryError: see `read_label`.
    """
    assert case.label is not None
    role = case.label.grid
    grids = {role: stored_grid(case, role)} if role in case.images else {}
    return read_label(case.label, stored_grid(case, case.reference_role), grids)


def _read_label(case: Case) -> LabelResult | None:
    if case.label is None:
        return None
    try:
        return read_case_label(case)
    except InputError:
        read_sequences(case)  # A damaged scan is the cause to name, not the label that does not fit its header.
        raise


def _is_boxed(label: LabelResult | None) -> bool:
    """Whether boxes are kept: those in voxels of the reference, on whose grid detectors give theirs."""
    return label is not None and label.boxes is not None and label.grid is None


def _earlier_record(path: Path) -> CaseRecord | None:
    try:
        return CaseRecord.read(path) if path.is_file() else None
    except InputError:  # of another version: the case is converted anew
        return None


def source_paths(case: Case) -> list[Path]:
    """The files on disk that a case is made of: its scans, its labels, its brain mask."""
    paths = [path for source in case.images.values() for path in source_files(source)]
    if case.label is not None:
        paths += _label_files(case.label)
    if case.brain_mask is not None:
        paths += source_files(case.brain_mask.source)
    return list(dict.fromkeys(paths))


def _label_files(label: LabelSource) -> list[Path]:
    if label.kind == "reviewed":
        return []
    paths = label.files or (label.path, *label.raters.values())
    return [file for path in paths if path for file in source_files(ImageSource(path=path))]


def _stamps(case: Case, earlier: Sequence[SourceStamp]) -> tuple[SourceStamp, ...]:
    """Size, time and digest of the sources; a file whose size and time are as before is not read again."""
    stamps: list[SourceStamp] = []
    for path, before in zip_longest(source_paths(case), earlier):
        try:
            status = path.stat()
            same = before is not None and (before.size, before.modified_ns) == (status.st_size, status.st_mtime_ns)
            content = before.content if same else _digest(path, status.st_size, status.st_mtime_ns)
        except OSError as error:
            raise InputError(f"{path}: not readable ({error.strerror}); restore the file") from None
        stamps.append(SourceStamp(size=status.st_size, modified_ns=status.st_mtime_ns, content=content))
    return tuple(stamps)


@lru_cache(maxsize=DIGESTS_KEPT)
def _digest(path: Path, _size: int, _modified_ns: int) -> str:
    """Of a file's bytes; an archive of many cases is read once."""
    return file_digest(path)


def _is_written(raw: Path, earlier: CaseRecord, part: str, settings: str, n_channels: int) -> bool:
    """Whether an earlier run wrote this case with the same settings."""
    return (earlier.part, earlier.settings) == (part, settings) and all(
        path.is_file() for path in _files(raw, earlier, n_channels)
    )


def _changed(case: Case, earlier: CaseRecord, sources: Sequence[SourceStamp]) -> set[Path] | None:
    """Files that are no longer what an earlier run read; None where they are not even the same files."""
    paths = source_paths(case)
    if len(paths) != len(earlier.sources):
        return None
    pairs = zip(paths, earlier.sources, sources, strict=True)
    return {path for path, before, now in pairs if before.content != now.content}


def _leaves_as_is(case: Case, changed: Set[Path], same_marks: bool) -> bool:
    """Whether a case can stay as it is: nothing changed, or files of labels that say the same of it."""
    return not changed or (case.label is not None and same_marks and changed <= set(_label_files(case.label)))


def _marks(label: LabelResult) -> str:
    """Digest of everything that a label says."""
    content = np.packbits(label.volume.data > 0).tobytes().hex()
    boxes = [label.boxes] if label.boxes else []
    return text_digest(json.dumps([content, label.volume.shape, label.n_lesions, label.grid, label.notes, *boxes]))


def _settings_digest(job: CaseJob) -> str:
    """Of everything but file contents and columns that decides what is written for a case."""
    case = job.case
    content = {
        "version": __version__,
        "channels": list(job.roles),
        "images": {role: _settings(source) for role, source in case.images.items()},
        "label": _settings(case.label) if case.label else None,
        "brain_mask": [_settings(case.brain_mask.source), case.brain_mask.grid] if case.brain_mask else None,
        "prep": case.prep.model_dump(exclude={"hd_bet": {"folder", "device"}, "skull": True}),
    }
    return text_digest(json.dumps(content, sort_keys=True))


def _settings(source: ImageSource | LabelSource) -> dict[str, Any]:
    """What a source says but for where its files are; of an archive, whose digest covers all, which member counts."""
    settings = source.model_dump(exclude={"path", "files", "pictures"})
    paths = [source.path, *source.files]
    if isinstance(source, LabelSource):
        settings["raters"] = list(source.raters)
        paths += source.raters.values()
    members = [path.partition(MEMBER)[2] for path in paths]
    return {**settings, "there": [bool(file) for file in source.files], "members": members}


def _check_lesions(case: Case, label: LabelResult | None, prepared: PreparedCase) -> None:
    if label is None:
        return
    assert prepared.label is not None
    left = count_lesions(prepared.label.data)
    if left != label.n_lesions:
        raise InputError(
            f"{case.name}: {label.n_lesions} lesions before and {left} after preparation; "
            "report this as a bug, the case is left out"
        )


def _write_case(raw: Path, record: CaseRecord, prepared: PreparedCase, roles: tuple[Role, ...]) -> None:
    """Write images, all-zero where a sequence is missing, and the label."""
    for role, path in zip(roles, _image_files(raw, record, len(roles)), strict=True):
        volume = prepared.volumes.get(role)
        if volume is None:
            volume = prepared.brain.with_data(np.zeros(prepared.brain.shape, dtype=np.float32))
        write_volume(path, volume, np.float32)
    if prepared.label is not None:
        write_volume(_label_file(raw, record), prepared.label, np.uint8)
    write_bytes(strip_file(raw, record.case), prepared.picture)


def _image_files(raw: Path, record: CaseRecord, n_channels: int) -> list[Path]:
    return [raw / f"images{record.part}" / f"{record.case}_{channel:04d}.nii.gz" for channel in range(n_channels)]


def strip_file(raw: Path, case: str) -> Path:
    """The picture of a case in the gallery."""
    return raw / "qc" / f"{case}.jpg"


def _label_file(raw: Path, record: CaseRecord) -> Path:
    return raw / f"labels{record.part}" / f"{record.case}.nii.gz"


def _box_file(raw: Path, record: CaseRecord) -> Path:
    """Named as `cmb_evaluate` pairs it; in voxels of the scan as it came."""
    return raw / f"boxes{record.part}" / f"{record.case}_boxes.tsv"


def _files(raw: Path, record: CaseRecord, n_channels: int) -> list[Path]:
    images = _image_files(raw, record, n_channels)
    boxes = [_box_file(raw, record)] if record.boxed else []
    return [*images, _label_file(raw, record), *boxes] if record.labelled else images


def set_aside(raw: Path, record: CaseRecord, n_channels: int) -> None:
    """Take the volumes of a case out of the dataset, to be found again by `bring_back`; record and picture stay."""
    for path in _files(raw, record, n_channels):
        place = raw / SET_ASIDE / path.relative_to(raw)
        place.parent.mkdir(parents=True, exist_ok=True)
        path.replace(place)


def bring_back(raw: Path) -> None:
    """Put the volumes of cases that were set aside where an earlier run had written them."""
    for path in sorted(path for path in (raw / SET_ASIDE).rglob("*") if path.is_file()):
        # Until the tables are written, the folder holds more than they say.
        (raw / "dataset.json").unlink(missing_ok=True)
        path.replace(raw / path.relative_to(raw / SET_ASIDE))
    shutil.rmtree(raw / SET_ASIDE, ignore_errors=True)


def remove_files(raw: Path, case: str) -> None:
    """Remove what was written of a case, however many channels the dataset had then."""
    for folder in IMAGE_FOLDERS:
        for channel in range(len(Role)):
            (raw / folder / f"{case}_{channel:04d}.nii.gz").unlink(missing_ok=True)
    for folder in LABEL_FOLDERS:
        (raw / folder / f"{case}.nii.gz").unlink(missing_ok=True)
    for folder in BOX_FOLDERS:
        (raw / folder / f"{case}_boxes.tsv").unlink(missing_ok=True)
    strip_file(raw, case).unlink(missing_ok=True)
