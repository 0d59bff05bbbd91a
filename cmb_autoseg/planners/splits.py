"""Folds: no subject on both sides, burdens and sequences spread evenly."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from cmb_autoseg.errors import InputError
from cmb_autoseg.raw_dataset import LEGAL_N_FOLDS, N_FOLDS, Fold
from cmb_autoseg.records import CaseFingerprint

__all__ = ["N_FOLDS", "split_folds"]

BURDEN_BINS = (1, 2, 5)
"""A subject's lesions: none, 1, 2-4, 5 or more."""


def split_folds(cases: Sequence[CaseFingerprint], seed: int, n_folds: int = N_FOLDS) -> list[Fold]:
    """Deal subjects to folds, stratum by stratum, so that fold sizes differ by one subject at most.

    A stratum is cohort, set of sequences and lesion burden of a subject.

    Returns:
        nnU-Net's `splits_final.json`: one dict with `train` and `val` case names a fold.

    Raises:
        InputError: fewer labelled subjects than folds, or no lesion at all.
    """
    subjects: dict[tuple[str, str], list[CaseFingerprint]] = defaultdict(list)
    for case in cases:
        if case.labelled:
            subjects[case.cohort, case.subject].append(case)
    if len(subjects) < n_folds:
        raise InputError(
            f"found {len(subjects)} labelled training subjects, {n_folds} folds need at least {n_folds}; "
            f"add labelled subjects to the dataset{_or_fewer(len(subjects), n_folds)}"
        )
    if not any(case.lesions for group in subjects.values() for case in group):
        raise InputError(
            "found no lesion in any labelled case; check labels.cmb.values or the points' columns in the card"
        )
    rng = np.random.default_rng(seed)
    strata: dict[tuple[object, ...], list[tuple[str, str]]] = defaultdict(list)
    for subject in sorted(subjects):
        strata[_stratum(subjects[subject])].append(subject)
    fold_of: dict[tuple[str, str], int] = {}
    for stratum in sorted(strata, key=repr):
        for index in rng.permutation(len(strata[stratum])):
            fold_of[strata[stratum][index]] = len(fold_of) % n_folds
    names = {fold: [c.case for s, f in fold_of.items() if f == fold for c in subjects[s]] for fold in range(n_folds)}
    return [
        {
            "train": sorted(name for other, group in names.items() if other != fold for name in group),
            "val": sorted(names[fold]),
        }
        for fold in range(n_folds)
    ]


def _or_fewer(n_subjects: int, n_folds: int) -> str:
    fewer = n_folds > N_FOLDS and n_subjects in LEGAL_N_FOLDS
    return f", or deal fewer folds (--folds {min(n_subjects, N_FOLDS)})" if fewer else ""


def _stratum(cases: Sequence[CaseFingerprint]) -> tuple[object, ...]:
    burden = sum(len(case.lesions) for case in cases)
    sequences = tuple(sorted({role.value for case in cases for role in case.sequences}))
    return cases[0].cohort, sequences, int(np.searchsorted(BURDEN_BINS, burden, side="right"))
