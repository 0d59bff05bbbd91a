import numpy as np

from cmb_autoseg.simulation.anatomy.person import draw_person


def people(count, **options):
    return [draw_person(np.random.default_rng(seed), **options) for seed in range(count)]


def test_same_generator_state_same_person():
    one, again = (draw_person(np.random.default_rng(5)) for _ in range(2))

    assert one.iron == again.iron
    assert np.array_equal(one.warp_mm, again.warp_mm)


def test_age_widens_sulci_and_ventricles_and_fills_the_striatum_with_iron():
    young, old = people(60, age_mean=50.0, age_sd=2.0), people(60, age_mean=85.0, age_sd=2.0)

    def mean(group, value):
        return np.mean([value(person) for person in group])

    assert mean(old, lambda p: p.atrophy) > mean(young, lambda p: p.atrophy) + 0.5
    assert mean(old, lambda p: p.ventricle_pull_mm) > mean(young, lambda p: p.ventricle_pull_mm) + 1.5
    assert mean(old, lambda p: p.iron["putamen"]) > mean(young, lambda p: p.iron["putamen"]) + 0.15
    assert abs(mean(old, lambda p: p.iron["pallidum"]) - mean(young, lambda p: p.iron["pallidum"])) < 0.1


def test_demographics_are_those_asked_for():
    group = people(80, age_mean=40.0, age_sd=5.0, age_limits=(30, 50), share_female=0.0)

    assert {person.sex for person in group} == {"M"}
    assert 30 <= min(person.age for person in group) <= max(person.age for person in group) <= 50
