"""Figures with their confidence intervals, all of a report from the same draws of subjects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.metrics.figure import Figure, Statistic, Values, undefined
from cmb_autoseg.evaluation.statistics.bootstrap import (
    N_RESAMPLES,
    bca_interval,
    leave_out_weights,
    percentile_interval,
    single_subject_weights,
    subject_weights,
)

__all__ = ["Resampled", "Resampler", "Resampling", "figures"]

CELLS_IN_BLOCK = 2**17
"""Draws times cases that a statistic gets at a time, so that its own arrays stay small."""


@dataclass(frozen=True)
class Resampling:
    """How intervals are made.

    Raises:
        InputError: a negative number of draws, or a level that is not between 0 and 1.
    """

    n_resamples: int = N_RESAMPLES
    """Draws of subjects; 0 for figures without intervals."""
    seed: int = 0
    level: float = 0.95

    def __post_init__(self) -> None:
        if self.n_resamples < 0:
            raise InputError(f"resamples: {self.n_resamples} draws; ask for 0 (no intervals) or more, such as 1000")
        if not 0 < self.level < 1:
            raise InputError(f"level: {self.level:g} is no level of confidence; give one between 0 and 1, such as 0.95")


@dataclass(frozen=True)
class Resampled:
    """A figure of the cases as they are, in every draw, and without each subject in turn."""

    value: float
    draws: Values
    """(n_resamples,); empty where there is nothing to be learnt from draws."""
    left_out: Values
    """(n_subjects,)."""
    level: float

    @property
    def percentile(self) -> tuple[float, float] | None:
        """None where all draws are alike, which tell nothing of how far off the figure is."""
        alike = len(np.unique(self.draws[~np.isnan(self.draws)])) == 1
        return None if alike else percentile_interval(self.draws, self.level)

    @property
    def bca(self) -> tuple[float, float] | None:
        """The percentile interval where BCa is undefined."""
        return bca_interval(self.value, self.draws, self.left_out, self.level) or self.percentile


@dataclass(frozen=True)
class Resampler:
    """The same draws of subjects for every figure of the same cases.

    Args:
        subjects: of every case.
        settings: how many draws, from which seed.
    """

    subjects: Sequence[str]
    settings: Resampling = field(default_factory=Resampling)

    @cached_property
    def _draws(self) -> NDArray[np.int64]:
        rng = np.random.default_rng(self.settings.seed)
        return subject_weights(self.subjects, self.settings.n_resamples, rng)

    @cached_property
    def _left_out(self) -> NDArray[np.bool_]:
        return leave_out_weights(self.subjects)

    @cached_property
    def _alone(self) -> NDArray[np.bool_]:
        return single_subject_weights(self.subjects)

    @property
    def n_subjects(self) -> int:
        return len(set(self.subjects))

    def resample(self, statistic: Statistic) -> Resampled:
        """A figure in every draw.

        There are no draws of a figure that is undefined once some one subject is left out: it hangs on that subject
        alone, and draws would not tell how people differ.
        """
        value, nothing = statistic.value(), np.empty(0)
        if np.isnan(value) or not self.settings.n_resamples:
            return Resampled(value, nothing, nothing, self.settings.level)
        left_out = _in_blocks(statistic, self._left_out)
        draws = nothing if np.isnan(left_out).any() else _in_blocks(statistic, self._draws)
        return Resampled(value, draws, left_out, self.settings.level)

    def of_subjects(self, statistic: Statistic) -> Values:
        """(n_subjects,): a figure of each subject taken alone; NaN where it is undefined."""
        return _in_blocks(statistic, self._alone)

    def figure(self, statistic: Statistic) -> Figure:
        resampled = self.resample(statistic)
        if np.isnan(resampled.value):
            return undefined(statistic.why_none)
        return Figure(value=resampled.value, ci=resampled.bca, ci_percentile=resampled.percentile)


def figures(
    statistics: Mapping[str, Statistic], subjects: Sequence[str], settings: Resampling | None = None
) -> dict[str, Figure]:
    """Every figure with its BCa and percentile interval, from the same draws.

    Args:
        statistics: by name; all of the same cases.
        subjects: (n_cases,), of every case; cases of one subject are drawn together.
        settings: number of draws, seed, level; None for 1,000 draws and 95 %.
    """
    resampler = Resampler(tuple(subjects), settings or Resampling())
    return {name: resampler.figure(statistic) for name, statistic in statistics.items()}


def _in_blocks(statistic: Statistic, weights: NDArray[np.int64] | NDArray[np.bool_]) -> Values:
    n_rows = max(1, CELLS_IN_BLOCK // max(1, weights.shape[1]))
    starts = range(0, len(weights), n_rows)
    return np.concatenate([statistic.of(weights[at : at + n_rows].astype(np.float64)) for at in starts])
