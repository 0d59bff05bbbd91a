"""Figures about the number of lesions of each case, predicted against reference."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cmb_autoseg.evaluation.case_score import CaseScore
from cmb_autoseg.evaluation.metrics.division import divided
from cmb_autoseg.evaluation.metrics.figure import Statistic, Values, Weights, proportion, share
from cmb_autoseg.evaluation.metrics.patient import lesion_counts

__all__ = ["BlandAltman", "bland_altman", "count_statistics", "icc_agreement", "spearman"]

NO_CASE = "no scored case"
MIN_CASES = 3
"""For a correlation; with two it can only be 1, -1 or undefined."""
NORMAL_95 = 1.96
"""Standard deviations to each side of the mean that hold 95 % of a normal distribution, as commonly rounded."""


def count_statistics(cases: Sequence[CaseScore]) -> dict[str, Statistic]:
    """Every figure of the group `count`, by its key; the error of a case is predicted minus reference."""
    counts = lesion_counts(cases).astype(np.float64)
    errors = counts[:, 0] - counts[:, 1]
    one = np.ones(len(cases))
    return {
        "mean_absolute_error": share(np.abs(errors), one, NO_CASE),
        "bias": share(errors, one, NO_CASE),
        "error_sd": _spread_figure(errors, lambda _, sd: sd),
        "limit_of_agreement_low": _spread_figure(errors, lambda mean, sd: mean - NORMAL_95 * sd),
        "limit_of_agreement_high": _spread_figure(errors, lambda mean, sd: mean + NORMAL_95 * sd),
        "exact_count_share": proportion(errors == 0, one, NO_CASE),
        "spearman": spearman(counts),
        "icc": icc_agreement(counts),
    }


@dataclass(frozen=True)
class BlandAltman:
    """Differences over means of two counts (Bland and Altman 1986, Lancet 327:307)."""

    cases: tuple[str, ...]
    mean: NDArray[np.float64]
    """(n_cases,): of predicted and reference count."""
    difference: NDArray[np.float64]
    """(n_cases,): predicted minus reference."""
    bias: float
    """NaN without a case."""
    limits: tuple[float, float]
    """Bias -+ 1.96 standard deviations; NaN with fewer than two cases."""

    def as_json(self) -> dict[str, Any]:
        """Plain lists; a value that is undefined is null."""
        ends = [None if np.isnan(value) else float(value) for value in (self.bias, *self.limits)]
        points = {"mean": self.mean.tolist(), "difference": self.difference.tolist()}
        return {"cases": list(self.cases), **points, "bias": ends[0], "limits": ends[1:]}


def bland_altman(cases: Sequence[CaseScore]) -> BlandAltman:
    counts, figures = lesion_counts(cases).astype(np.float64), count_statistics(cases)
    return BlandAltman(
        cases=tuple(case.case for case in cases),
        mean=counts.mean(axis=1),
        difference=counts[:, 0] - counts[:, 1],
        bias=figures["bias"].value(),
        limits=(figures["limit_of_agreement_low"].value(), figures["limit_of_agreement_high"].value()),
    )


def _spread_figure(errors: NDArray[np.float64], pick: Callable[[Values, Values], Values]) -> Statistic:
    """From the mean and the standard deviation (one degree of freedom less than cases) of the errors."""

    def of(weights: Weights) -> Values:
        n = weights.sum(axis=1)
        mean = divided(weights @ errors, n)
        around = np.sum(weights * (errors - mean[:, None]) ** 2, axis=1)
        return pick(mean, np.sqrt(divided(around, n - 1)))

    return Statistic(of, "fewer than 2 cases", len(errors))


def spearman(ratings: ArrayLike) -> Statistic:
    """Spearman's rank correlation of two columns (n_cases, 2), ties with mean ranks."""
    pairs = np.asarray(ratings, np.float64).reshape(-1, 2)

    def of(weights: Weights) -> Values:
        n = weights.sum(axis=1)
        ranks = [_ranks(weights, pairs[:, side]) for side in (0, 1)]
        # Each rank is taken from its mean before squares are summed: constant sides then give 0, not rounding errors.
        a, b = (rank - divided(np.sum(weights * rank, axis=1), n)[:, None] for rank in ranks)
        together = np.sum(weights * a * b, axis=1)
        alone = np.sqrt(np.sum(weights * a**2, axis=1) * np.sum(weights * b**2, axis=1))
        varied = _varies(weights, pairs[:, 0]) & _varies(weights, pairs[:, 1])
        return np.where(varied & (n >= MIN_CASES), divided(together, alone), np.nan)

    why = f"fewer than {MIN_CASES} cases" if len(pairs) < MIN_CASES else "all cases have the same count on one side"
    return Statistic(of, why, len(pairs))


def icc_agreement(ratings: ArrayLike) -> Statistic:
    """Intraclass correlation ICC(2,1): two-way random effects, absolute agreement, one rating.

    Shrout and Fleiss 1979, Psychological Bulletin 86:420.

    Args:
        ratings: (n_cases, n_raters).
    """
    table = np.asarray(ratings, np.float64)
    k = table.shape[1]

    def of(weights: Weights) -> Values:
        n = weights.sum(axis=1)
        rater_means = divided(weights @ table, n[:, None])
        grand = rater_means.mean(axis=1)
        between_cases = k * np.sum(weights * (table.mean(axis=1) - grand[:, None]) ** 2, axis=1)
        between_raters = n * np.sum((rater_means - grand[:, None]) ** 2, axis=1)
        total = np.sum(weights[:, :, None] * (table - grand[:, None, None]) ** 2, axis=(1, 2))
        residual = np.maximum(total - between_cases - between_raters, 0.0)
        ms_cases, ms_raters = divided(between_cases, n - 1), between_raters / (k - 1)
        ms_residual = divided(residual, (n - 1) * (k - 1))
        spread = ms_cases + (k - 1) * ms_residual + divided(k * (ms_raters - ms_residual), n)
        # Where all counts are equal, all that is left of the sums is rounding.
        some = (n >= MIN_CASES) & (total > 1e-12 * np.maximum(1.0, n * grand**2))
        return np.where(some, divided(ms_cases - ms_residual, spread), np.nan)

    why = f"fewer than {MIN_CASES} cases" if len(table) < MIN_CASES else "all counts are equal"
    return Statistic(of, why, len(table))


def _ranks(weights: Weights, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n_draws, n_cases): rank of each case's value in each draw, up to a constant; equal values share the mean."""
    distinct, place = np.unique(values, return_inverse=True)
    times = weights @ (place[:, None] == np.arange(len(distinct)))
    ranks: NDArray[np.float64] = (np.cumsum(times, axis=1) - times / 2)[:, place]
    return ranks


def _varies(weights: Weights, values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(n_draws,): whether cases with different values are in the draw."""
    drawn = weights > 0
    low = np.min(np.where(drawn, values, np.inf), axis=1, initial=np.inf)
    high = np.max(np.where(drawn, values, -np.inf), axis=1, initial=-np.inf)
    varies: NDArray[np.bool_] = low < high
    return varies
