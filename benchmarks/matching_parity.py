"""Matching, overlap and candidates of `cmb_evaluate` against direct definitions, and `iou` against picai_eval.

python benchmarks/matching_parity.py --cases 240

The definitions are written down a second time here, voxel by voxel and pair by pair, with shares as exact fractions:
slow, and without anything of the package. Lesions are spheres, some of which touch, on turned grids of oblong voxels;
references and predictions are empty now and then.
"""

import argparse
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
from metrics_parity import Parity
from picai_eval.eval import evaluate_case
from picai_eval.metrics import Metrics
from scipy import ndimage
from scipy.spatial.transform import Rotation

from cmb_autoseg.evaluation.case_score import CaseScore
from cmb_autoseg.evaluation.evaluate import CaseSource, evaluate_cases
from cmb_autoseg.evaluation.matching.candidates import find_candidates
from cmb_autoseg.evaluation.matching.lesion_set import LesionSet
from cmb_autoseg.evaluation.matching.match import match
from cmb_autoseg.evaluation.matching.protocols import PROTOCOLS, LesionRule, Protocol
from cmb_autoseg.evaluation.metrics.curves import froc
from cmb_autoseg.evaluation.metrics.lesion import lesion_statistics
from cmb_autoseg.evaluation.metrics.patient import patient_statistics
from cmb_autoseg.evaluation.scoring import ScoringSettings
from cmb_autoseg.evaluation.statistics.intervals import Resampling
from cmb_autoseg.geometry import Volume
from cmb_autoseg.lesions.components import find_components

SHAPE = (13, 12, 9)
AXES_OF_NEIGHBORS = {6: 1, 18: 2, 26: 3}
Voxel = tuple[int, ...]
Outcome = tuple[frozenset[tuple[int, int]], frozenset[int]]
"""Pairs (predicted, reference) and ignored predictions, by numbers from 0."""


@dataclass(frozen=True)
class Case:
    """Masks of both sides on one grid."""

    predicted: np.ndarray
    reference: np.ndarray
    affine: np.ndarray
    connectivity: int

    @cached_property
    def lesions(self) -> tuple[list[list[Voxel]], list[list[Voxel]]]:
        """Predicted and reference ones, see `lesions_of`."""
        return lesions_of(self.predicted, self.connectivity), lesions_of(self.reference, self.connectivity)


# --- made-up cases


def random_affine(rng: np.random.Generator) -> np.ndarray:
    """A turned, perhaps mirrored grid of oblong voxels."""
    affine = np.eye(4)
    turn = Rotation.random(random_state=int(rng.integers(1 << 31))).as_matrix()
    affine[:3, :3] = turn @ np.diag(rng.choice([-1, 1], 3) * rng.uniform(0.4, 2.5, 3))
    affine[:3, 3] = rng.uniform(-50, 50, 3)
    return affine


def spheres(rng: np.random.Generator, centres: np.ndarray, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Mask of spheres of 0 to 2.5 voxels around places."""
    mask = np.zeros(shape, bool)
    for centre in centres:
        away = sum((axis - at) ** 2 for axis, at in zip(np.ogrid[tuple(map(slice, shape))], centre, strict=True))
        mask |= away <= rng.uniform(0, 2.5) ** 2
    return mask


def random_case(rng: np.random.Generator) -> Case:
    """Up to seven lesions, found, shifted, split, missed; false ones beside them."""
    places = rng.uniform(0, SHAPE, (int(rng.integers(1, 8)), 3))
    found = places[rng.random(len(places)) < 0.75]
    around = np.concatenate([found, found]) + rng.normal(0, 1.2, (2 * len(found), 3))
    others = rng.uniform(0, SHAPE, (int(rng.integers(0, 4)), 3))
    reference = spheres(rng, np.rint(places) if rng.random() < 0.5 else places)
    predicted = spheres(rng, np.concatenate([around, others])) & (rng.random(SHAPE) < rng.choice([0.6, 1.0]))
    empty = rng.random(2) < 0.1
    return Case(
        predicted & ~empty[0], reference & ~empty[1], random_affine(rng), int(rng.choice(list(AXES_OF_NEIGHBORS)))
    )


# --- direct definitions


def lesions_of(mask: np.ndarray, connectivity: int) -> list[list[Voxel]]:
    """Voxels of each lesion, by falling number of voxels, and of equal ones as they come in the array."""
    left = [tuple(map(int, voxel)) for voxel in np.argwhere(mask)]
    waiting, lesions = dict.fromkeys(left), []
    steps = [
        step
        for step in itertools.product((-1, 0, 1), repeat=3)
        if 0 < sum(map(abs, step)) <= AXES_OF_NEIGHBORS[connectivity]
    ]
    while waiting:
        lesion = [next(iter(waiting))]
        del waiting[lesion[0]]
        for voxel in lesion:
            for step in steps:
                beside = tuple(a + b for a, b in zip(voxel, step, strict=True))
                if beside in waiting:
                    del waiting[beside]
                    lesion.append(beside)
        lesions.append(lesion)
    return sorted(lesions, key=len, reverse=True)


def centre_mm(lesion: Sequence[Voxel], affine: np.ndarray) -> tuple[float, ...]:
    """Mean place of a lesion's voxels in millimetres."""
    places = [affine[:3, :3] @ np.array(voxel) + affine[:3, 3] for voxel in lesion]
    return tuple(math.fsum(place[axis] for place in places) / len(places) for axis in range(3))


def outcomes(case: Case, protocol: Protocol) -> list[Outcome]:
    """What the definition of a protocol allows; more than one outcome only where pairings are equally good."""
    predicted, reference = case.lesions
    common = [[len(set(p) & set(r)) for r in reference] for p in predicted]
    limit = Fraction(str(protocol.limit))
    if protocol.rule == "overlap":
        return [
            (
                frozenset(
                    (i, j)
                    for i in range(len(predicted))
                    for j, r in enumerate(reference)
                    if Fraction(common[i][j], len(r)) > limit
                ),
                frozenset(),
            )
        ]
    if protocol.rule == "iou":
        ious = [
            [Fraction(common[i][j], len(p) + len(r) - common[i][j]) for j, r in enumerate(reference)]
            for i, p in enumerate(predicted)
        ]
        return _best_pairings(ious, limit)
    centres = [[centre_mm(lesion, case.affine) for lesion in side] for side in (predicted, reference)]
    distances = [[round(math.dist(p, r), 6) for r in centres[1]] for p in centres[0]]
    return [(_nearest if protocol.rule == "nearest" else _in_reach)(distances, protocol.limit)]


def _nearest(distances: list[list[float]], limit: float) -> Outcome:
    claims: dict[int, list[int]] = {}
    for i, own in enumerate(distances):
        if own and min(own) <= limit:
            claims.setdefault(own.index(min(own)), []).append(i)
    return frozenset((min(who, key=lambda i, j=j: (distances[i][j], i)), j) for j, who in claims.items()), frozenset()


def _in_reach(distances: list[list[float]], limit: float) -> Outcome:
    near = sorted((d, i, j) for i, own in enumerate(distances) for j, d in enumerate(own) if d <= limit)
    pairs: set[tuple[int, int]] = set()
    for _, i, j in near:
        if all(i != other and j != taken for other, taken in pairs):
            pairs.add((i, j))
    return frozenset(pairs), frozenset(i for _, i, _ in near) - {i for i, _ in pairs}


def _best_pairings(ious: list[list[Fraction]], limit: Fraction) -> list[Outcome]:
    def pairings(i: int, taken: frozenset[int]) -> Iterator[tuple[Fraction, frozenset[tuple[int, int]]]]:
        if i == len(ious):
            yield Fraction(0), frozenset()
            return
        yield from pairings(i + 1, taken)
        for j, iou in enumerate(ious[i]):
            if iou >= limit and j not in taken:
                for worth, rest in pairings(i + 1, taken | {j}):
                    yield worth + 1 + iou, rest | {(i, j)}

    every = list(pairings(0, frozenset()))
    best = max(worth for worth, _ in every)
    return [(pairs, frozenset()) for worth, pairs in every if worth == best]


def candidates_of(data: np.ndarray, connectivity: int, floor: float = 0.1) -> set[frozenset[int]]:
    """For every voxel: does what is connected to it at half of its value hold a higher one? Else it is a candidate."""
    structure = ndimage.generate_binary_structure(3, AXES_OF_NEIGHBORS[connectivity])
    found = set()
    for place in map(tuple, np.argwhere(data >= np.float32(floor))):
        labels, _ = ndimage.label(data >= max(np.float32(floor), data[place] / 2), structure)
        blob = labels == labels[place]
        if data[blob].max() <= data[place]:
            found.add(frozenset(np.flatnonzero(blob).tolist()))
    return found


# --- comparisons


def compare_matching(n_cases: int, seed: int) -> list[Parity]:
    """Lesions that are paired, found, right or ignored here and not there, and figures of the pairs."""
    rng = np.random.default_rng(seed)
    cases = [random_case(rng) for _ in range(n_cases)]
    rows = []
    for protocol in PROTOCOLS.values():
        differing, of_pairs = [], []
        for case in cases:
            sides = [
                LesionSet.of_components(
                    find_components(mask, connectivity=case.connectivity), Volume(mask, case.affine)
                )
                for mask in (case.predicted, case.reference)
            ]
            matching = match(sides[0], sides[1], protocol)
            pairs = frozenset((pair.predicted - 1, pair.reference - 1) for pair in matching.pairs)
            ours = pairs, frozenset(number - 1 for number in matching.ignored)
            differing.append(min(_n_different(ours, allowed) for allowed in outcomes(case, protocol)))
            of_pairs += [gap for pair in matching.pairs for gap in _gaps(pair, case)]
        any_pair = sum(case.predicted.any() and case.reference.any() for case in cases)
        rows.append(
            Parity(f"pairs, {protocol.name}", "direct definition", any_pair, n_cases - any_pair, max(differing))
        )
        rows.append(
            Parity(f"distance and shares of pairs, {protocol.name}", "exact", len(of_pairs) // 4, 0, max(of_pairs))
        )
    return rows


def _n_different(ours: Outcome, theirs: Outcome) -> float:
    return float(sum(len(own ^ other) for own, other in zip(ours, theirs, strict=True)))


def _gaps(pair, case: Case) -> Iterator[float]:
    p, r = case.lesions[0][pair.predicted - 1], case.lesions[1][pair.reference - 1]
    both = len(set(p) & set(r))
    yield abs(pair.distance_mm - math.dist(centre_mm(p, case.affine), centre_mm(r, case.affine)))
    yield abs(pair.overlap - both / len(r))
    yield abs(pair.iou - both / (len(p) + len(r) - both))
    yield abs(pair.dice - 2 * both / (len(p) + len(r)))


def compare_candidates(n_maps: int, seed: int) -> Parity:
    """Candidates here and not there, or there and not here."""
    rng, gaps, n_none = np.random.default_rng(seed), [], 0
    for number in range(n_maps):
        noise = ndimage.gaussian_filter(rng.standard_normal((7, 8, 6)), rng.uniform(0, 1.2))
        data = np.clip(noise / np.abs(noise).max() * rng.choice([0.05, 0.4, 1.0], p=[0.05, 0.15, 0.8]), 0, 1)
        data = np.round(data, 1 if number % 3 == 0 else 6).astype(np.float32)
        connectivity = int(rng.choice(list(AXES_OF_NEIGHBORS)))
        found = find_candidates(Volume(data, np.eye(4)), LesionRule(connectivity))
        ours = {frozenset(np.flatnonzero(found.components.labels == n + 1).tolist()) for n in range(len(found))}
        theirs = candidates_of(data, connectivity)
        n_none += not theirs
        gaps.append(float(len(ours ^ theirs)))
    return Parity("candidates of a map", "direct definition", n_maps - n_none, n_none, max(gaps))


def random_detection_map(rng: np.random.Generator, places: np.ndarray) -> np.ndarray:
    """Candidates apart from one another with a confidence each, as picai_eval takes them; ties among confidences."""
    data = np.zeros(SHAPE, np.float32)
    for mask in (spheres(rng, place[None]) for place in places):
        if not data[ndimage.binary_dilation(mask, np.ones((3, 3, 3)))].any():
            data[mask] = np.round(rng.uniform(0.15, 1), 1)
    return data


def compare_picai(n_studies: int, seed: int) -> list[Parity]:
    """From detection maps to figures under `iou`, beside picai_eval on the same maps."""
    rng, gaps = np.random.default_rng(seed), {}
    for _ in range(n_studies):
        maps = []
        for _ in range(int(rng.integers(1, 6))):
            places = rng.uniform(0, SHAPE, (int(rng.integers(0, 5)), 3))
            around = places + rng.normal(0, 0.8, places.shape)
            wrong = rng.uniform(0, SHAPE, (int(rng.integers(0, 3)), 3))
            detected = random_detection_map(rng, np.concatenate([around, wrong])) * (rng.random() > 0.1)
            maps.append((detected.astype(np.float32), spheres(rng, places) & (rng.random() > 0.2)))
        for figure, ours, theirs in _beside_picai(maps):
            undefined = theirs is None and np.isnan(ours)
            gaps.setdefault(figure, []).append(None if undefined else np.inf if theirs is None else abs(ours - theirs))
    return [
        Parity(
            f"iou, end to end: {figure}",
            "picai_eval",
            len(own) - own.count(None),
            own.count(None),
            max(gap for gap in own if gap is not None),
        )
        for figure, own in gaps.items()
    ]


def _beside_picai(maps: list[tuple[np.ndarray, np.ndarray]]) -> Iterator[tuple[str, float, float | None]]:
    settings = ScoringSettings(protocol="iou", protocols={"iou": PROTOCOLS["iou"]})
    sources = [CaseSource.of_volumes(f"{n:02d}", f"{n:02d}", _loader(*own)) for n, own in enumerate(maps)]
    report = evaluate_cases(sources, settings, Resampling(n_resamples=0))
    rows, highest = {}, {}
    for n, (detected, reference) in enumerate(maps):
        rows[f"{n:02d}"], highest[f"{n:02d}"], _, _ = evaluate_case(
            detected, reference, min_overlap=0.1, allow_unmatched_candidates_with_minimal_overlap=False
        )
    lists = max(_gap_of_lists(case, rows[case.case]) for case in report.cases)
    yield "confidences of right and false candidates", lists, 0.0
    # Its own thresholds lack the last point of the curve where no lesion was missed.
    scores = {score for own in rows.values() for _, score, _ in own if score > 0}
    picai = Metrics(rows, case_pred=highest, thresholds=np.array([*sorted(scores, reverse=True), 0.0]))
    has_lesion = picai.num_lesions > 0
    average_precision = lesion_statistics(report.cases, "iou")["average_precision"].value()
    yield "average precision", average_precision, float(picai.AP) if has_lesion else None
    both = len(set(picai.case_target.values())) == 2
    yield "AUROC of people", patient_statistics(report.cases)["auc"].value(), float(picai.auroc) if both else None
    curve, counts, n_points = froc(report.cases, "iou"), picai.calculate_counts(), len(picai.thresholds) - 1
    for name, own, other in (
        ("sensitivity", curve.sensitivity, counts["TP"][:n_points] / max(1, picai.num_lesions)),
        ("false positives per scan", curve.fp_per_scan, counts["FP"][:n_points] / picai.num_cases),
    ):
        gap = float(np.abs(own - other).max(initial=0.0)) if len(own) == len(other) else np.inf
        yield f"FROC, {name}", gap if has_lesion else np.nan, 0.0 if has_lesion else None


def _loader(detected: np.ndarray, reference: np.ndarray):
    grid = np.diag([0.5, 0.8, 2.0, 1.0])
    mask = (detected >= 0.5).astype(np.float32)
    return lambda: (Volume(mask, grid), Volume(reference.astype(np.uint8), grid), Volume(detected, grid))


def _gap_of_lists(case: CaseScore, rows: list[tuple[int, float, float]]) -> float:
    found, false = case.candidate_confidences("iou")
    for own, target in ((np.nan_to_num(found), 1), (false, 0)):
        theirs = sorted(score for is_lesion, score, _ in rows if is_lesion == target)
        if len(own) != len(theirs):
            return np.inf
        if len(own) and np.abs(np.sort(own) - theirs).max() > 0:
            return float(np.abs(np.sort(own) - theirs).max())
    return 0.0


def largest_differences(n_cases: int = 240, seed: int = 0) -> list[Parity]:
    """Every comparison of this script, on as many cases, maps and studies each."""
    return [
        *compare_matching(n_cases, seed),
        compare_candidates(n_cases, seed + 1),
        *compare_picai(n_cases, seed + 2),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=240)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for row in largest_differences(arguments.cases, arguments.seed):
        print(f"| {row.figure} | {row.against} | {row.n_defined} | {row.n_undefined} | {row.largest:.1e} |")


if __name__ == "__main__":
    main()
