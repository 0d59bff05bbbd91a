"""Nobody is judged by who was learned from: people of the training of a model that predicted."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cmb_autoseg.errors import InputError, LeakageError
from cmb_autoseg.evaluation.inputs.case_table import number_of
from cmb_autoseg.evaluation.inputs.folders import listed
from cmb_autoseg.evaluation.inputs.run_times import run_records
from cmb_autoseg.files import read_json, read_tsv

__all__ = ["refuse_training_subjects"]

SUBJECTS_NAMED = 5
UNCHECKED = "leakage could not be checked"


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
    for run in run_records(predicted):
        model = run.get("model")
        found = _folds(model) if isinstance(model, dict) else {}
        if isinstance(model, dict) and model and not found:
            warnings.append(f"{UNCHECKED}: {where}: its run.json names no folder and folds of a model")
        paths |= found
    for path, fold in paths.items():
        learned = _learned_from(path)
        if isinstance(learned, str):
            warnings.append(
                f"{UNCHECKED}: {where}: {learned}, which says whom fold {fold} has learned from; put the model's "
                "folder back, or make sure that no scored person was in its training"
            )
            continue
        who = f"{where}: fold {fold} of {path.parents[1]}"
        others = _people_of_other_scans(learned, subjects, predicted, path)
        _refuse(learned, {case: subject for case, subject in subjects.items() if case not in others}, who)
        if others:
            warnings.append(
                f"{who} has learned from people called like {listed(sorted({subjects[case] for case in others}))}, but "
                "from other scans; if they are the same people, the figures flatter; cohort and subject by --cases tell"
            )
        namesakes = sorted((learned.cases & subjects.keys()) - others)
        if namesakes:
            warnings.append(
                f"{where}: {listed(namesakes)} are called like training cases of {path.parents[1]}, though the table "
                "gives other cohorts or subjects; make sure that they are other scans"
            )
    return tuple(dict.fromkeys(warnings))


def _people_of_other_scans(
    learned: _Learned, subjects: Mapping[str, str], predicted: Path, record: Path
) -> frozenset[str]:
    """Cases of no known cohort that are called like people of the training, but whose scans are surely none of theirs.

    Numbers such as sub-01 are in every dataset. The digests of the scans tell: those of the training are in the
    workspace that the model lies in, those of a prediction in its own record.
    """
    trained = _training_scans(record, learned.cases)
    if not trained:
        return frozenset()
    folder = predicted if predicted.is_dir() else predicted.parent
    named = (case for case, subject in subjects.items() if "/" not in subject and learned.has_seen(case, subject))
    scans = {case: _predicted_scans(folder / f"{case}.json") for case in named}
    return frozenset(case for case, own in scans.items() if own and not own & trained)


def _training_scans(record: Path, cases: frozenset[str]) -> frozenset[str]:
    """Digests of the scans that a fold has learned from; empty where not all of them are known."""
    model = record.parents[1]
    table = model.parents[2] / "raw" / model.parent.name / "cases.tsv" if len(model.parents) > 2 else None
    if table is None or not table.is_file():
        return frozenset()
    try:
        rows = {row.get("case"): row.get("source_digests") for row in read_tsv(table)}
    except InputError:
        return frozenset()
    known = [rows.get(case) for case in cases]
    return (
        frozenset(digest for digests in known if digests for digest in digests.split(";"))
        if all(known)
        else frozenset()
    )


def _predicted_scans(record: Path) -> frozenset[str]:
    """Digests of the scans that a case was predicted from, by the record that `cmb_predict` leaves; empty without."""
    try:
        return frozenset(str(scan["digest"]) for scan in read_json(record)["inputs"])
    except (InputError, KeyError, TypeError):
        return frozenset()


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
