"""What is stored of a cell comes back; what is damaged is refused."""

import numpy as np
import pytest

from cmb_autoseg.comparison.case_scores import (
    ScoreRow,
    TrainingFacts,
    read_scores,
    read_views,
    score_view,
    write_scores,
)
from cmb_autoseg.comparison.cells import Cell
from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.metrics.voxel_histogram import wins_of_pairs
from cmb_autoseg.files import read_json, write_json
from cmb_autoseg.geometry import Volume
from cmb_autoseg.inference.operating_points import SWEEP_THRESHOLDS, ScoredCase

FACTS = TrainingFacts(
    steps=1,
    n_parameters=2,
    n_training_cases=3,
    n_training_subjects=3,
    n_unlabelled_cases=0,
    encoder=None,
    checkpoint="c",
)


@pytest.fixture
def case():
    """Two lesions: one found at up to 0.6, one missed; a false one of 0.3; the brain is the inner part."""
    reference, probability = np.zeros((12, 12, 12), np.uint8), np.zeros((12, 12, 12), np.float32)
    reference[2:4, 2:4, 2:4] = 1
    reference[8:10, 8:10, 8:10] = 1
    probability[2:4, 2:4, 2:4] = 0.6
    probability[8:10, 2, 2] = 0.3
    probability[0, 0, 0] = 0.9
    brain = np.zeros(reference.shape, bool)
    brain[1:-1, 1:-1, 1:-1] = True
    probability[0, 0, 0] = 0
    return ScoredCase("p1", Volume(probability, np.eye(4)), Volume(reference, np.eye(4)), brain)


def view_of(case, with_histogram=True):
    row = ScoreRow(case="p1", subject="c/p1", sequences="swi", view="swi")
    return score_view(row, case, with_histogram)


def test_counts_by_hand(case):
    view = view_of(case)
    low, high = (SWEEP_THRESHOLDS.index(threshold) for threshold in (0.2, 0.5))
    assert (view.counts.hits[low], view.counts.false_positives[low]) == (1, 1)
    assert (view.counts.hits[high], view.counts.false_positives[high], view.counts.n_lesions) == (1, 0, 2)
    assert (view.counts.n_voxels, view.counts.n_other_voxels) == (16, 1000 - 16)
    # 8 of 16 voxels win over all others; the other 8 tie with all but the 2 false ones.
    assert wins_of_pairs([view.histogram]).tolist() == [[8 * 984 + 8 * 982 / 2]]


def test_scores_come_back(case, tmp_path):
    cell = Cell(recipe="a", seed=1, budget=0.25, fold=0)
    views = [view_of(case), view_of(case, with_histogram=False), view_of(case)]
    path = tmp_path / "scores" / f"{cell.name}.json"
    written = write_scores(path, cell, {"recipe": "x"}, FACTS, views)
    found = read_views(path)
    assert read_scores(path) == written
    for before, after in zip(views, found, strict=True):
        for name in ("hits", "matched_predictions", "false_positives", "voxels_found", "voxels_false"):
            assert np.array_equal(getattr(before.counts, name), getattr(after.counts, name))
        assert (after.counts.n_lesions, after.counts.n_voxels, after.counts.n_other_voxels) == (2, 16, 984)
    assert found[1].histogram is None
    assert np.array_equal(found[2].histogram.other, views[2].histogram.other)
    assert np.array_equal(found[2].histogram.lesion, views[2].histogram.lesion)
    before = path.with_suffix(".npz").read_bytes()
    write_scores(path, cell, {"recipe": "x"}, FACTS, views)
    assert path.with_suffix(".npz").read_bytes() == before


def test_scores_of_an_earlier_version_are_refused_with_the_cure(case, tmp_path):
    path = tmp_path / "scores" / "a-seed1-budget0.25-fold0.json"
    write_scores(path, Cell(recipe="a", seed=1, budget=0.25, fold=0), {}, FACTS, [view_of(case)])
    content = read_json(path)
    write_json(path, {key: value for key, value in content.items() if key != "counted"})
    with pytest.raises(InputError, match=r"counted otherwise .* delete .*scores and repeat .*: trained cells are kept"):
        read_scores(path)


@pytest.mark.parametrize("harm", ["arrays", "no arrays", "json", "other arrays"])
def test_damage_is_refused_with_the_cure(case, tmp_path, harm):
    path = tmp_path / "a-seed1-budget0.25-fold0.json"
    cell = Cell(recipe="a", seed=1, budget=0.25, fold=0)
    write_scores(path, cell, {}, FACTS, [view_of(case)])
    beside = path.with_suffix(".npz")
    if harm == "arrays":
        beside.write_bytes(beside.read_bytes()[:-20])
    elif harm == "no arrays":
        beside.unlink()
    elif harm == "json":
        path.write_text(path.read_text()[:-20])
    else:
        write_scores(tmp_path / "b.json", cell, {}, FACTS, [view_of(case), view_of(case)])
        (tmp_path / "b.npz").replace(beside)
    with pytest.raises(InputError, match=r"delete a-seed1-budget0\.25-fold0\.json and a-seed1-budget0\.25-fold0\.npz"):
        read_scores(path)
