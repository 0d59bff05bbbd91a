from pathlib import Path

import pytest

from cmb_autoseg.errors import InputError
from cmb_autoseg.raw_dataset import RawCase
from cmb_autoseg.trainers.budget import cases_in_budget, order_of_subjects


def case(cohort, subject, n_lesions, session=1):
    name = f"{cohort}{subject}_{session}"
    return RawCase(name, cohort, subject, (), "train", True, None, Path("raw"), n_lesions)


def cohorts():
    """Cohort A: 12 subjects with lesions, 4 without; cohort B: 4 with, 12 without. Every one has two sessions."""
    return [
        case(cohort, f"{i:02d}", int(i < n_bearing) * session, session)
        for cohort, n_bearing in (("A", 12), ("B", 4))
        for i in range(16)
        for session in (1, 2)
    ]


def subjects(cases):
    return {(case.cohort, case.subject) for case in cases}


@pytest.mark.parametrize("seed", range(5))
def test_smaller_budgets_are_parts_of_larger_ones_with_all_sessions(seed):
    cases = cohorts()
    eighth, quarter, half, whole = (cases_in_budget(cases, share, (seed, 0)) for share in (0.125, 0.25, 0.5, 1.0))
    assert set(eighth) < set(quarter) < set(half) < set(whole) == set(cases)
    assert [len(subjects(part)) for part in (eighth, quarter, half)] == [4, 8, 16]
    for part in (eighth, quarter, half):
        assert len(part) == 2 * len(subjects(part))


@pytest.mark.parametrize(("share", "expected"), [(0.25, (3, 1, 1, 3)), (0.5, (6, 2, 2, 6))])
def test_strata_keep_their_shares(share, expected):
    chosen = subjects(cases_in_budget(cohorts(), share, (3, 1)))
    bearing = {subject for subject in chosen if int(subject[1]) < (12 if subject[0] == "A" else 4)}
    counts = [sum(s[0] == cohort for s in part) for cohort in "AB" for part in (bearing, chosen - bearing)]
    assert tuple(counts) == expected


def test_the_least_budget_is_a_subject_with_lesions():
    cases = [case("A", f"{i:02d}", int(i == 7)) for i in range(20)]
    for seed in range(5):
        assert [case.name for case in cases_in_budget(cases, 0.01, (seed, 0))] == ["A07_1"]


def test_the_choice_hangs_on_the_seed_alone():
    cases = cohorts()
    assert order_of_subjects(cases, (1, 0)) == order_of_subjects(cases[::-1], (1, 0))
    assert order_of_subjects(cases, (1, 0)) != order_of_subjects(cases, (2, 0))


@pytest.mark.parametrize("budget", [0, -0.5, 1.01])
def test_a_budget_that_is_no_share_is_refused(budget):
    with pytest.raises(InputError, match=f"budget: found {budget:g}, legal are shares over 0 and at most 1"):
        cases_in_budget(cohorts(), budget, (0, 0))
