"""Nobody is judged by who was learned from: people of the training of a model that predicted."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

from cmb_autoseg.errors import InputError, LeakageError
from cmb_autoseg.evaluation.inputs.case_table import number_of
from cmb_autoseg.evaluation.inputs.folders import listed
from cmb_autoseg.evaluation.inputs.run_times import run_records
from cmb_autoseg.files import read_json, read_tsv
from cmb_autoseg.workspace import STARTER_DATASET

__all__ = ["refuse_training_subjects"]

SUBJECTS_NAMED = 5
UNCHECKED = "leakage could not be checked"
COUNTED = re.compile(r" \((\d+) (files|pictures)\)$")
"""Behind a source of many files in cases.tsv."""


@dataclass(frozen=True)
class _Learned:
    """Whom a fold has learned from, by its record."""

    subjects: frozenset[str]
    """`cohort/subject`."""
    cases: frozenset[str]

    @cached_property
    def numbers(self) -> frozenset[str]:
        return frozenset(map(number_of, self.subjects))

    def has_seen(self, case: str, subject: str) -> bool:
        """A cohort tells people of one number apart; without it, whoever has the number or the name is the same."""
        if "/" in subject or subject in self.subjects:
            return subject in self.subjects
        return case in self.cases or number_of(subject) in self.numbers


def refuse_training_subjects(predicted: Path, subjects: Mapping[str, str], flag: str = "-p") -> tuple[str, ...]:
    """Refuse predictions of people that their own model has learned from.

    Only what the records know can be refused: the run's record in the folder of the predictions names the model and
    its folds, whose `fold.json` lists subjects and cases. Predictions without such a record are another tool's.

    Args:
        predicted: folder of the predictions, or a list in it.
        subjects: of the scored cases, by case: `cohort/subject`, or the subject alone where no cohort is known.
        flag: by which the folder was given: predictions of validation must not be of the training either.

    Returns:
        Warnings: of folds whose record is gone or says nothing, and of cases that are called like one of the training.

    Raises:
        LeakageError: names the subjects, the model and the fold.
    """
    where = f"{flag} {predicted}"
    warnings: list[str] = []
    paths: dict[Path, int] = {}
    of_models: dict[Path, _Namesakes] = {}
    for run in run_records(predicted):
        model = run.get("model")
        found = _folds(model) if isinstance(model, dict) else {}
        if isinstance(model, dict) and model and not found:
            warnings.append(f"{UNCHECKED}: {where}: its run.json names no folder and folds of a model")
        paths |= {path: fold for path, fold in found.items() if not _is_of_nobody(path.parents[1])}
    for path, fold in paths.items():
        learned = _learned_from(path)
        if isinstance(learned, str):
            warnings.append(
                f"{UNCHECKED}: {where}: {learned}, which says whom fold {fold} has learned from; put the model's "
                "folder back, or make sure that no scored person was in its training"
            )
            continue
        who = f"{where}: fold {fold} of {path.parents[1]}"
        found_in = of_models.setdefault(path.parents[1], _Namesakes())
        others = _people_of_other_scans(learned, subjects, predicted, path)
        _refuse(learned, {case: subject for case, subject in subjects.items() if case not in others}, who)
        found_in.of_other_scans |= {subjects[case] for case in others}
        found_in.of_other_cohorts |= (learned.cases & subjects.keys()) - others
    for model, found_in in of_models.items():
        if found_in.of_other_scans:
            warnings.append(
                f"{where}: {model} has learned from people called like {listed(sorted(found_in.of_other_scans))}, but "
                "from other scans; if they are the same people, the figures flatter; cohort and subject by --cases tell"
            )
        if found_in.of_other_cohorts:
            warnings.append(
                f"{where}: {listed(sorted(found_in.of_other_cohorts))} are called like training cases of {model}, "
                "though the table gives other cohorts or subjects; make sure that they are other scans"
            )
    return tuple(dict.fromkeys(warnings))


def _is_of_nobody(model: Path) -> bool:
    """Whether it is the model of the package, or one made like it."""
    try:
        plans = read_json(model / "plans.json")
    except InputError:
        return False
    return isinstance(plans, dict) and plans.get("dataset_name") == STARTER_DATASET


@dataclass
class _Namesakes:
    """Whom no fold of a model has learned from, though they are called like somebody whom one has."""

    of_other_scans: set[str] = field(default_factory=set)
    """Subjects."""
    of_other_cohorts: set[str] = field(default_factory=set)
    """Cases."""


@dataclass(frozen=True)
class _Scans:
    """Files that something was learned or predicted from."""

    digests: frozenset[str]
    kinds: frozenset[str]
    """`file`, `files` or `pictures`: digests of different kinds never agree, whether or not the scans are the same."""


def _people_of_other_scans(
    learned: _Learned, subjects: Mapping[str, str], predicted: Path, record: Path
) -> frozenset[str]:
    """Cases of no known cohort that are called like people of the training, but whose scans are surely none of theirs.

    Numbers such as sub-01 are in every dataset. The digests of the scans tell: those of the training are in the
    workspace that the model lies in, those of a prediction in its own record.
    """
    trained = _training_scans(record, learned.cases)
    if trained is None:
        return frozenset()
    folder = predicted if predicted.is_dir() else predicted.parent
    named = (case for case, subject in subjects.items() if "/" not in subject and learned.has_seen(case, subject))
    scans = {case: _predicted_scans(folder / f"{case}.json") for case in named}
    return frozenset(
        case
        for case, own in scans.items()
        if own is not None and own.kinds <= trained.kinds and not own.digests & trained.digests
    )


def _training_scans(record: Path, cases: frozenset[str]) -> _Scans | None:
    """What a fold has learned from, with the kinds that every case has; None where not all of it is known."""
    model = record.parents[1]
    table = model.parents[2] / "raw" / model.parent.name / "cases.tsv" if len(model.parents) > 2 else None
    if table is None or not table.is_file():
        return None
    try:
        rows = {row.get("case"): row for row in read_tsv(table)}
    except InputError:
        return None
    known = [_sources(rows.get(case, {})) for case in cases]
    if not known or not all(known):
        return None
    digests = frozenset(digest for sources in known for digest, _ in sources)
    return _Scans(digests, frozenset.intersection(*map(_kinds, known)))


def _sources(row: Mapping[str, str]) -> list[tuple[str, str]]:
    """Digest and kind of each source of a row of cases.tsv."""
    digests = [digest for digest in row.get("source_digests", "").split(";") if digest]
    names = row.get("source_files", "").split(";")
    return [(digest, _kind(name)) for digest, name in zip_longest(digests, names[: len(digests)], fillvalue="")]


def _kinds(sources: Sequence[tuple[str, str]]) -> frozenset[str]:
    """Of the scans of a row; a file beside series is taken for its labels, which are nothing to predict from."""
    kinds = frozenset(kind for _, kind in sources)
    return kinds - {"file"} or kinds


def _kind(name: str) -> str:
    counted = COUNTED.search(name)
    return "file" if counted is None or counted[1] == "1" else counted[2]


def _predicted_scans(record: Path) -> _Scans | None:
    """What a case was predicted from, by the record that `cmb_predict` leaves; None without.

    A record of an earlier version does not say of how many files a series is.
    """
    try:
        inputs = read_json(record)["inputs"]
        digests = frozenset(str(scan["digest"]) for scan in inputs)
        kinds = frozenset(_kind_of_input(scan) for scan in inputs)
    except (InputError, KeyError, TypeError, AttributeError):
        return None
    return _Scans(digests, kinds) if digests else None


def _kind_of_input(scan: Mapping[str, Any]) -> str:
    kind = scan.get("kind", "volume")
    if "n_files" in scan:
        return "pictures" if kind == "pictures" else "files"
    return "file" if kind == "volume" else f"{kind} of an earlier version"


def _refuse(learned: _Learned, subjects: Mapping[str, str], who: str) -> None:
    seen = {case: subject for case, subject in subjects.items() if learned.has_seen(case, subject)}
    if not seen:
        return
    named = sorted({*seen.values()})
    more = f" and {len(named) - SUBJECTS_NAMED} more" if len(named) > SUBJECTS_NAMED else ""
    by_name = any(subject not in learned.subjects for subject in seen.values())
    told = "; if these are other people of the same names, give cohort and subject with --cases" if by_name else ""
    raise LeakageError(
        f"{who} predicted, which has learned from {', '.join(named[:SUBJECTS_NAMED])}{more}; score subjects that it "
        f"has not seen, or use the out-of-fold predictions of cmb_finalize{told}"
    )


def _learned_from(path: Path) -> _Learned | str:
    """Whom a fold's record names, also that of another version; or why it names nobody."""
    if not path.is_file():
        return f"{path} is gone"
    try:
        record = read_json(path)
    except InputError:
        return f"{path} is not readable"
    learned = _Learned(
        _names(record, "training_subjects"), _names(record, "training_cases") | _names(record, "unlabelled_cases")
    )
    return learned if learned.subjects or learned.cases else f"{path} lists neither subjects nor cases"


def _names(record: Any, key: str) -> frozenset[str]:
    names = record.get(key) if isinstance(record, dict) else None
    return frozenset(map(str, names)) if isinstance(names, list) else frozenset()


def _folds(model: Mapping[str, Any]) -> dict[Path, int]:
    """Records of the folds that predicted, whether or not they are still there."""
    folder, folds = model.get("folder"), model.get("folds")
    if not isinstance(folder, str) or not isinstance(folds, list):
        return {}
    return {Path(folder) / f"fold_{fold}" / "fold.json": fold for fold in folds}
