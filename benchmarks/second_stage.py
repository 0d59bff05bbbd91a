"""False positives per scan of a first stage with and without a second look, at the same lesion sensitivity.

    python benchmarks/second_stage.py --workspace WS -d 601 --pair FIRST SECOND [--pair FIRST SECOND ...]

FIRST and SECOND are folders of finished models of one dataset, `results/DATASET/CMBTrainer__<recipe>__3d`; SECOND is
built on FIRST. What is compared are the probability maps in their `crossvalidation/`, so every case is judged by folds
that have not seen it. The sensitivity in question is that of FIRST at its operating point `counting`, or the best that
both reach where SECOND does not get there. Each system is then cut at the threshold with the fewest false positives of
those that reach it. All of this is done anew in every draw of subjects, so the interval of the difference holds what
choosing thresholds costs.

Lesions are counted in two ways, both with the rule of VALDO: `components` as `cmb_predict` writes them, at the 50
thresholds of the operating points, and `peaks` as curves over all thresholds have them, where neighboring lesions stay
apart. Prints a table in Markdown.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.matching.candidates import find_candidates
from cmb_autoseg.evaluation.matching.lesion_set import LesionSet
from cmb_autoseg.evaluation.matching.match import match_candidates
from cmb_autoseg.evaluation.matching.protocols import PROTOCOLS, LesionRule
from cmb_autoseg.evaluation.metrics.figure import Statistic, Values, Weights
from cmb_autoseg.evaluation.statistics.intervals import Resampling
from cmb_autoseg.evaluation.statistics.paired import Difference, compare
from cmb_autoseg.geometry import Volume, read_volume
from cmb_autoseg.inference.model_folder import operating_point
from cmb_autoseg.inference.operating_points import SWEEP_THRESHOLDS, ScoredCase, count_case
from cmb_autoseg.leakage import subject_of
from cmb_autoseg.lesions import find_components
from cmb_autoseg.raw_dataset import RawCase, read_raw_dataset
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


def shared_cases(pair: Sequence[Path], cases: Sequence[RawCase]) -> list[RawCase]:
    """Labelled cases of which both models have an out-of-fold map."""
    shared = [case for case in cases if case.labelled and all(map_of(model, case).is_file() for model in pair)]
    if not shared:
        raise InputError(f"{pair[0]} and {pair[1]}: no out-of-fold maps of the same cases; run cmb_finalize on both")
    return shared


def map_of(model: Path, case: RawCase) -> Path:
    return model / "crossvalidation" / f"{case.name}_prob.nii.gz"


def rows_of(pair: Sequence[Path], cases: Sequence[RawCase], n_resamples: int) -> list[str]:
    """Lines of the table for one pair of models."""
    shared = shared_cases(pair, cases)
    subjects = [subject_of(case) for case in shared]
    readings = [read_volume(case.label, dtype="uint8") for case in shared]
    maps = [
        [(read_volume(map_of(model, case)), reading) for case, reading in zip(shared, readings, strict=True)]
        for model in pair
    ]
    counting = operating_point(pair[0], "counting").threshold
    names = [model.name.split("__")[1] for model in pair]
    rows = []
    for kind, counted in (("components", counts_of_components), ("peaks", counts_of_peaks)):
        contest = Contest(counted(maps[0]), counted(maps[1]), counting)
        everyone, free = np.ones(len(shared), dtype=bool), contest.first.n_lesions == 0
        one = np.ones((1, len(shared)))
        target = contest.target(one)
        best = [float(system.sensitivity(one).max()) for system in (contest.first, contest.second)]
        for scans, only in (("all", everyone), ("lesion-free", free)):
            first, second = (contest.statistic(system, only) for system in (contest.first, contest.second))
            difference = compare(second, first, subjects, Resampling(n_resamples=n_resamples))
            cells = [
                *names,
                kind,
                f"{scans} ({int(only.sum())})",
                f"{target[0]:.3f}",
                f"{best[0]:.3f} / {best[1]:.3f}",
                f"{first.value():.2f}",
                f"{second.value():.2f}",
                told(difference),
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
| first stage | second stage | counted | scans | sensitivity | best of each | FP/scan without | with | difference |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("-d", dest="dataset", required=True)
    parser.add_argument("--pair", type=Path, nargs=2, action="append", required=True, metavar=("FIRST", "SECOND"))
    parser.add_argument("--resamples", type=int, default=2000)
    arguments = parser.parse_args()
    raw = read_raw_dataset(Workspace.find(arguments.workspace).dataset(arguments.dataset))
    print(HEAD)
    for pair in arguments.pair:
        print("\n".join(rows_of(pair, raw.cases, arguments.resamples)), flush=True)


if __name__ == "__main__":
    main()
