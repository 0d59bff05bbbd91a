from collections import Counter

import numpy as np
import pytest

from cmb_autoseg.simulation.contents import microbleeds
from cmb_autoseg.simulation.contents.microbleeds import (
    Aetiology,
    Habits,
    cluster,
    draw_aetiology,
    draw_count,
    draw_microbleeds,
)
from cmb_autoseg.simulation.contents.sources import Kind, Region, Tube

MANY = Habits(mean_count=2000.0, most=40)


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_cluster_has_the_volume_moment_and_centre_asked_for(rng, parts):
    spheres = cluster(rng, np.array([3.0, -4.0, 5.0]), 2.0, 1.5, parts)

    volumes = np.array([4 / 3 * np.pi * sphere.radius_mm**3 for sphere in spheres])
    centres = np.array([sphere.centre_mm for sphere in spheres])
    assert len(spheres) == parts
    assert volumes.sum() == pytest.approx(2.0)
    assert volumes @ [sphere.chi_ppm for sphere in spheres] == pytest.approx(3.0)
    np.testing.assert_allclose(volumes @ centres / 2.0, (3.0, -4.0, 5.0), atol=1e-9)


def test_parts_of_a_cluster_touch_but_hardly_overlap(rng):
    for _ in range(50):
        spheres = cluster(rng, np.zeros(3), 1.0, 1.0, 4)
        for number, sphere in enumerate(spheres[1:], start=1):
            reach = [
                np.linalg.norm(np.subtract(sphere.centre_mm, other.centre_mm)) / (sphere.radius_mm + other.radius_mm)
                for other in spheres[:number]
            ]
            assert max(share for share in reach if share <= 1 + 1e-9) >= 0.8 - 1e-9


def test_counts_are_long_tailed_about_the_mean_asked_for(rng):
    counts = np.array([draw_count(rng, 70, Aetiology.MIXED, Habits()) for _ in range(6000)])

    assert counts.min() == 1
    assert np.median(counts) <= 2
    assert 0.01 < np.mean(counts >= 20) < 0.08
    assert counts.max() > 30
    assert counts.mean() == pytest.approx(4.2 * Habits().count_factors[Aetiology.MIXED], rel=0.08)


def test_older_people_have_more(rng):
    young, old = (np.mean([draw_count(rng, age, Aetiology.AMYLOID, Habits()) for _ in range(3000)]) for age in (50, 90))

    assert 1.1 < old / young < 3


def test_aetiologies_occur_as_often_as_asked(rng):
    drawn = Counter(draw_aetiology(rng, Habits()) for _ in range(3000))

    for aetiology, share in Habits().aetiology_shares.items():
        assert drawn[aetiology] / 3000 == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize(
    ("aetiology", "regions"),
    [
        (Aetiology.AMYLOID, {Region.LOBAR}),
        (Aetiology.HYPERTENSIVE, {Region.DEEP, Region.INFRATENTORIAL}),
        (Aetiology.MIXED, set(Region)),
    ],
)
def test_regions_follow_the_aetiology(around, person, aetiology, regions):
    lesions = [
        lesion
        for seed in range(4)
        for lesion in draw_microbleeds(np.random.default_rng(seed), around, person, aetiology, [], MANY, 2.0)
    ]

    assert {lesion.region for lesion in lesions} == regions
    assert all(around.region_at(np.array(lesion.centre_mm)) is lesion.region for lesion in lesions)


def test_amyloid_microbleeds_lie_more_often_in_the_back(around, person, rng):
    front, back = [], []
    for seed in range(6):
        for aetiology, found in ((Aetiology.AMYLOID, back), (Aetiology.MIXED, front)):
            lesions = draw_microbleeds(np.random.default_rng(seed), around, person, aetiology, [], MANY, 2.0)
            found += [lesion.centre_mm[1] for lesion in lesions if lesion.region is Region.LOBAR]

    assert np.mean(back) < np.mean(front) - 10


def test_microbleeds_lie_in_tissue_in_view_and_apart(around, person, rng, monkeypatch):
    monkeypatch.setattr(microbleeds, "draw_count", lambda *_: 30)
    habits = Habits(touching_share=0.0)

    lesions = draw_microbleeds(rng, around, person, Aetiology.MIXED, [], habits, slice_mm=2.0)

    centres = np.array([lesion.centre_mm for lesion in lesions])
    gaps = np.linalg.norm(centres[:, None] - centres[None], axis=2) + 99 * np.eye(len(centres))
    assert len(lesions) == 30
    assert gaps.min() >= habits.apart_mm + 2.0
    assert around.nearest(around.grey + around.white, centres).min() > 0.75
    assert np.all((centres >= around.view_mm[0]) & (centres <= around.view_mm[1]))


def test_the_share_beside_a_vein_lies_within_two_millimetres_of_its_wall(around, person, rng, monkeypatch):
    line = np.stack([np.full(60, 40.0), np.linspace(-60, 30, 60), np.full(60, 20.0)], axis=1)
    vein = Tube(Kind.VEIN, line, np.full(60, 0.4), 0.3, "medullary")
    monkeypatch.setattr(microbleeds, "draw_count", lambda *_: 20)
    habits = Habits(beside_vein_share=1.0)

    lesions = draw_microbleeds(rng, around, person, Aetiology.AMYLOID, [vein], habits, slice_mm=2.0)

    beside = [lesion for lesion in lesions if lesion.place == "beside a vein"]
    gaps = [np.linalg.norm(line - lesion.centre_mm, axis=1).min() - 0.4 for lesion in beside]
    assert beside
    assert max(gaps) < 2.1
    assert all(gap > lesion.radius_mm - 1e-6 for gap, lesion in zip(gaps, beside, strict=True))
