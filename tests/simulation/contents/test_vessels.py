import numpy as np
import pytest

from cmb_autoseg.simulation.contents.arteries import draw_arteries
from cmb_autoseg.simulation.contents.sources import Kind
from cmb_autoseg.simulation.contents.veins import CHI_PPM, draw_veins


@pytest.fixture(scope="module")
def veins(around):
    return draw_veins(np.random.default_rng(1), around)


def length_mm(tube):
    return np.linalg.norm(np.diff(tube.points_mm, axis=0), axis=1).sum()


def test_number_length_and_calibre_of_veins(veins):
    radii = np.concatenate([vein.radius_mm for vein in veins])

    assert 200 <= len(veins) <= 400
    assert 5000 <= sum(map(length_mm, veins)) <= 13000
    assert radii.min() >= 0.1
    assert radii.max() <= 1.6
    assert np.median(radii) < 0.5
    assert {vein.family for vein in veins} == {"deep", "medullary", "cortical", "subcortical", "cerebellar"}


def test_blood_of_one_person_is_alike_and_that_of_two_is_not(around, veins):
    others = draw_veins(np.random.default_rng(2), around)

    for tree in (veins, others):
        chi = np.array([vein.chi_ppm for vein in tree])
        assert CHI_PPM[0] <= chi.min() <= chi.max() <= CHI_PPM[1]
        assert 0 < chi.std() < 0.04
    assert abs(np.mean([v.chi_ppm for v in veins]) - np.mean([v.chi_ppm for v in others])) > 0.02


def test_medullary_veins_are_joined_to_the_deep_ones(veins):
    deep = [vein for vein in veins if vein.family in ("deep", "medullary")]
    points = [vein.points_mm for vein in deep]
    reached = {0}
    for _ in range(12):
        for number in set(range(len(points))) - reached:
            course = points[number]
            ends = [np.linalg.norm(points[other] - course[-1], axis=1).min() for other in reached]
            if min(ends) < 1e-6:
                reached.add(number)

    assert len(reached) == len(deep) > 80


def test_veins_bend_without_kinks(veins):
    turns = []
    for vein in veins:
        step = np.diff(vein.points_mm, axis=0)
        step /= np.maximum(np.linalg.norm(step, axis=1, keepdims=True), 1e-9)
        turns.append(np.degrees(np.arccos(np.clip((step[1:] * step[:-1]).sum(axis=1), -1, 1)))[:-2])
    turns = np.concatenate(turns)

    assert 3 < np.median(turns) < 25
    assert np.mean(turns > 75) < 0.01


def test_cortical_veins_run_in_fluid_and_medullary_ones_in_white_matter(around, veins):
    def share(tissue, family):
        points = np.concatenate([vein.points_mm for vein in veins if vein.family == family])
        return around.nearest(tissue, points).mean()

    assert share(around.fluid, "cortical") > 0.5
    assert share(around.white, "medullary") > 0.6


def test_arteries_carry_no_susceptibility_and_branch_into_sulci(around):
    arteries = draw_arteries(np.random.default_rng(1), around)

    assert {artery.kind for artery in arteries} == {Kind.ARTERY}
    assert {artery.chi_ppm for artery in arteries} == {0.0}
    assert sum(artery.family == "pial" for artery in arteries) > 25
    assert max(artery.radius_mm.max() for artery in arteries) > 1.0
