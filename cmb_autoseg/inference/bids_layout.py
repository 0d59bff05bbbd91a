"""Results as BIDS derivatives (BIDS 1.10, Derivatives and Segmentations).

A case is `sub-<label>[_ses-<label>]`. Each run writes the files of its own cases only, so that several
may work into one folder; `gather` makes the tables of all of them.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from cmb_autoseg import __version__
from cmb_autoseg.errors import InputError
from cmb_autoseg.files import read_json, write_json, write_text, write_tsv
from cmb_autoseg.geometry import write_volume
from cmb_autoseg.inference.inputs import InputFailure
from cmb_autoseg.inference.layouts import (
    COUNT_COLUMNS,
    OUTDATED,
    CaseFiles,
    CaseResult,
    Layout,
    Outcome,
    count_row,
    stored_result,
)
from cmb_autoseg.lesions import LESION_COLUMNS
from cmb_autoseg.locking import own_folder
from cmb_autoseg.progress import log
from cmb_autoseg.records import Case

__all__ = ["BidsLayout", "bids_name", "gather"]

BIDS_VERSION = "1.10.0"
SUBJECT_SESSION = re.compile(r"(?:sub-)?(?P<sub>[A-Za-z0-9]+)(?:_ses-(?P<ses>[A-Za-z0-9]+))?")
ROOT_WAIT_S = 60.0
"""How long a run waits for the root of the derivatives, which others hold while they describe or gather."""
WHO_COLUMNS = ("participant_id", "session_id")
IGNORED = f"""\
# Tables over all cases, logs, pictures and results of earlier runs: BIDS has no names for them.
/counts.tsv
/lesions.tsv
/failures.tsv
/run.json
/logs/
/{OUTDATED}/
figures
*_boxes.tsv
"""
README = """\
# Cerebral microbleeds found by cmb_autoseg

Predictions of a neural network; research use, not a medical device, not for diagnosis.

- `sub-*/[ses-*/]anat/*_dseg.nii.gz`: 1 where the probability is at least the operating point's threshold
- `*_label-CMB_probseg.nii.gz`: probability of a microbleed at every voxel
- `*_desc-lesions_dseg.nii.gz` and `.tsv`: every lesion with a number of its own, its place, size and probability
- `*_desc-lesions_boxes.tsv`, of detectors alone: their boxes in axial slices, in voxels of the scan
- `sub-*/[ses-*/]figures/*_overlay.png`: slices through the lesions
- `counts.tsv`, `lesions.tsv`, `failures.tsv`: all cases; those that could not be predicted with the reason

All images are on the grid of the scan that they were made of. The sidecar of `*_dseg.nii.gz` is the record of
the case: inputs, sequences used and missing, model, operating point, warnings.
"""
LABEL_COLUMNS = ("index", "name")
"""BIDS defines them: the value in the image, and what it means."""
COLUMNS = {
    **{f"{axis}_mm": {"Description": f"Center of mass, {axis}, RAS", "Units": "mm"} for axis in "xyz"},
    **{axis: {"Description": f"Voxel nearest to the center of mass, axis {axis}, from 0"} for axis in "ijk"},
    "volume_mm3": {"Description": "Volume", "Units": "mm^3"},
    "diameter_mm": {"Description": "Diameter of the sphere of equal volume", "Units": "mm"},
    "prob_max": {"Description": "Highest probability in the lesion"},
    "prob_mean": {"Description": "Mean probability in the lesion"},
    "region": {
        "Description": "Part of the brain, always unknown so far",
        "Levels": {name: name for name in ("lobar", "deep", "infratentorial", "unknown")},
    },
}


def bids_name(name: str, subject: str | None = None, session: str | None = None) -> str:
    """`sub-<label>[_ses-<label>]` of a case; other characters than letters and digits are left out.

    Args:
        name: of the case; one like `sub-01_ses-2_swi` says subject and session itself.
        subject: if it is known apart from the name.
        session: likewise.

    Raises:
        InputError: no letter or digit is left.
    """
    spoken = SUBJECT_SESSION.match(name) if name.startswith("sub-") else None
    if spoken is not None and subject in (None, name):
        subject, session = spoken["sub"], spoken["ses"]
    label = _label(subject or name, "sub-")
    visit = _label(session or "", "ses-")
    if not label:
        raise InputError(f"{name}: no letter or digit to make a BIDS subject of; rename the scan")
    return f"sub-{label}_ses-{visit}" if visit else f"sub-{label}"


def _label(text: str, prefix: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "", text.removeprefix(prefix))


class BidsLayout(Layout):
    """One derivative dataset.

    Args:
        out: its root.
        raw: the BIDS dataset that the scans come from, for `Sources`; None for other scans.
        gathers: make the tables over all cases at the end; not while others write into the same folder.
    """

    def __init__(self, out: Path, raw: Path | None = None, gathers: bool = True) -> None:
        super().__init__(out)
        self.raw, self.gathers = raw, gathers
        self._names: dict[str, str] = {}
        self._images: dict[str, tuple[str, ...]] = {}
        self._originals: dict[str, list[str]] = {}

    def begin(self, cases: Sequence[Case], failures: Sequence[InputFailure]) -> None:
        """Name the cases.

        Raises:
            InputError: two cases get one BIDS name, or one has the name of another case in the folder.
        """
        owners: dict[str, str] = {}
        for case in cases:
            name = bids_name(case.name, case.subject, case.session)
            known = owners.setdefault(name, case.name)
            if known == case.name:
                known = self._owner(name) or case.name
            if known != case.name:
                raise InputError(
                    f"{case.name}: as BIDS it would be {name}, and so is {known}; rename the scans so that their "
                    "letters and digits differ, or choose another folder"
                )
            self._names[case.name] = name
            others = (source.path for role, source in case.images.items() if role is not case.reference_role)
            self._images[case.name] = (case.images[case.reference_role].path, *others)
            roles = sorted(case.images, key=lambda role: role is not case.reference_role)
            self._originals[case.name] = [case.shown_file(role) for role in roles]
        for failure in failures:
            self._names.setdefault(failure.case, bids_name(failure.case))

    def territory(self, cases: Sequence[Case], failures: Sequence[InputFailure]) -> list[tuple[Path, bool]]:
        """The folders of the subjects, so that runs on others may go on beside; the whole if it gathers."""
        names = {failure.case: bids_name(failure.case) for failure in failures}
        names |= {case.name: bids_name(case.name, case.subject, case.session) for case in cases}
        subjects = {name.split("_")[0] for name in names.values()}
        return [(self.out, False)] * self.gathers + [(self.out / subject, True) for subject in sorted(subjects)]

    def _owner(self, name: str) -> str | None:
        """The case that the folder has under a BIDS name."""
        record = self._files_of(name).record
        content = read_json(record) if record.is_file() else {}
        return content.get("case") if isinstance(content, dict) else None

    def set_aside(self, case: str) -> list[Path]:
        """As `Layout.set_aside`; files that another case of the same BIDS name wrote stay."""
        return super().set_aside(case) if self._owner(self._name(case)) in (None, case) else []

    def _name(self, case: str) -> str:
        return self._names.get(case) or bids_name(case)

    def files(self, case: str) -> CaseFiles:
        return self._files_of(self._name(case))

    def _files_of(self, name: str) -> CaseFiles:
        folder = self.out.joinpath(*name.split("_"))
        stem = folder / "anat" / name
        return CaseFiles(
            probability=Path(f"{stem}_label-CMB_probseg.nii.gz"),
            mask=Path(f"{stem}_dseg.nii.gz"),
            lesions=Path(f"{stem}_desc-lesions_dseg.tsv"),
            overlay=folder / "figures" / f"{name}_overlay.png",
            record=Path(f"{stem}_dseg.json"),
            boxes=Path(f"{stem}_desc-lesions_boxes.tsv"),
            others=(
                Path(f"{stem}_dseg.tsv"),
                Path(f"{stem}_desc-lesions_dseg.nii.gz"),
                Path(f"{stem}_desc-lesions_dseg.json"),
                Path(f"{stem}_label-CMB_probseg.json"),
            ),
        )

    def _failure(self, case: str) -> Path:
        return self.out / "logs" / f"{self._name(case)}_failure.json"

    def write_tables(self, case: str, outcome: Outcome) -> None:
        files = self.files(case)
        labels, instances, instances_json, probability_json = files.others
        numbers = np.uint8 if len(outcome.table.lesions) < 256 else np.uint16
        write_volume(instances, outcome.probability.with_data(outcome.components), numbers)
        rows = [
            {"index": lesion.lesion, "name": "microbleed", **lesion.model_dump()} for lesion in outcome.table.lesions
        ]
        write_tsv(labels, LABEL_COLUMNS, [{"index": 1, "name": "microbleed"}])
        write_tsv(files.lesions, (*LABEL_COLUMNS, *COLUMNS), rows)
        write_json(instances_json, {**self._sidecar(case, "Cerebral microbleeds, numbered", outcome), **COLUMNS})
        write_json(probability_json, self._sidecar(case, "Probability of a cerebral microbleed", outcome))

    def record(self, case: str, outcome: Outcome) -> dict[str, Any]:
        return {**self._sidecar(case, "Cerebral microbleeds", outcome), **outcome.record}

    def _sidecar(self, case: str, what: str, outcome: Outcome) -> dict[str, Any]:
        """The BIDS keys of a derived image."""
        sources = [uri for uri in map(self._uri, self._images[case]) if uri is not None]
        model, point = outcome.record["model"], outcome.record["operating_point"]
        return {
            "Description": f"{what}, predicted by cmb_autoseg. {outcome.record['intended_use']}",
            **({"Sources": sources} if sources else {}),
            "SpatialReference": next(iter(sources), "orig"),
            "Manual": False,
            "Threshold": point["threshold"],
            "ModelDigest": model["digest"],
            "OriginalFiles": self._originals[case],
        }

    def _uri(self, path: str) -> str | None:
        """A file of the raw dataset as BIDS URI; None for one from elsewhere."""
        if self.raw is None or not Path(path).is_relative_to(self.raw.absolute()):
            return None
        return f"bids:raw:{Path(path).relative_to(self.raw.absolute()).as_posix()}"

    def write_run(self, results: Sequence[CaseResult], failed: Sequence[InputFailure], run: Mapping[str, Any]) -> None:
        """Note failures by case, describe the dataset, and gather all tables if this run does so.

        Raises:
            OutputError: another process owns the dataset's root.
        """
        for result in results:
            self._failure(result.table.case).unlink(missing_ok=True)
        predicted = {self.files(result.table.case) for result in results}
        for failure in failed:
            if self.files(failure.case) not in predicted:
                write_json(self._failure(failure.case), vars(failure))
        if self.gathers:
            self._describe()
            gather(self.out)
            write_json(self.out / "run.json", run)
            return
        for subject in sorted({self._subject(result.table.case) for result in results}):
            write_json(self.out / "logs" / f"{subject}_run.json", run)
        with self.own_root("cmb_bids"):  # its subjects alone are this run's own
            self._describe()

    def own_root(self, doing: str) -> AbstractContextManager[None]:
        """See `Layout.own_root`; whoever owns the root clears half-written files away there."""
        return own_folder(self.out, doing, wait_s=ROOT_WAIT_S, nested=False)

    def _subject(self, case: str) -> str:
        return self._name(case).split("_")[0]

    def _describe(self) -> None:
        """Files about the whole dataset; the same bytes whoever writes them."""
        link = None if self.raw is None else os.path.relpath(self.raw.resolve(), self.out.resolve())
        raw = {} if self.raw is None else _description(self.raw)
        source = {"URL": link, **({"DOI": raw["DatasetDOI"]} if "DatasetDOI" in raw else {})}
        write_json(
            self.out / "dataset_description.json",
            {
                "Name": f"Cerebral microbleeds in {raw['Name']}" if "Name" in raw else "Cerebral microbleeds",
                "BIDSVersion": BIDS_VERSION,
                "DatasetType": "derivative",
                "GeneratedBy": [
                    {
                        "Name": "cmb_autoseg",
                        "Version": __version__,
                        "Description": "Segmentation of cerebral microbleeds; research use, not a medical device",
                    }
                ],
                **({"SourceDatasets": [source], "DatasetLinks": {"raw": link}} if link else {}),
            },
        )
        write_text(self.out / ".bidsignore", IGNORED)
        write_text(self.out / "README.md", README)


def _description(root: Path) -> dict[str, Any]:
    """What a raw dataset says of itself; nothing where it says nothing readable."""
    try:
        content = read_json(root / "dataset_description.json")
    except InputError:
        return {}
    return content if isinstance(content, dict) else {}


def gather(out: Path) -> tuple[int, int]:
    """Write `counts.tsv`, `lesions.tsv` and `failures.tsv` over all cases that runs left in a derivative dataset.

    Returns:
        Numbers of predicted and of failed cases.

    Raises:
        InputError: no run has left a case there.
    """
    records = [(path, read_json(path)) for path in sorted(out.glob("sub-*/**/anat/*_dseg.json")) if _is_record(path)]
    # A run that was stopped may have left the note of an earlier failure beside a case that it finished.
    done = {path.name.removesuffix("_dseg.json") for path, _ in records}
    notes = (p for p in sorted(out.glob("logs/sub-*_failure.json")) if p.name.removesuffix("_failure.json") not in done)
    failed = [(_who(path), _noted(path, read_json(path))) for path in notes]
    if not records and not failed:
        raise InputError(f"{out}: no predicted case in it; predict participants first")
    results = [(_who(path), _result(path, content)) for path, content in records]
    _warn_of_mixture({result.table.case: _way(*record) for (_, result), record in zip(results, records, strict=True)})
    counts = [{**who, **count_row(result)} for who, result in results]
    counts += [{**who, "case": failure.case, "status": "failed"} for who, failure in failed]
    write_tsv(out / "counts.tsv", (*WHO_COLUMNS, *COUNT_COLUMNS), counts)
    lesions: Iterable[dict[str, Any]] = ({**who, **row} for who, result in results for row in result.table.rows())
    write_tsv(out / "lesions.tsv", (*WHO_COLUMNS, "case", *LESION_COLUMNS), lesions)
    reasons = [{**who, **vars(failure)} for who, failure in failed]
    write_tsv(out / "failures.tsv", (*WHO_COLUMNS, "case", "reason"), reasons)
    return len(results), len(failed)


def _is_record(path: Path) -> bool:
    return "_desc-" not in path.name and path.with_name(path.name.replace(".json", ".nii.gz")).is_file()


def _who(path: Path) -> dict[str, str | None]:
    """The participant and session columns of a file's row."""
    parts = path.name.split("_")
    return {"participant_id": parts[0], "session_id": parts[1] if parts[1].startswith("ses-") else None}


def _result(path: Path, content: Mapping[str, Any]) -> CaseResult:
    try:
        return stored_result(content)
    except (KeyError, TypeError, ValueError):
        raise _no_record(path) from None


def _way(path: Path, content: Mapping[str, Any]) -> str:
    """Which model, folds and threshold made a record."""
    try:
        model, point = content["model"], content["operating_point"]
        digest, folds = model["digest"].removeprefix("sha256:")[:12], ",".join(map(str, model["folds"]))
        smallest = f" and {point['min_volume_mm3']:g} mm3" if point["min_volume_mm3"] else ""
        fast = " with --fast" if model.get("fast") else ""
        return f"model {digest} folds {folds} at threshold {point['threshold']:g}{smallest}{fast}"
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _no_record(path) from None


def _no_record(path: Path) -> InputError:
    return InputError(f"{path}: not the record of a prediction; predict its participant again")


def _noted(path: Path, content: Any) -> InputFailure:
    known = content if isinstance(content, dict) else {}
    case, reason = known.get("case"), known.get("reason")
    if not isinstance(case, str) or not isinstance(reason, str):
        raise InputError(f"{path}: not the note of a failure; remove it, or predict its participant again")
    return InputFailure(case, reason)


def _warn_of_mixture(ways: Mapping[str, str]) -> None:
    """Say that cases of one table were predicted in different ways, since their counts do not compare."""
    cases: dict[str, list[str]] = {}
    for case, way in ways.items():
        cases.setdefault(way, []).append(case)
    if len(cases) > 1:
        listed = "; ".join(f"{way}: {len(names)} cases, first {names[0]}" for way, names in cases.items())
        log(f"warning: cases of different models or operating points in one table ({listed}); predict all with one")
