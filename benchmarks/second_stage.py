"""False positives per scan of a first stage with and without a second look, at the same lesion sensitivity.

    python benchmarks/second_stage.py --workspace WS -d 601 --pair FIRST SECOND [--pair FIRST SECOND ...] [--fusion ...]

FIRST and SECOND are folders of models trained in all folds, `results/DATASET/CMBTrainer__<recipe>__3d` or in the
`models/` of a comparison; SECOND is built on FIRST. Every case is judged by folds that have not seen it, once for each
way to join both stages' probabilities. The sensitivity in question is that of FIRST at its best lesion F1, as
`cmb_finalize` chooses the operating point `counting`, or the best that both reach where SECOND does not get there. Each
system is then cut at the threshold with the fewest false positives of those that reach it. The latter is done anew in
every draw of subjects, so the interval of the difference holds what choosing thresholds costs.

Lesions are counted in two ways, both with the rule of VALDO: `components` as `cmb_predict` writes them, at the 50
thresholds of the operating points, and `peaks` as curves over all thresholds have them, where neighboring lesions stay
apart. Prints a table in Markdown.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.evaluation.matching.candidates import find_candidates
from cmb_autoseg.evaluation.matching.lesion_set import LesionSet
from cmb_autoseg.evaluation.matching.match import match_candidates
from cmb_autoseg.evaluation.matching.protocols import PROTOCOLS, LesionRule
from cmb_autoseg.evaluation.metrics.figure import Statistic, Values, Weights
from cmb_autoseg.evaluation.statistics.intervals import Resampling
from cmb_autoseg.evaluation.statistics.paired import Difference, compare
from cmb_autoseg.geometry import Volume, read_volume
from cmb_autoseg.inference.loading import load_ensemble
from cmb_autoseg.inference.operating_points import (
    SWEEP_THRESHOLDS,
    ScoredCase,
    count_case,
    counting_threshold,
    sweep_thresholds,
)
from cmb_autoseg.inference.two_stage import TwoStageEnsemble
from cmb_autoseg.leakage import subject_of
from cmb_autoseg.lesions import find_components
from cmb_autoseg.pipeline.out_of_fold import fold_records, out_of_fold_maps
from cmb_autoseg.pipeline.stored import images_of, read_plan
from cmb_autoseg.raw_dataset import RawCase, RawDataset, read_raw_dataset
from cmb_autoseg.records import Plan
from cmb_autoseg.trainers.candidates.candidates import Candidates, propose
from cmb_autoseg.trainers.candidates.fusion import Fusion, fuse, fused_map
from cmb_autoseg.workspace import Workspace

RULE = PROTOCOLS["valdo"]
FLOOR = SWEEP_THRESHOLDS[0]
NEARLY = 1e-9


@dataclass(frozen=True)
class Counts:
    """One system's counts at rising thresholds.

    Attributes:
        thresholds: (t,).
        hits: (case, t), reference lesions that are found.
        false: (case, t), false positives.
        n_lesions: (case,).
    """

    thresholds: NDArray[np.float64]
    hits: NDArray[np.float64]
    false: NDArray[np.float64]
    n_lesions: NDArray[np.float64]

    def sensitivity(self, weights: Weights) -> NDArray[np.float64]:
        """(draw, t)."""
        lesions = (weights @ self.n_lesions)[:, None]
        found: NDArray[np.float64] = np.divide(
            weights @ self.hits, lesions, out=np.full((len(weights), len(self.thresholds)), np.nan), where=lesions > 0
        )
        return found

    def chosen(self, weights: Weights, target: Values) -> NDArray[np.intp]:
        """(draw,): where the fewest false positives are, of the thresholds that reach a sensitivity (draw,)."""
        false = np.where(self.sensitivity(weights) >= target[:, None] - NEARLY, weights @ self.false, np.inf)
        fewest: NDArray[np.intp] = np.argmin(false, axis=1)
        return fewest

    def false_per_scan(self, weights: Weights, at: NDArray[np.intp], only: NDArray[np.bool_]) -> Values:
        """(draw,), of some of the cases, at each draw's threshold."""
        part = weights * only
        false = np.take_along_axis(part @ self.false, at[:, None], axis=1)[:, 0]
        scans = part.sum(axis=1)
        rates: Values = np.divide(false, scans, out=np.full(len(weights), np.nan), where=scans > 0)
        return rates


def counts_of_components(maps: Sequence[tuple[Volume, Volume]]) -> Counts:
    """At the thresholds of the operating points; maps are (probability, reading)."""
    swept = [count_case(ScoredCase("", probability, reading), RULE) for probability, reading in maps]
    return Counts(
        np.array(SWEEP_THRESHOLDS),
        np.array([case.hits for case in swept], dtype=np.float64),
        np.array([case.false_positives for case in swept], dtype=np.float64),
        np.array([case.n_lesions for case in swept], dtype=np.float64),
    )


def counts_of_peaks(maps: Sequence[tuple[Volume, Volume]]) -> Counts:
    """At every probability that a candidate has; maps are (probability, reading)."""
    right, false, n_lesions = [], [], []
    for probability, reading in maps:
        candidates = find_candidates(probability, LesionRule(), FLOOR)
        reference = LesionSet.of_components(find_components(reading.data > 0), reading)
        matching = match_candidates(candidates, reference, {RULE.name: RULE})[RULE.name]
        assert candidates.confidence is not None
        is_right = np.zeros(len(candidates), dtype=bool)
        is_right[[pair.predicted - 1 for pair in matching.pairs]] = True
        right.append(np.sort(candidates.confidence[is_right]))
        false.append(np.sort(candidates.confidence[~is_right]))
        n_lesions.append(len(reference))
    thresholds = np.unique(np.concatenate([*right, *false, [1.0]]))
    hits, wrong = (
        np.array([len(own) - np.searchsorted(own, thresholds) for own in side], dtype=np.float64)
        for side in (right, false)
    )
    return Counts(thresholds, hits, wrong, np.array(n_lesions, dtype=np.float64))


@dataclass(frozen=True)
class Contest:
    """Two systems on the same cases, at the sensitivity of the first one's threshold.

    Attributes:
        first: without the second look.
        second: with it.
        counting: threshold of the first.
    """

    first: Counts
    second: Counts
    counting: float

    def target(self, weights: Weights) -> Values:
        """(draw,): the sensitivity that both are cut at."""
        there = int(np.searchsorted(self.first.thresholds, self.counting - NEARLY))
        wanted = self.first.sensitivity(weights)[:, min(there, len(self.first.thresholds) - 1)]
        target: Values = np.minimum(wanted, self.second.sensitivity(weights).max(axis=1))
        return target

    def statistic(self, system: Counts, only: NDArray[np.bool_]) -> Statistic:
        """False positives per scan of a system at that sensitivity, on some of the cases."""

        def of(weights: Weights) -> Values:
            target = self.target(weights)
            found = system.false_per_scan(weights, system.chosen(weights, np.nan_to_num(target)), only)
            return np.where(np.isnan(target), np.nan, found)

        return Statistic(of, "no lesion, or no such scan", len(system.n_lesions))


@dataclass(frozen=True)
class Verdict:
    """What both stages say of a case that neither has seen.

    Attributes:
        case: with its reading.
        first: probability map of the first stage.
        candidates: that it proposes.
        second: (n,), probabilities of the second stage.
        threshold: that they were proposed at.
    """

    case: RawCase
    first: Volume
    candidates: Candidates
    second: NDArray[np.float64]
    threshold: float

    def joined(self, fusion: Fusion) -> Volume:
        """The probability map of both stages."""
        fused = fuse(self.candidates.confidence, self.second, fusion)
        data = np.asarray(self.first.data, dtype=np.float32)
        return self.first.with_data(fused_map(data, self.candidates, fused, self.threshold))


def verdicts(raw: RawDataset, plan: Plan, pair: Sequence[Path]) -> Iterator[Verdict]:
    """Of every labelled training case."""
    first, second = pair
    cases = {case.name: case for case in raw.cases}
    maps = dict(out_of_fold_maps(raw, fold_records(raw.folders, first, plan), first, "cpu"))
    for record in fold_records(raw.folders, second, plan):
        ensemble = load_ensemble(second, (record.fold,), "cpu")
        assert isinstance(ensemble, TwoStageEnsemble)
        settings = ensemble.settings
        for name in record.validation_cases:
            probability = read_volume(maps[name])
            candidates = propose(probability, settings.threshold, settings.candidates_per_case)
            scores = ensemble.second_scores(images_of(cases[name], raw, ensemble.second_channels), candidates)
            yield Verdict(cases[name], probability, candidates, scores, settings.threshold)


def rows_of(raw: RawDataset, plan: Plan, pair: Sequence[Path], fusions: Sequence[Fusion], n_draws: int) -> list[str]:
    """Lines of the table for one pair of models."""
    judged = list(verdicts(raw, plan, pair))
    subjects = [subject_of(verdict.case) for verdict in judged]
    readings = [read_volume(verdict.case.label, dtype="uint8") for verdict in judged]
    first = [(verdict.first, reading) for verdict, reading in zip(judged, readings, strict=True)]
    counting = SWEEP_THRESHOLDS[counting_threshold(sweep_thresholds((ScoredCase("", *maps) for maps in first), RULE))]
    names = [model.name.split("__")[1] for model in pair]
    rows = []
    for kind, counted in (("components", counts_of_components), ("peaks", counts_of_peaks)):
        without = counted(first)
        for fusion in fusions:
            joined = [(verdict.joined(fusion), reading) for verdict, reading in zip(judged, readings, strict=True)]
            contest = Contest(without, counted(joined), counting)
            rows += contest_rows(contest, subjects, [*names, fusion, kind], n_draws)
    return rows


def contest_rows(contest: Contest, subjects: Sequence[str], names: Sequence[str], n_draws: int) -> list[str]:
    """A line for all scans, and one for those without a lesion."""
    everyone, free = np.ones(len(subjects), dtype=bool), contest.first.n_lesions == 0
    one = np.ones((1, len(subjects)))
    target = contest.target(one)
    best = [float(system.sensitivity(one).max()) for system in (contest.first, contest.second)]
    rows = []
    for scans, only in (("all", everyone), ("lesion-free", free)):
        first, second = (contest.statistic(system, only) for system in (contest.first, contest.second))
        cells = [
            *names,
            f"{scans} ({int(only.sum())})",
            f"{target[0]:.3f}",
            f"{best[0]:.3f} / {best[1]:.3f}",
            f"{first.value():.2f}",
            f"{second.value():.2f}",
            told(compare(second, first, subjects, Resampling(n_resamples=n_draws))),
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return rows


def told(difference: Difference) -> str:
    """With its interval and p."""
    if difference.value is None:
        return f"undefined: {difference.why}"
    interval = "" if difference.ci is None else f" ({difference.ci[0]:+.2f} to {difference.ci[1]:+.2f})"
    p = "" if difference.p is None else f", p {difference.p:.3f}"
    return f"{difference.value:+.2f}{interval}{p}"


HEAD = """\
| first | second | fusion | counted | scans | sensitivity | best of each | FP/scan alone | with | difference |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("-d", dest="dataset", required=True)
    parser.add_argument("--pair", type=Path, nargs=2, action="append", required=True, metavar=("FIRST", "SECOND"))
    parser.add_argument("--fusion", nargs="+", choices=get_args(Fusion), default=list(get_args(Fusion)))
    parser.add_argument("--resamples", type=int, default=2000)
    arguments = parser.parse_args()
    raw = read_raw_dataset(Workspace.find(arguments.workspace).dataset(arguments.dataset))
    plan = read_plan(raw.folders, None)
    print(HEAD)
    for pair in arguments.pair:
        print("\n".join(rows_of(raw, plan, pair, arguments.fusion, arguments.resamples)), flush=True)


if __name__ == "__main__":
    main()
