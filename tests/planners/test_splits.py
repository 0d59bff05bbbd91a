import pytest

from cmb_autoseg.errors import InputError
from cmb_autoseg.planners import split_folds


def test_no_subject_is_on_both_sides_and_every_case_is_validated_once(make_case):
    cases = [make_case(f"s{i}_{ses}", subject=f"s{i}", diameters=(2.0,) * (i % 3)) for i in range(11) for ses in "ab"]
    folds = split_folds(cases, seed=1)
    validated = [name for fold in folds for name in fold["val"]]
    assert sorted(validated) == sorted(case.case for case in cases)
    for fold in folds:
        assert not {n.split("_")[0] for n in fold["train"]} & {n.split("_")[0] for n in fold["val"]}
        assert sorted(fold["train"] + fold["val"]) == sorted(validated)


def test_burden_and_cohort_are_spread_evenly(make_case):
    cases = [make_case(f"a{i}", cohort="A", diameters=(2.0,)) for i in range(10)]
    cases += [make_case(f"b{i}", cohort="B") for i in range(10)]
    for fold in split_folds(cases, seed=0):
        assert sum(name.startswith("a") for name in fold["val"]) == 2
        assert sum(name.startswith("b") for name in fold["val"]) == 2


def test_the_seed_decides_the_folds(make_case):
    cases = [make_case(f"a{i:02d}", diameters=(2.0,)) for i in range(20)]
    assert split_folds(cases, 0) == split_folds(cases[::-1], 0) != split_folds(cases, 1)


def test_too_few_subjects_and_no_lesion_are_refused(make_case):
    with pytest.raises(InputError, match="found 4 labelled training subjects, 5 folds need at least 5"):
        split_folds([make_case(f"a{i}", diameters=(2.0,)) for i in range(4)], 0)
    with pytest.raises(InputError, match="no lesion in any labelled case"):
        split_folds([make_case(f"a{i}") for i in range(6)], 0)


def test_unlabelled_cases_are_in_no_fold(make_case):
    cases = [make_case(f"a{i}", diameters=(2.0,)) for i in range(5)] + [make_case("u", labelled=False)]
    assert all("u" not in fold["train"] + fold["val"] for fold in split_folds(cases, 0))
