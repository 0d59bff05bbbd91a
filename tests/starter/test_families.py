"""One simulated person of a family, as the figures that are told need them."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from cmb_autoseg.simulation.contents.sources import Contents, Inclusion, Kind, Region, Sphere, Tube
from cmb_autoseg.simulation.contents.visibility import Mark
from cmb_autoseg.starter import families
from cmb_autoseg.starter.families import cases_of, label_of, simulate_one, things_of

from ..simulation.conftest import TINY, draw_few_vessels, make_phantom_template

OBLIQUE = replace(TINY, tilt_deg=(20.0, 10.0))


@pytest.fixture
def tiny_family(monkeypatch):
    draw_few_vessels(monkeypatch)
    monkeypatch.setitem(families.FAMILIES, "swi_3t", families.Family(("mag",), {"choice": (OBLIQUE,)}))


def simulate(folder, templates=None):
    """Simulate one person with microbleeds, scanned obliquely; the person's case."""
    simulate_one(folder, "swi_3t", "choice", 0, templates or [make_phantom_template()])
    return cases_of(folder)[0]


@pytest.mark.usefixtures("tiny_family")
def test_things_lie_where_the_label_is(tmp_path):
    case = simulate(tmp_path)
    label, things = nib.load(label_of(tmp_path, case)), things_of(tmp_path, case)
    assert {row["kind"] for row in things} >= {Kind.MICROBLEED, Kind.VEIN}
    marked = [row for row in things if row["kind"] == Kind.MICROBLEED and row["n_voxels"] != "0"]
    voxels = np.argwhere(label.get_fdata() > 0)
    assert sum(int(row["n_voxels"]) for row in marked) == len(voxels)
    middles_mm = np.array([[float(row[f"{axis}_mm"]) for axis in "xyz"] for row in marked])
    weights = [int(row["n_voxels"]) for row in marked]
    expected = nib.affines.apply_affine(label.affine, voxels.mean(axis=0))
    assert np.allclose(np.average(middles_mm, axis=0, weights=weights), expected, atol=1e-3)


@pytest.mark.usefixtures("tiny_family")
def test_each_thing_has_its_balls(tmp_path, monkeypatch):
    """A marked and a faint microbleed, a calcification of two spheres, a vein of two points."""
    simulated = families.simulate_person

    def bleed(*centre):
        return Inclusion(Kind.MICROBLEED, (Sphere(centre, 1.5, 3.0),), Region.LOBAR, "anywhere")

    def simulate_person(*arguments, **more):
        spheres = (Sphere((10.0, 0.0, 0.0), 1.0, -1.0), Sphere((12.0, 0.0, 0.0), 0.5, -1.0))
        mimic = Inclusion(Kind.CALCIFICATION, spheres, Region.DEEP, "pallidum")
        vein = Tube(Kind.VEIN, np.array([[0.0, 5.0, 0.0], [0.0, 6.0, 1.0]]), np.array([0.5, 0.4]), 0.3, "deep")
        two = np.array([[20, 20, 9], [22, 20, 9]])
        marks = [Mark(bleed(0, 0, 0), two, two, 0.625, 9.0), Mark(bleed(1, 2, 3), two[:0], two, 0.125, 1.0)]
        contents = Contents([mark.lesion for mark in marks], [mimic], [vein])
        return replace(simulated(*arguments, **more), marks=marks, contents=contents)

    monkeypatch.setattr(families, "simulate_person", simulate_person)
    case = simulate(tmp_path)
    rows = things_of(tmp_path, case)
    told = [(row["thing"], row["kind"], row["radius_mm"], row["n_voxels"], row["contrast"]) for row in rows]
    assert told == [
        ("1", "microbleed", "1.5", "2", "0.625"),
        ("2", "microbleed", "1.5", "0", "0.125"),
        ("3", "calcification", "1", "n/a", "n/a"),
        ("3", "calcification", "0.5", "n/a", "n/a"),
        ("4", "vein", "0.5", "n/a", "n/a"),
        ("4", "vein", "0.4", "n/a", "n/a"),
    ]
    places_mm = np.array([[float(row[f"{axis}_mm"]) for axis in "xyz"] for row in rows])
    turn = np.array(OBLIQUE.to_scanner)
    inside_mm = [[1, 2, 3], [10, 0, 0], [12, 0, 0], [0, 5, 0], [0, 6, 1]]
    assert np.allclose(places_mm[1:], np.array(inside_mm) @ turn.T, atol=1e-3)
    affine = nib.load(label_of(tmp_path, case)).affine
    assert np.allclose(places_mm[0], nib.affines.apply_affine(affine, [21, 20, 9]), atol=1e-3)


@pytest.mark.usefixtures("tiny_family")
def test_a_person_who_is_there_is_not_simulated_again(tmp_path, monkeypatch):
    case = simulate(tmp_path)
    monkeypatch.setattr(families, "simulate_person", None)
    simulate(tmp_path)
    (tmp_path / "things" / f"{case.name}.tsv").unlink()
    with pytest.raises(TypeError):
        simulate(tmp_path)
