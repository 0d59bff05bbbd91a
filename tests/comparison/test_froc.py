"""Curves of a comparison from candidates: the numbers of `cmb_evaluate`, also where networks are very sure."""

from dataclasses import replace

import numpy as np
import pytest

from cmb_autoseg.comparison import case_candidates
from cmb_autoseg.comparison.case_candidates import CaseCandidates
from cmb_autoseg.comparison.case_scores import (
    ScoreRow,
    TrainingFacts,
    read_scores,
    read_views,
    score_view,
    write_scores,
)
from cmb_autoseg.comparison.cells import Cell, Comparison
from cmb_autoseg.comparison.froc import froc_curve
from cmb_autoseg.comparison.judging import Group, Judge
from cmb_autoseg.comparison.tables import all_tables
from cmb_autoseg.evaluation.evaluate import CaseSource, evaluate_cases
from cmb_autoseg.evaluation.matching.candidates import surest_from
from cmb_autoseg.evaluation.matching.protocols import PROTOCOLS
from cmb_autoseg.evaluation.metrics.curves import FROC_GRID
from cmb_autoseg.evaluation.metrics.lesion import FROC_POINTS, lesion_statistics
from cmb_autoseg.evaluation.scoring import ScoringSettings
from cmb_autoseg.files import file_digest, read_json, write_json
from cmb_autoseg.geometry import Volume
from cmb_autoseg.inference.operating_points import ScoredCase

FACTS = TrainingFacts(
    steps=1,
    n_parameters=2,
    n_training_cases=3,
    n_training_subjects=3,
    n_unlabelled_cases=0,
    encoder=None,
    checkpoint="c",
)
SIDE = 24


def case_of(name, peaks, lesions):
    """A map of single voxels {place: probability} and a mask of single voxels."""
    probability, reference = np.zeros((SIDE,) * 3, np.float32), np.zeros((SIDE,) * 3, np.uint8)
    for place, value in peaks.items():
        probability[place] = value
    for place in lesions:
        reference[place] = 1
    brain = np.ones(reference.shape, bool)
    return ScoredCase(name, Volume(probability, np.eye(4)), Volume(reference, np.eye(4)), brain)


@pytest.fixture(scope="module")
def cohort():
    """Ten people; most probabilities lie above 0.99, of right and of false candidates alike; two have no lesion."""
    rng = np.random.default_rng(1)
    places = [(i, j, k) for i in range(1, SIDE, 8) for j in range(1, SIDE, 8) for k in range(1, SIDE, 8)]
    cases = []
    for number in range(10):
        drawn = [places[n] for n in rng.permutation(len(places))]
        lesions = drawn[: 0 if number < 2 else rng.integers(1, 6)]
        found = lesions[: len(lesions) - number % 3]
        false = drawn[len(lesions) :][: rng.integers(1, 9)]
        doubts = [10 ** rng.uniform(-6, -1, len(found)), 10 ** rng.uniform(-4.5, -0.5, len(false))]
        sure = dict(zip((*found, *false), 1 - np.concatenate(doubts), strict=True))
        further = {(i, j + 3, k): 0.97 for i, j, k in found[:1]}
        cases.append(case_of(f"p{number}", {**sure, **further}, lesions))
    return cases


def view_of(case, with_candidates=True):
    row = ScoreRow(case=case.name, subject=f"c/{case.name}", sequences="swi", view="swi")
    return score_view(row, case, with_histogram=True, with_candidates=with_candidates)


def curve_of(views):
    cell = Cell(recipe="plain", seed=0, budget=1, fold=0)
    return froc_curve(Judge([cell], {}, {cell.name: views}.__getitem__, 0, 200), Group("plain", 1.0))


def test_the_curve_is_that_of_cmb_evaluate(cohort):
    def loaded(case):
        return lambda: (case.probability, case.reference, case.probability)

    sources = [CaseSource.of_volumes(case.name, case.name, loaded(case)) for case in cohort]
    cases = evaluate_cases(sources, ScoringSettings()).cases
    expected = {rate: lesion_statistics(cases, "valdo")[f"sensitivity_at_fp_{rate:g}"] for rate in FROC_POINTS}

    curve = curve_of([view_of(case) for case in cohort])
    found = {rate: figure.value for rate, figure in curve.at_points().items()}
    assert found == pytest.approx({rate: statistic.value() for rate, statistic in expected.items()})
    assert 0 < found[0.125] < found[8] < 1
    assert curve.score().value == pytest.approx(lesion_statistics(cases, "valdo")["froc_score"].value())
    assert not curve.is_swept


def test_draws_are_curves_of_the_drawn_people(cohort):
    views = [view_of(case) for case in cohort]
    curve = curve_of(views)
    cell = Cell(recipe="plain", seed=0, budget=1, fold=0)
    weights = Judge([cell], {}, {cell.name: views}.__getitem__, 0, 200).weights(tuple(v.row.subject for v in views))
    for draw in (0, 17):
        again = [
            replace(view, row=view.row.model_copy(update={"case": f"{view.row.case}-{copy}"}))
            for view, n_copies in zip(views, weights[draw].astype(int), strict=True)
            for copy in range(n_copies)
        ]
        assert curve.draws[draw] == pytest.approx(curve_of(again).mean)


def test_sure_false_positives_do_not_make_it_0(cohort):
    """More than one false positive a scan above 0.99: the sweep knows nothing below that rate, candidates do."""
    ranked = curve_of([view_of(case) for case in cohort])
    swept = curve_of([view_of(case, with_candidates=False) for case in cohort])
    assert swept.is_swept
    assert np.isnan(swept.mean[0])
    assert ranked.mean[0] > 0
    figure = swept.at_points()[0.125]
    assert (figure.value, figure.ci) == (None, None)
    assert "no threshold of the sweep" in figure.why
    assert swept.score().value is None
    assert swept.at_points()[8.0].value > 0
    assert np.array_equal(np.isnan(swept.band), np.stack([np.isnan(swept.mean)] * 2))


def test_nothing_predicted_is_0_and_not_undefined():
    views = [view_of(case_of(name, {}, [(3, 3, 3)])) for name in "abc"]
    curve = curve_of(views)
    assert not curve.mean.any()
    assert len(curve.mean) == len(FROC_GRID)


def test_a_lesion_has_one_candidate_and_the_surest():
    case = case_of("a", {(5, 5, 5): 0.4, (5, 5, 8): 0.8, (20, 5, 5): 0.995}, [(5, 5, 5), (15, 15, 15)])
    found = CaseCandidates.of(case.probability, case.reference, PROTOCOLS["valdo"])
    of = dict(zip(found.confidence.tolist(), found.lesion.tolist(), strict=True))
    assert of == {np.float32(0.4): -1, np.float32(0.8): 0, np.float32(0.995): -1}


def test_a_map_that_is_high_everywhere_is_bounded(monkeypatch):
    noise = np.random.default_rng(0).random((SIDE,) * 3).astype(np.float32)
    floor = surest_from(noise, 100)
    assert np.count_nonzero(noise >= floor) == 100
    assert surest_from(np.where(noise >= floor, noise, 0), 100) == 0.1
    assert surest_from(np.ones((4, 4, 4)), 10) == 1.0

    reference = np.zeros(noise.shape, np.uint8)
    reference[4, 4, 4] = 1
    monkeypatch.setattr(case_candidates, "MOST_VOXELS", 100)
    found = CaseCandidates.of(Volume(noise, np.eye(4)), Volume(reference, np.eye(4)), PROTOCOLS["valdo"])
    assert len(found.lesion) > 50, "few of the surest voxels touch; of all that are above 0.1 most do"
    assert found.confidence.min() >= floor
    assert found.confidence.max() == noise.max()


@pytest.fixture
def kept(cohort, tmp_path):
    """Scores of two recipes as files; `plain` as an earlier version wrote them."""
    paths = {}
    for recipe in ("plain", "better"):
        cell = Cell(recipe=recipe, seed=0, budget=1.0, fold=0)
        paths[cell.name] = tmp_path / f"{cell.name}.json"
        views = [view_of(case, with_candidates=case.name != "p3" or recipe == "plain") for case in cohort]
        write_scores(paths[cell.name], cell, {}, FACTS, views)
        if recipe == "plain":
            forget_candidates(paths[cell.name])
    return paths


def forget_candidates(path):
    beside = path.with_suffix(".npz")
    with np.load(beside) as stored:
        arrays = {name: stored[name] for name in stored.files if not name.startswith("candidate")}
    np.savez_compressed(beside, **arrays)
    content = {key: value for key, value in read_json(path).items() if key != "candidates"}
    write_json(path, {**content, "arrays": file_digest(beside)})


def test_candidates_come_back(cohort, kept):
    views = read_views(kept["better-seed0-budget1-fold0"])
    for case, view in zip(cohort, views, strict=True):
        if case.name == "p3":
            assert view.candidates is None
        else:
            expected = view_of(case).candidates
            assert np.array_equal(view.candidates.confidence, expected.confidence)
            assert np.array_equal(view.candidates.lesion, expected.lesion)


def test_candidates_of_another_version_are_not_ranked(kept):
    path = kept["better-seed0-budget1-fold0"]
    write_json(path, {**read_json(path), "candidates": "otherwise"})
    assert {view.candidates for view in read_views(path)} == {None}


def test_scores_of_an_earlier_version_stay_legible(cohort, kept):
    views = read_views(kept["plain-seed0-budget1-fold0"])
    assert {view.candidates for view in views} == {None}
    cells = tuple(Cell(recipe=recipe, seed=0, budget=1.0, fold=0) for recipe in ("plain", "better"))
    comparison = Comparison(
        dataset="Dataset501_Made",
        plan="sha256:1",
        channels=("swi",),
        reference="plain",
        recipes={"plain": "sha256:2", "better": "sha256:3"},
        steps={"plain": 1, "better": 1},
        cells=cells,
    )
    full = [view_of(case) for case in cohort]
    scores = {name: read_scores(path) for name, path in kept.items()}
    judge = Judge(cells, scores, lambda name: views if name.startswith("plain") else full, 0, 100)
    tables = {table.name: table for table in all_tables(judge, comparison)}
    plain, better = tables["froc"].rows
    assert plain["froc_0.125"].value is None
    assert better["froc_0.125"].value > 0
    (note,) = (note for note in tables["froc"].notes if "earlier version" in note)
    assert "plain" in note
    assert "better" not in note
    f1 = {row["recipe"]: row["f1"].value for row in tables["paradigms"].rows}
    assert f1["plain"] == f1["better"], "all other tables take the counts, which both have"
