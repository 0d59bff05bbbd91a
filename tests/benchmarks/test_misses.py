"""What the benchmark of missed microbleeds says of places that are worked out by hand."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

STARTER = Path(__file__).parents[2] / "benchmarks" / "starter"
COLUMNS = ("kind", "x_mm", "y_mm", "z_mm", "radius_mm", "n_voxels", "contrast")
ROWS = (
    ("microbleed", "0", "0", "0", "0.5", "4", "0.7"),
    ("microbleed", "30", "0", "0", "0.5", "12", "0.5"),
    ("microbleed", "0", "30", "0", "0.5", "0", "0.1"),
    ("calcification", "0", "0", "30", "1.5", "n/a", "n/a"),
    ("vein", "0", "4", "30", "0.5", "n/a", "n/a"),
)


@pytest.fixture(scope="module")
def script():
    sys.path.insert(0, str(STARTER))
    try:
        spec = importlib.util.spec_from_file_location("benchmark_misses", STARTER / "misses.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(STARTER))
    return module


@pytest.fixture
def things(script):
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in ROWS]
    return script.Things(rows, np.array([[0.0, 0.0, 0.0], [3.0, 0.0, 0.0], [30.0, 0.0, 0.0]]))


@pytest.mark.parametrize(
    ("at_mm", "kind"),
    [
        ((4.9, 0, 0), "marked microbleed"),
        ((5.1, 0, 0), "none of these"),
        ((0, 32.4, 0), "faint microbleed"),
        ((0, 0, 33.4), "calcification"),
        ((0, 3, 30), "vein"),
        ((0, 2, 30), "calcification"),
    ],
)
def test_the_nearest_thing_within_two_millimetres_of_its_surface(things, at_mm, kind):
    assert things.near(np.array(at_mm, float)) == kind


def test_a_marked_microbleed_is_told_by_its_voxels_and_contrast(things):
    assert things.marked_at(np.array([25.0, 0.0, 0.0])) == {"n_voxels": 12, "contrast": 0.5}


def test_counts_by_group_and_place(script):
    rows = [
        {"n_voxels": 2, "contrast": 0.25, "hit": False},
        {"n_voxels": 3, "contrast": 0.45, "hit": True},
        {"n_voxels": 11, "contrast": 0.9, "hit": True},
        {"false": "vein"},
        {"drawn": "vein"},
        {"drawn": "none of these"},
    ]
    by_voxels = ["0 of 1", "1 of 1", "0 of 0", "1 of 1"]
    by_contrast = ["0 of 1", "0 of 0", "1 of 1", "1 of 1"]
    found = {row["microbleeds"]: row["all"] for row in script.sensitivity_rows({"all": rows})}
    assert list(found.values()) == [*by_voxels, *by_contrast]
    told = {row["false positive at"]: row for row in script.place_rows({"all": rows})}
    places = {kind: (row["all"], row["share of random places"]) for kind, row in told.items()}
    assert places["vein"] == (1, "0.500")
    assert places["none of these"] == (0, "0.500")
    assert places["calcification"] == (0, "0.000")
