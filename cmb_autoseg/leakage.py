"""Whose scans may be learned from: no subject is ever on both sides of a split.

Unlabelled cases stand in no fold, but another session of the same person may. So it is subjects that
are compared, never cases.
"""

from collections.abc import Collection, Sequence

from cmb_autoseg.errors import LeakageError
from cmb_autoseg.raw_dataset import Fold, RawCase, RawDataset
from cmb_autoseg.records import Encoder

__all__ = ["held_out_subjects", "refuse_leaky_encoder", "subject_of", "unlabelled_cases"]

SUBJECTS_NAMED = 5


def subject_of(case: RawCase) -> str:
    """`cohort/subject`: the same number in two cohorts is two people."""
    return f"{case.cohort}/{case.subject}"


def held_out_subjects(raw: RawDataset, folds: Sequence[Fold], fold: int | None) -> frozenset[str]:
    """Subjects that nothing may be learned from.

    Args:
        raw: the dataset.
        folds: its folds.
        fold: the one that is trained; None for what serves all folds.

    Returns:
        Subjects of declared test cases; with a fold also of its validation cases, without one of every
        labelled case, since each of them is judged in some fold.
    """
    judged = {name for part in folds for name in part["val"]} if fold is None else set(folds[fold]["val"])
    return frozenset(
        subject_of(case)
        for case in raw.cases
        if case.split == "test" or case.name in judged or (fold is None and case.labelled)
    )


def unlabelled_cases(raw: RawDataset, folds: Sequence[Fold], fold: int | None) -> tuple[RawCase, ...]:
    """Unlabelled training cases of subjects that are not held out; arguments as in `held_out_subjects`."""
    held_out = held_out_subjects(raw, folds, fold)
    return tuple(case for case in raw.training_cases() if not case.labelled and subject_of(case) not in held_out)


def refuse_leaky_encoder(record: Encoder, fold: int, held_out: Collection[str]) -> None:
    """Refuse an encoder that has seen somebody whom the fold is judged on.

    Args:
        record: of the encoder.
        fold: the one that is trained or evaluated.
        held_out: `cohort/subject` of its validation and test cases.

    Raises:
        LeakageError: names the subjects.
    """
    seen = sorted({*record.subjects} & {*held_out})
    if not seen:
        return
    more = f" and {len(seen) - SUBJECTS_NAMED} more" if len(seen) > SUBJECTS_NAMED else ""
    people = f"{', '.join(seen[:SUBJECTS_NAMED])}{more}, on whom fold {fold} is judged"
    if record.method == "segmentation":
        raise LeakageError(f"model {record.name}: has learned from {people}; begin with one that has not")
    made_for = "unlabelled cases" if record.fold is None else f"fold {record.fold} too"
    raise LeakageError(
        f"encoder {record.name}: has learned from {made_for}, and so from {people}; take one that has not: "
        f"cmb_pretrain with -f {fold} makes it, or without -f one for all folds"
    )
