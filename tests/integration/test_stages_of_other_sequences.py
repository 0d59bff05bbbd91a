"""A second stage of all sequences behind a first stage of one: what the first cannot see is not judged."""

import pytest

from cmb_autoseg.cli import compare, plan_preprocess, train
from cmb_autoseg.files import read_json, read_tsv
from cmb_autoseg.inference.loading import load_ensemble
from cmb_autoseg.records import Role

SECOND = """\
schema: 1
name: behind
description: seconds, for tests
epochs: 1
steps_per_epoch: 2
batch_size: 4
two_stage:
  first: echo
  threshold: 0.01
  random_places: 4
  window_mm: 12
  window_pixels: 16
  slices: 3
  features: [4, 8]
"""


@pytest.fixture(scope="module")
def where(tiny_cohort, write_echo_recipe, tmp_path_factory):
    base = tmp_path_factory.mktemp("stages")
    write_echo_recipe(base, "echo")
    (base / "behind.yaml").write_text(SECOND)
    arguments = ["-d", "501", "--workspace", str(base / "ws"), "-device", "cpu"]
    assert plan_preprocess.main([*arguments, "-c", str(tiny_cohort / "card.yaml")]) == 0
    return base, arguments


@pytest.fixture(scope="module")
def cases(where):
    """Sequences of each labelled case."""
    base, _ = where
    rows = read_tsv(base / "ws" / "raw" / "Dataset501_Elsewhere" / "cases.tsv")
    found = {row["case"]: row["sequences"] for row in rows if row["labelled"] == "1"}
    assert 0 < sum("gre_mag" in sequences for sequences in found.values()) < len(found)
    return found


def test_all_folds_are_trained_and_judged_on_what_both_stages_see(where, cases):
    base, arguments = where
    for name in ("echo", "behind"):
        assert train.main([*arguments, "-r", str(base / f"{name}.yaml"), "-f", "all"]) == 0
    model = base / "ws" / "results" / "Dataset501_Elsewhere" / "CMBTrainer__behind__3d"
    records = [read_json(model / f"fold_{fold}" / "fold.json") for fold in range(5)]
    judged = {name for record in records for name in record["validation_cases"]}
    assert judged == {name for name, sequences in cases.items() if "gre_mag" in sequences}
    assert read_json(model / "crossvalidation" / "metrics.json")["n_cases"] == len(judged)
    ensemble = load_ensemble(model, (0,), "cpu")
    assert not ensemble.sees([Role.SWI])
    assert ensemble.sees([Role.GRE_MAG])


def test_a_comparison_shows_no_view_that_the_first_stage_cannot_see(where, cases):
    base, arguments = where
    recipes = [str(base / f"{name}.yaml") for name in ("behind", "echo")]
    assert compare.main([*arguments, "-r", *recipes, "-o", str(base / "out")]) == 0
    for fold in range(5):
        rows = read_json(base / "out" / "scores" / f"behind-seed0-budget1-fold{fold}.json")["rows"]
        assert rows
        assert all("gre_mag" in row["view"] for row in rows)
        assert {row["view"] for row in rows} >= {"gre_mag"}
