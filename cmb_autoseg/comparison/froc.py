"""Free-response curves of a comparison: lesion sensitivity against false positives per scan, over all thresholds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.comparison.case_candidates import CaseCandidates
from cmb_autoseg.comparison.case_scores import ScoredView
from cmb_autoseg.comparison.judging import Group, Judge
from cmb_autoseg.evaluation.metrics.curves import FROC_GRID
from cmb_autoseg.evaluation.metrics.division import divided
from cmb_autoseg.evaluation.metrics.figure import Figure, undefined
from cmb_autoseg.evaluation.metrics.joint import in_blocks
from cmb_autoseg.evaluation.metrics.lesion import FROC_POINTS
from cmb_autoseg.evaluation.metrics.ranking import Ranking, at_most, rank
from cmb_autoseg.evaluation.statistics.bootstrap import MIN_SUBJECTS, percentile_interval

__all__ = ["FrocCurve", "froc_curve"]

Values = NDArray[np.float64]
ROUNDING = 1e-9
"""Share of a rate by which a product of numbers of scans may miss it."""


@dataclass(frozen=True)
class FrocCurve:
    """Of one recipe at one budget, at the rates of `FROC_GRID`.

    At each rate the sensitivity is the best of any threshold with no more false positives per scan, as `cmb_evaluate`
    has it: candidates are ranked by their confidence, and a threshold above all of them finds nothing.
    """

    of_seeds: Values
    """(seed, rate), each of the pooled cases of all folds."""
    draws: Values | None
    """(draw, rate), means over seeds in each draw of subjects; None where too few subjects have lesions."""
    is_swept: bool = False
    """Whether some scores have no candidates, so that the curve is of `SWEEP_THRESHOLDS`: it is NaN below the lowest
    rate that these reach, and ends at that of the lowest one."""

    @property
    def mean(self) -> Values:
        """(rate,), over seeds."""
        result: Values = self.of_seeds.mean(axis=0)
        return result

    @property
    def band(self) -> Values | None:
        """(2, rate), the middle 95 % of the draws; None where there are none."""
        if self.draws is None:
            return None
        ends = np.array([percentile_interval(at) or (np.nan, np.nan) for at in self.draws.T]).T
        return np.where(np.isnan(self.mean), np.nan, ends)

    def at_points(self) -> dict[float, Figure]:
        """Sensitivity at each rate of `FROC_POINTS`."""
        indices = [int(np.abs(FROC_GRID - rate).argmin()) for rate in FROC_POINTS]
        return {rate: self._figure([index]) for rate, index in zip(FROC_POINTS, indices, strict=True)}

    def score(self) -> Figure:
        """Mean sensitivity over `FROC_POINTS`."""
        return self._figure([int(np.abs(FROC_GRID - rate).argmin()) for rate in FROC_POINTS])

    def _figure(self, indices: Sequence[int]) -> Figure:
        value = float(self.mean[list(indices)].mean())
        if np.isnan(value):
            return undefined("no threshold of the sweep has so few false positives")
        draws = None if self.draws is None else self.draws[:, list(indices)].mean(axis=1)
        return Figure(value=value, ci=None if draws is None else percentile_interval(draws))


def froc_curve(judge: Judge, group: Group) -> FrocCurve | None:
    """The curve of a group's cases, predicted from all their sequences; None where they have no lesion.

    Args:
        judge: with the scores.
        group: all its cells are finished.
    """
    seeds = judge.views_of(group)
    is_swept = any(view.candidates is None for views in seeds for view in views)
    of_seeds, draws = [], []
    enough = True
    for views in seeds:
        cases = _Swept.of(views) if is_swept else _Ranked.of(views)
        if not cases.n_lesions.any():
            return None
        of_seeds.append(cases.sensitivity(np.ones((1, len(views))))[0])
        enough &= len({view.row.subject for view in views if view.counts.n_lesions}) >= MIN_SUBJECTS
        draws.append(cases.sensitivity(judge.weights(tuple(view.row.subject for view in views))))
    return FrocCurve(np.stack(of_seeds), np.mean(draws, axis=0) if enough else None, is_swept)


def _n_lesions(views: Sequence[ScoredView]) -> Values:
    return np.array([view.counts.n_lesions for view in views], dtype=np.float64)


@dataclass(frozen=True)
class _Ranked:
    """The cases of one seed, by all their candidates."""

    ranking: Ranking
    n_lesions: Values
    """(case,)"""

    @classmethod
    def of(cls, views: Sequence[ScoredView]) -> "_Ranked":
        found, false = zip(*(_sides(view.candidates) for view in views if view.candidates is not None), strict=True)
        return cls(rank(found, false).shortened, _n_lesions(views))

    def sensitivity(self, weights: Values) -> Values:
        """(draw, rate), NaN in draws without a lesion.

        Args:
            weights: (draw, case), how often each case is drawn.
        """
        return in_blocks(self._sensitivity, weights, len(self.ranking.thresholds))

    def _sensitivity(self, weights: Values) -> Values:
        limits = np.outer(weights.sum(axis=1), FROC_GRID * (1 + ROUNDING))
        return divided(at_most(*self.ranking.counts(weights), limits), (weights @ self.n_lesions)[:, None])


def _sides(candidates: CaseCandidates) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Confidences of those that find a lesion, and of the others."""
    is_right = candidates.lesion >= 0
    return candidates.confidence[is_right], candidates.confidence[~is_right]


@dataclass(frozen=True)
class _Swept:
    """The cases of one seed, at each of `SWEEP_THRESHOLDS`."""

    hits: Values
    """(case, threshold)"""
    false_positives: Values
    """(case, threshold)"""
    n_lesions: Values
    """(case,)"""

    @classmethod
    def of(cls, views: Sequence[ScoredView]) -> "_Swept":
        hits, false = (
            np.array([getattr(view.counts, name) for view in views], dtype=np.float64)
            for name in ("hits", "false_positives")
        )
        return cls(hits, false, _n_lesions(views))

    def sensitivity(self, weights: Values) -> Values:
        """(draw, rate), NaN in draws without a lesion, and at rates below that of every threshold.

        Args:
            weights: (draw, case), how often each case is drawn.
        """
        found = weights @ self.hits
        rate = weights @ self.false_positives / weights.sum(axis=1, keepdims=True)
        limits = FROC_GRID * (1 + ROUNDING)
        best = np.stack([np.where(rate <= limit, found, -np.inf).max(axis=1) for limit in limits], axis=1)
        return divided(np.where(np.isinf(best), np.nan, best), (weights @ self.n_lesions)[:, None])
