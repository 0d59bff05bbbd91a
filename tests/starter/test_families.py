"""One simulated person of a family, as the figures that are told need them."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from cmb_autoseg.simulation.contents.sources import Kind
from cmb_autoseg.starter import families
from cmb_autoseg.starter.families import cases_of, label_of, simulate_one, things_of

from ..simulation.conftest import TINY, draw_few_vessels, make_phantom_template

OBLIQUE = replace(TINY, tilt_deg=(20.0, 10.0))


@pytest.fixture
def person(tmp_path, monkeypatch):
    """A folder with one person, scanned obliquely, and the person's case."""
    draw_few_vessels(monkeypatch)
    monkeypatch.setitem(families.FAMILIES, "swi_3t", families.Family(("mag",), {"choice": (OBLIQUE,)}))
    simulate_one(tmp_path, "swi_3t", "choice", 0, [make_phantom_template()])
    return tmp_path, cases_of(tmp_path)[0]


def read(path):
    return nib.load(path)


def test_things_lie_where_the_label_is(person):
    folder, case = person
    label, things = read(label_of(folder, case)), things_of(folder, case)
    assert {row["kind"] for row in things} >= {Kind.MICROBLEED, Kind.VEIN}
    marked = [row for row in things if row["kind"] == Kind.MICROBLEED and row["n_voxels"] != "0"]
    voxels = np.argwhere(label.get_fdata() > 0)
    assert sum(int(row["n_voxels"]) for row in marked) == len(voxels)
    middles_mm = np.array([[float(row[f"{axis}_mm"]) for axis in "xyz"] for row in marked])
    weights = [int(row["n_voxels"]) for row in marked]
    expected = nib.affines.apply_affine(label.affine, voxels.mean(axis=0))
    assert np.allclose(np.average(middles_mm, axis=0, weights=weights), expected, atol=1e-3)


def test_a_person_who_is_there_is_not_simulated_again(person, monkeypatch):
    folder, _ = person
    monkeypatch.setattr(families, "simulate_person", None)
    simulate_one(folder, "swi_3t", "choice", 0, [])
