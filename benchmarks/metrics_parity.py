"""How far figures of `cmb_evaluate` are from those of picai_eval, scikit-learn and SciPy, on random small studies.

python benchmarks/metrics_parity.py --studies 240
"""

import argparse
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from picai_eval.metrics import Metrics
from scipy.spatial import distance
from scipy.stats import spearmanr
from sklearn import config_context
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    cohen_kappa_score,
    roc_auc_score,
)

from cmb_autoseg.evaluation.case_score import CaseScore, Matching, Pair, VoxelCounts
from cmb_autoseg.evaluation.matching.lesion_set import LesionSet
from cmb_autoseg.evaluation.metrics.calibration import calibration_statistics
from cmb_autoseg.evaluation.metrics.count import count_statistics
from cmb_autoseg.evaluation.metrics.curves import froc
from cmb_autoseg.evaluation.metrics.figure import Statistic
from cmb_autoseg.evaluation.metrics.lesion import FROC_POINTS, lesion_statistics
from cmb_autoseg.evaluation.metrics.patient import RULES, patient_statistics
from cmb_autoseg.evaluation.metrics.severity import severity_statistics
from cmb_autoseg.evaluation.metrics.voxel import voxel_statistics
from cmb_autoseg.evaluation.metrics.voxel_auc import LesionValues, count_wins

PROTOCOL = "valdo"
SHAPE = (4, 3, 5)


@dataclass(frozen=True)
class Parity:
    """One figure over all studies."""

    figure: str
    against: str
    n_defined: int
    n_undefined: int
    """Studies in which both sides say that it has no value; where only one does, `largest` is infinite."""
    largest: float
    """Greatest absolute difference."""


@dataclass(frozen=True)
class Study:
    cases: list[CaseScore]
    maps: list[tuple[np.ndarray, np.ndarray]]
    """Probability and reference of each case, for the voxels' AUC; not the cases' lesions."""


def random_case(rng: np.random.Generator, name: str, voxels: VoxelCounts, most: int) -> CaseScore:
    """Lesions and candidates one to one, with ties among confidences; any side may be empty."""
    n_reference, n_candidates = int(rng.integers(0, most + 1)), int(rng.integers(0, 2 * most + 1))
    n_right = int(rng.integers(0, min(n_reference, n_candidates) + 1))
    sides = (rng.permutation(n)[:n_right] + 1 for n in (n_reference, n_candidates))
    pairs = sorted((int(r), int(p)) for r, p in zip(*sides, strict=True))
    confidence = np.maximum(0.01, np.round(rng.random(n_candidates), int(rng.integers(1, 4))))
    mean = np.round(confidence * rng.uniform(0.5, 1, n_candidates), 2)
    matching = Matching(pairs=tuple(Pair(reference=r, predicted=p, distance_mm=0.0) for r, p in pairs))
    candidates = _lesions(n_candidates, confidence, mean)
    return CaseScore(
        case=name,
        subject=name,
        reference=_lesions(n_reference),
        predicted=candidates,
        matchings={PROTOCOL: matching},
        candidates=candidates,
        candidate_matchings={PROTOCOL: matching},
        voxels=voxels,
        voxel_volume_mm3=0.5,
    )


def random_study(rng: np.random.Generator, n_cases: int | None = None) -> Study:
    """A few cases, some with many lesions; maps with many zeros and ties."""
    n, most = n_cases or int(rng.integers(1, 13)), int(rng.choice([1, 3, 14]))
    cases, maps = [], []
    for index in range(n):
        probability = np.round(np.maximum(0, rng.normal(0.1, 0.3, SHAPE)).clip(0, 1), 1).astype(np.float32)
        marked = rng.random(SHAPE) < rng.choice([0.0, 0.1, 0.3])
        maps.append((probability, marked))
        predicted = probability >= 0.5
        voxels = VoxelCounts(
            true_positive=int(np.sum(predicted & marked)),
            false_positive=int(np.sum(predicted & ~marked)),
            false_negative=int(np.sum(~predicted & marked)),
            true_negative=int(np.sum(~predicted & ~marked)),
        )
        cases.append(random_case(rng, f"case{index:03d}", voxels, most))
    return Study(cases, maps)


def largest_differences(n_studies: int = 240, seed: int = 0) -> list[Parity]:
    """Compare every figure on studies as they are and, every other time, on a draw of the bootstrap from them."""
    rng, found = np.random.default_rng(seed), {}
    for number in range(n_studies):
        study = random_study(rng)
        n = len(study.cases)
        draw = rng.integers(0, n, n) if number % 2 else np.arange(n)
        weights = np.bincount(draw, minlength=n)[None].astype(float)
        drawn = Study([study.cases[i] for i in draw], [study.maps[i] for i in draw])
        for figure, against, ours, theirs in compared(study, weights, drawn):
            found.setdefault((figure, against), []).append(difference(ours, theirs))
    return [
        Parity(*key, sum(d is not None for d in gaps), gaps.count(None), max([0.0, *(d for d in gaps if d)]))
        for key, gaps in found.items()
    ]


def difference(ours: float, theirs: float | None) -> float | None:
    """None where both are undefined, infinite where one is."""
    if theirs is None:
        return None if np.isnan(ours) else np.inf
    return np.inf if np.isnan(ours) else abs(ours - theirs)


Compared = Iterator[tuple[str, str, float, float | None]]


def compared(study: Study, weights: np.ndarray, drawn: Study) -> Compared:
    """Figure, what it is compared with, its value, and the value there (None where undefined)."""
    with warnings.catch_warnings(), config_context(skip_parameter_validation=True, assume_finite=True):
        warnings.simplefilter("ignore")
        picai = picai_metrics(drawn.cases)
        yield from _lesion_level(study.cases, weights, drawn.cases, picai)
        yield from _patient_level(study.cases, weights, drawn.cases, picai)
        yield from _counts(study.cases, weights, drawn.cases)
        yield from _calibration(study.cases, weights, drawn.cases)
        yield from _voxels(study, weights, drawn)


def _value(statistic: Statistic, weights: np.ndarray) -> float:
    return float(statistic.of(weights)[0])


def picai_metrics(cases: Sequence[CaseScore]) -> Metrics:
    """What picai_eval makes of the same candidates: a missed lesion has a confidence of 0 there.

    Its curve ends one threshold early, as it takes the last one for that of the missed lesions; so 0 is always given.
    """
    rows = {f"{index:03d}": _picai_rows(case) for index, case in enumerate(cases)}
    scores = {confidence for own in rows.values() for _, confidence, _ in own if confidence > 0}
    return Metrics(rows, thresholds=np.array([*sorted(scores, reverse=True), 0.0]))


def _picai_rows(case: CaseScore) -> list[tuple[int, float, float]]:
    found, false = case.candidate_confidences(PROTOCOL) or (np.empty(0), np.empty(0))
    return [(1, float(c), 1.0) for c in np.nan_to_num(found)] + [(0, float(c), 0.0) for c in false]


def _lesion_level(cases: list[CaseScore], weights: np.ndarray, drawn: list[CaseScore], picai: Metrics) -> Compared:
    ours = lesion_statistics(cases, PROTOCOL)
    has_lesion, flat = picai.num_lesions > 0, picai.lesion_results_flat
    yield (
        "lesion.average_precision",
        "picai_eval",
        _value(ours["average_precision"], weights),
        (float(picai.AP) if has_lesion else None),
    )
    found = [row for row in flat if row[1] > 0]
    targets, scores = [row[0] for row in found], [row[1] for row in found]
    recalled = sum(targets) / picai.num_lesions if has_lesion else 0.0
    yield (
        "lesion.average_precision",
        "scikit-learn",
        _value(ours["average_precision"], weights),
        ((average_precision_score(targets, scores) * recalled if recalled else 0.0) if has_lesion else None),
    )
    tpr, fpr = _picai_froc(picai)
    for x in FROC_POINTS:
        name = f"sensitivity_at_fp_{x:g}"
        theirs = max([0.0, *tpr[fpr <= x]]) if has_lesion else None
        yield f"lesion.{name}", "picai_eval", _value(ours[name], weights), theirs
    curve = froc(drawn, PROTOCOL)
    for name, own, other in (("sensitivity", curve.sensitivity, tpr), ("fp_per_scan", curve.fp_per_scan, fpr)):
        gap = float(np.abs(own - other).max(initial=0.0)) if has_lesion and len(own) == len(other) else np.inf
        yield f"froc.{name}", "picai_eval", gap if has_lesion else np.nan, 0.0 if has_lesion else None
    yield from _lesion_areas(ours, weights, drawn)
    counts = np.sum([(*case.counts(PROTOCOL), len(case.reference)) for case in drawn], axis=0)
    truth = np.array([1] * counts[3] + [0] * counts[2], bool)
    called = np.array([1] * counts[0] + [0] * (counts[3] - counts[0]) + [1] * counts[2], bool)
    theirs = 1 - float(distance.dice(truth, called)) if counts[3] else None
    yield "lesion.f1", "SciPy", _value(ours["f1"], weights), theirs


def _picai_froc(picai: Metrics) -> tuple[np.ndarray, np.ndarray]:
    """Points of all thresholds above 0, in double precision."""
    counts, n_points = picai.calculate_counts(), len(picai.thresholds) - 1
    right, false = (counts[side][:n_points].astype(float) for side in ("TP", "FP"))
    return right / max(1, picai.num_lesions), false / picai.num_cases


def _lesion_areas(ours: dict[str, Statistic], weights: np.ndarray, drawn: list[CaseScore]) -> Compared:
    rows = []
    for case in drawn:
        mean, right = case.candidates.mean_probability, case.candidate_matchings[PROTOCOL].right
        rows += [(index + 1 in right, value) for index, value in enumerate(mean)]
    n_missed = sum(len(case.reference) - len(case.candidate_matchings[PROTOCOL].found) for case in drawn)
    for name, own in (("auc", rows), ("auc_with_misses", rows + [(True, 0.0)] * n_missed)):
        yield f"lesion.{name}", "scikit-learn", _value(ours[name], weights), _roc_auc(own)


def _roc_auc(rows: Sequence[tuple[bool, float]]) -> float | None:
    truth = [own for own, _ in rows]
    return float(roc_auc_score(truth, [score for _, score in rows])) if len(set(truth)) == 2 else None


def _patient_level(cases: list[CaseScore], weights: np.ndarray, drawn: list[CaseScore], picai: Metrics) -> Compared:
    ours = patient_statistics(cases)
    both = len(set(picai.case_target.values())) == 2
    yield "patient.auc", "picai_eval", _value(ours["auc"], weights), float(picai.auroc) if both else None
    for rule in ("two_or_more", "more_than_10"):
        least = RULES[rule]
        truth = [len(case.reference) >= least for case in drawn]
        scores = [([0.0] * least + sorted(case.candidates.confidence))[-least] for case in drawn]
        theirs = _roc_auc(list(zip(truth, scores, strict=True)))
        yield f"patient.{rule}_auc", "scikit-learn", _value(ours[f"{rule}_auc"], weights), theirs
    truth, called = ([len(getattr(case, side)) > 0 for case in drawn] for side in ("reference", "predicted"))
    theirs = float(balanced_accuracy_score(truth, called)) if both else None
    yield "patient.balanced_accuracy", "scikit-learn", _value(ours["balanced_accuracy"], weights), theirs
    yield from _kappas(cases, weights, drawn)


def _severity(n: int) -> int:
    return 0 if n == 0 else 1 if n == 1 else 2 if n <= 4 else 3 if n <= 10 else 4


def _kappas(cases: list[CaseScore], weights: np.ndarray, drawn: list[CaseScore]) -> Compared:
    ours = severity_statistics(cases)
    predicted, reference = ([_severity(len(getattr(c, side))) for c in drawn] for side in ("predicted", "reference"))
    for name, weighting in (("kappa", None), ("kappa_linear", "linear"), ("kappa_quadratic", "quadratic")):
        one_class = len({*predicted, *reference}) == 1
        theirs = None if one_class else cohen_kappa_score(predicted, reference, labels=range(5), weights=weighting)
        yield f"severity.{name}", "scikit-learn", _value(ours[name], weights), theirs


def _counts(cases: list[CaseScore], weights: np.ndarray, drawn: list[CaseScore]) -> Compared:
    sides = [[len(getattr(case, side)) for case in drawn] for side in ("predicted", "reference")]
    defined = len(drawn) >= 3 and all(len(set(side)) > 1 for side in sides)
    theirs = float(spearmanr(*sides).statistic) if defined else None
    yield "count.spearman", "SciPy", _value(count_statistics(cases)["spearman"], weights), theirs


def _calibration(cases: list[CaseScore], weights: np.ndarray, drawn: list[CaseScore]) -> Compared:
    right = [i + 1 in c.candidate_matchings[PROTOCOL].right for c in drawn for i in range(len(c.candidates))]
    scores = [score for case in drawn for score in case.candidates.confidence]
    theirs = float(np.mean((np.array(right) - scores) ** 2)) if right else None
    if len(set(right)) == 2:
        theirs = float(brier_score_loss(right, scores))
    yield "calibration.brier", "scikit-learn", _value(calibration_statistics(cases, PROTOCOL)["brier"], weights), theirs


def _voxels(study: Study, weights: np.ndarray, drawn: Study) -> Compared:
    lesions = [LesionValues.of(*own) for own in study.maps]
    wins = np.stack([count_wins(lesions, *own) for own in study.maps], axis=1)
    ours = voxel_statistics(study.cases, PROTOCOL, wins)
    probability, marked = (np.concatenate([own[side].ravel() for own in drawn.maps]) for side in (0, 1))
    both = 0 < marked.sum() < marked.size
    yield (
        "voxel.auc",
        "scikit-learn",
        _value(ours["auc"], weights),
        (float(roc_auc_score(marked, probability)) if both else None),
    )
    predicted = probability >= 0.5
    either = bool((predicted | marked).any())
    for name, function in (("dice", distance.dice), ("jaccard", distance.jaccard)):
        theirs = 1 - float(function(marked, predicted)) if either else None
        yield f"voxel.{name}", "SciPy", _value(ours[name], weights), theirs


def _lesions(n: int, confidence: np.ndarray | None = None, mean: np.ndarray | None = None) -> LesionSet:
    return LesionSet("mask", np.zeros((n, 3)), np.full(n, 14.0), ("unknown",) * n, confidence, mean)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=240)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print("| figure | against | studies with a value | without | largest difference |\n| --- | --- | --- | --- | --- |")
    for row in largest_differences(arguments.studies, arguments.seed):
        print(f"| {row.figure} | {row.against} | {row.n_defined} | {row.n_undefined} | {row.largest:.1e} |")


if __name__ == "__main__":
    main()
