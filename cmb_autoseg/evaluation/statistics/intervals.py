"""Figures with their confidence intervals, all of a report from the same draws of subjects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.metrics.figure import Figure, Statistic, Values, undefined
from cmb_autoseg.evaluation.statistics.bootstrap import (
    MIN_SUBJECTS,
    N_RESAMPLES,
    ROUNDING,
    all_alike,
    bca_interval,
    leave_out_weights,
    percentile_interval,
    share_interval,
    single_subject_weights,
    subject_weights,
)

__all__ = ["Resampled", "Resampler", "Resampling", "figures"]

CELLS_IN_BLOCK = 2**20
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
        return None if all_alike(self.draws) else percentile_interval(self.draws, self.level)

    @property
    def bca(self) -> tuple[float, float] | None:
        """The percentile interval where BCa is undefined; None where that is, too."""
        if self.percentile is None:
            return None
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

    def resample(self, statistics: Mapping[str, Statistic]) -> dict[str, Resampled]:
        """Figures in every draw.

        There are no draws of a figure that is undefined once some one subject is left out: it hangs on that subject
        alone, and draws would not tell how people differ.
        """
        values = {name: statistic.value() for name, statistic in statistics.items()}
        left_out = self._of_weights(
            statistics, self._left_out, [n for n, value in values.items() if not np.isnan(value)]
        )
        draws = self._of_weights(statistics, self._draws, [n for n, own in left_out.items() if not np.isnan(own).any()])
        nothing = np.empty(0)
        return {
            name: Resampled(value, draws.get(name, nothing), left_out.get(name, nothing), self.settings.level)
            for name, value in values.items()
        }

    def n_bearing(self, *statistics: Statistic) -> int:
        """Subjects who have one of these figures by themselves, or without whom it changes."""
        named = {str(number): statistic for number, statistic in enumerate(statistics)}
        alone, left_out = self.of_subjects(named), self._of_weights(named, self._left_out, list(named))
        bearing = [
            ~np.isnan(alone[name]) | ~np.isclose(left_out[name], statistic.value(), rtol=ROUNDING, atol=ROUNDING)
            for name, statistic in named.items()
        ]
        return int(np.any(bearing, axis=0).sum())

    def of_subjects(self, statistics: Mapping[str, Statistic]) -> dict[str, Values]:
        """(n_subjects,) by name: figures of each subject taken alone; NaN where undefined."""
        return self._of_weights(statistics, self._alone, list(statistics))

    def figures(self, statistics: Mapping[str, Statistic]) -> dict[str, Figure]:
        """Every figure with its BCa and percentile interval; shares of people have Wilson's for BCa."""
        return {
            name: undefined(statistics[name].why_none)
            if np.isnan(found.value)
            else Figure(
                value=found.value,
                ci=self._of_share(statistics[name], found.value) or found.bca,
                ci_percentile=found.percentile,
            )
            for name, found in self.resample(statistics).items()
        }

    def _of_share(self, statistic: Statistic, value: float) -> tuple[float, float] | None:
        """Of a share with one trial a subject, which takes few values in draws, and of one that is 0 or 1 in all draws.

        Of several items a subject, all count at most as often as one does, so one trial a subject is cautious there.
        """
        if statistic.trials is None or not self.settings.n_resamples:
            return None
        trials = dict.fromkeys(self.subjects, 0.0)
        for subject, n in zip(self.subjects, statistic.trials, strict=True):
            trials[subject] += n
        n_subjects = sum(n > 0 for n in trials.values())
        one_each = max(trials.values()) <= 1
        if n_subjects < MIN_SUBJECTS or not (one_each or value in (0.0, 1.0)):
            return None
        method: Literal["wilson", "exact"] = "wilson" if one_each else "exact"
        return share_interval(round(value * n_subjects), n_subjects, self.settings.level, method)

    def _of_weights(
        self, statistics: Mapping[str, Statistic], weights: NDArray[np.int64] | NDArray[np.bool_], names: list[str]
    ) -> dict[str, Values]:
        """All figures of a block before the next block, as figures that share their work remember the last weights."""
        n_rows = max(1, CELLS_IN_BLOCK // max(1, weights.shape[1]))
        blocks: dict[str, list[Values]] = {name: [] for name in names}
        for start in range(0, len(weights), n_rows):
            block = weights[start : start + n_rows].astype(np.float64)
            for name in names:
                blocks[name].append(statistics[name].of(block))
        return {name: np.concatenate(found) if found else np.empty(0) for name, found in blocks.items()}


def figures(
    statistics: Mapping[str, Statistic], subjects: Sequence[str], settings: Resampling | None = None
) -> dict[str, Figure]:
    """Every figure with its BCa and percentile interval, from the same draws.

    Args:
        statistics: by name; all of the same cases.
        subjects: (n_cases,), of every case; cases of one subject are drawn together.
        settings: number of draws, seed, level; None for 1,000 draws and 95 %.
    """
    return Resampler(tuple(subjects), settings or Resampling()).figures(statistics)
