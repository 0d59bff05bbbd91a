import dataclasses

import numpy as np
import pytest

from cmb_autoseg.errors import InputError
from cmb_autoseg.simulation.anatomy.person import Person
from cmb_autoseg.simulation.contents.calcifications import draw_calcifications
from cmb_autoseg.simulation.contents.draw import draw_contents
from cmb_autoseg.simulation.contents.findings import draw_findings
from cmb_autoseg.simulation.contents.microbleeds import Aetiology, Habits
from cmb_autoseg.simulation.contents.sources import Kind
from cmb_autoseg.simulation.protocols import Protocol

RICH = Habits(
    mean_count=25.0,
    calcified_shares=dict.fromkeys(("pallidum", "choroid plexus", "pineal", "falx", "parenchyma"), 1.0),
    cavernoma_share=1.0,
    siderosis_share=1.0,
    haemorrhage_share=1.0,
)


def as_bytes(contents):
    parts = [repr(contents.microbleeds), repr(contents.mimics)]
    parts += [repr((tube.kind, tube.family, tube.chi_ppm)) for tube in contents.tubes]
    arrays = [array.tobytes() for tube in contents.tubes for array in (tube.points_mm, tube.radius_mm)]
    return "".join(parts).encode() + b"".join(arrays)


@pytest.fixture(scope="module")
def rich(head, whole):
    return draw_contents(np.random.default_rng(3), head, Person(70, "F"), whole, RICH, lesion_free=False)


def test_same_seed_same_bytes_and_another_seed_another_person(head, whole, person, rich):
    again = draw_contents(np.random.default_rng(3), head, person, whole, RICH, lesion_free=False)
    other = draw_contents(np.random.default_rng(5), head, person, whole, RICH, lesion_free=False)

    assert as_bytes(again) == as_bytes(rich)
    assert as_bytes(other) != as_bytes(rich)


def test_a_lesion_free_person_has_the_same_vessels_and_no_microbleed(head, whole, person, rich):
    free = draw_contents(np.random.default_rng(3), head, person, whole, RICH, lesion_free=True)

    assert not free.microbleeds
    assert [tube.points_mm.tobytes() for tube in free.tubes] == [tube.points_mm.tobytes() for tube in rich.tubes]
    assert not any(mimic.kind is Kind.HAEMORRHAGE for mimic in free.mimics)


def test_every_kind_of_mimic_can_be_drawn_with_its_sign(around):
    calcified = draw_calcifications(np.random.default_rng(0), around, Person(70, "F"), [], RICH, 5.0)
    rare = draw_findings(np.random.default_rng(0), around, [], Aetiology.AMYLOID, RICH, 5.0)

    assert {speck.place for speck in calcified} == set(RICH.calcified_shares)
    assert all(speck.chi_ppm < 0 and speck.water == 0.2 for speck in calcified)
    assert [finding.kind for finding in rare] == [Kind.CAVERNOMA, Kind.SIDEROSIS, Kind.HAEMORRHAGE]
    assert all(finding.chi_ppm > 0 and finding.water == 1.0 for finding in rare)
    assert 10 <= len(rare[0].spheres) <= 30


def test_siderosis_lines_a_sulcus(around):
    (patch,) = draw_findings(
        np.random.default_rng(0),
        around,
        [],
        None,
        dataclasses.replace(RICH, cavernoma_share=0.0, haemorrhage_share=0.0),
        5.0,
    )

    centres = np.array([sphere.centre_mm for sphere in patch.spheres])
    near = np.concatenate([centres + step for step in 2.5 * np.eye(3)] + [centres - step for step in 2.5 * np.eye(3)])
    assert (around.nearest(around.fluid, centres) > 0.3).all()
    assert around.nearest(around.grey, near).reshape(6, -1).max(axis=0).mean() > 0.75
    assert np.ptp(centres, axis=0).max() <= 26


def test_mimics_keep_clear_of_microbleeds(rich):
    centres = np.array([lesion.centre_mm for lesion in rich.microbleeds])

    for mimic in rich.mimics:
        middles = [mimic.centre_mm] if mimic.kind is Kind.CALCIFICATION else [s.centre_mm for s in mimic.spheres]
        gaps = np.linalg.norm(np.array(middles)[:, None] - centres[None], axis=2)
        assert gaps.min() >= RICH.apart_mm


def test_pallidal_calcifications_lie_in_the_pallidum(around, person):
    found = [draw_calcifications(np.random.default_rng(seed), around, person, [], RICH, 5.0) for seed in range(5)]
    specks = [mimic for mimics in found for mimic in mimics if mimic.place == "pallidum"]

    assert len(specks) > 5
    for speck in specks:
        assert around.nearest(around.nuclei, np.array([speck.centre_mm]))[0] > 0.5


def test_calcifications_grow_with_age(around, person):
    def count(age):
        old = dataclasses.replace(person, age=age)
        return sum(
            len(draw_calcifications(np.random.default_rng(seed), around, old, [], Habits(), 5.0)) for seed in range(40)
        )

    assert count(90) > 1.3 * count(50)


def test_a_slab_beside_the_brain_is_refused(head, person):
    above = Protocol("above", 3.0, (20.0,), (1.0, 1.0, 2.0), (64, 64, 8), (0.0, -18.0, 160.0), snr=30.0)

    with pytest.raises(InputError, match=r"protocol above: .* holds no brain tissue; move .*centre_mm"):
        draw_contents(np.random.default_rng(0), head, person, above, Habits(), lesion_free=False)
