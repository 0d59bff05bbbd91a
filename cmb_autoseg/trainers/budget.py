"""Fewer labels on purpose: how good a model gets with a part of the labelled subjects."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from cmb_autoseg.errors import InputError
from cmb_autoseg.raw_dataset import RawCase

__all__ = ["cases_in_budget", "order_of_subjects"]

Subject = tuple[str, str]
"""Cohort and subject."""


def cases_in_budget(cases: Sequence[RawCase], budget: float, seed: Sequence[int]) -> tuple[RawCase, ...]:
    """The cases of a share of the labelled subjects, rounded, and never fewer than one subject.

    Args:
        cases: labelled training cases of one fold.
        budget: share of subjects, over 0 and at most 1.
        seed: of the choice; with the same seed a smaller budget is a part of a larger one.

    Raises:
        InputError: the budget is no such share.
    """
    if not 0 < budget <= 1:
        raise InputError(f"budget: found {budget:g}, legal are shares over 0 and at most 1; give 0.25 for a quarter")
    order = order_of_subjects(cases, seed)
    chosen = set(order[: max(1, int(budget * len(order) + 0.5))])
    return tuple(case for case in cases if (case.cohort, case.subject) in chosen)


def order_of_subjects(cases: Sequence[RawCase], seed: Sequence[int]) -> list[Subject]:
    """Subjects in an order of which every beginning holds the strata in nearly their shares.

    A stratum is a cohort's subjects with lesions, or those without. Subject i of n in its stratum's random
    order stands at (i + 1/2) / n of the whole. The first subject of all has lesions where there is one.
    """
    strata: dict[tuple[str, bool], list[Subject]] = defaultdict(list)
    bearing = {(case.cohort, case.subject) for case in cases if case.n_lesions}
    for subject in sorted({(case.cohort, case.subject) for case in cases}):
        strata[subject[0], subject in bearing].append(subject)
    rng = np.random.default_rng(tuple(seed))
    places: dict[Subject, tuple[float, int]] = {}
    for number, stratum in enumerate(sorted(strata)):
        subjects = strata[stratum]
        for place, index in enumerate(rng.permutation(len(subjects))):
            places[subjects[index]] = ((place + 0.5) / len(subjects), number)
    order = sorted(places, key=lambda subject: places[subject])
    first = next((subject for subject in order if subject in bearing), None)
    return order if first is None else [first, *(subject for subject in order if subject != first)]
