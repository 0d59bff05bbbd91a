"""Where the schedule decides by figures, they are not those of the cases that judge the fold."""

from pathlib import Path

import pytest

from cmb_autoseg.raw_dataset import RawCase
from cmb_autoseg.trainers.fold_cases import FoldCases
from cmb_autoseg.trainers.recipe import read_recipe
from cmb_autoseg.trainers.set_aside import decides_by_figures, set_aside


def case(subject, n_lesions, session=1):
    return RawCase(f"{subject}_{session}", "A", subject, (), "train", True, None, Path("raw"), n_lesions)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n_bearing", [2, 3, 20, 40])
def test_a_tenth_of_the_subjects_with_lesions_on_both_sides(seed, n_bearing):
    training = [case(f"{i:02d}", int(i < n_bearing) * session, session) for i in range(40) for session in (1, 2)]
    aside = set_aside(training, (seed, 0))
    left = [case for case in training if case not in aside]
    assert not {case.subject for case in aside} & {case.subject for case in left}
    assert any(case.n_lesions for case in aside)
    assert any(case.n_lesions for case in left)
    assert 1 <= len({case.subject for case in aside}) <= 4
    assert aside == set_aside(training, (seed, 0))


def test_one_of_a_few_subjects_is_enough():
    training = [case("a", 2), case("b", 1), case("c", 0)]
    assert len(set_aside(training, (0, 0))) == 1


def test_a_single_subject_with_lesions_is_left_to_learn_from_and_validation_cases_decide_nothing():
    training, validation = (case("a", 2), case("b", 0)), (case("c", 1),)
    cases = FoldCases(training, validation, (), set_aside(training, (0, 0)))
    assert cases.drawn_from == cases.watched == training


def test_those_who_are_set_aside_are_watched_and_not_drawn_from():
    training, validation = tuple(case(name, 1) for name in "abcd"), (case("e", 1),)
    aside = set_aside(training, (0, 0))
    cases = FoldCases(training, validation, (), aside)
    assert cases.watched == aside
    assert {*cases.drawn_from} == {*training} - {*aside}
    assert cases.learned_from == ("A/a", "A/b", "A/c", "A/d"), "the weights were chosen by them"
    assert FoldCases(training, validation).watched == validation


def test_shipped_recipes_whose_figures_decide():
    deciding = [
        name for name in ("slices25d", "unet2d", "ssd512_fe", "two_stage") if decides_by_figures(read_recipe(name))
    ]
    assert deciding == ["slices25d"]
