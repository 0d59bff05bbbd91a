"""How much areas under ROC curves would vary between studies, from a model of the scores."""

from math import exp
from typing import Literal, assert_never

from scipy.stats import multivariate_normal, norm

__all__ = ["VarianceModel", "covariance_of_areas", "variance_of_area"]

VarianceModel = Literal["binormal", "hanley_mcneil", "obuchowski"]
"""`binormal`: the empirical area of normal scores of equal variance, exactly (Bamber 1975, Journal of Mathematical
Psychology 12:387). `hanley_mcneil`: the same of exponential scores (Hanley and McNeil 1982, Radiology 143:29), the
covariance by a correlation of the areas (the same 1983, Radiology 148:839). `obuchowski`: an area fitted to binormal
ratings (Obuchowski and McClish 1997, Statistics in Medicine 16:1529), cautious for scores that are no ratings."""


def variance_of_area(area: float, n_positive: float, n_negative: float, model: VarianceModel) -> float:
    """Of one area between studies of this size."""
    if model == "hanley_mcneil":
        same_positive, same_negative = area / (2 - area), 2 * area**2 / (1 + area)
        return (
            area * (1 - area)
            + (n_positive - 1) * (same_positive - area**2)
            + (n_negative - 1) * (same_negative - area**2)
        ) / (n_positive * n_negative)
    if model == "obuchowski":
        a, ratio = _binormal(area), n_negative / n_positive
        return 0.0099 * exp(-(a**2) / 2) * ((5 * a**2 + 8) + (a**2 + 8) / ratio) / n_positive
    if model == "binormal":
        return covariance_of_areas(area, area, n_positive, n_negative, 1.0, model)
    assert_never(model)


def covariance_of_areas(
    first: float, second: float, n_positive: float, n_negative: float, correlation: float, model: VarianceModel
) -> float:
    """Of two areas of the same cases; 0 where the correlation is.

    Args:
        first: area of one system.
        second: area of the other one.
        n_positive: positive cases.
        n_negative: negative cases.
        correlation: `hanley_mcneil`: of the areas; else of the scores, among positive and among negative cases.
        model: of the scores.
    """
    if model == "hanley_mcneil":
        single = [variance_of_area(area, n_positive, n_negative, model) for area in (first, second)]
        return float(correlation * (single[0] * single[1]) ** 0.5)
    if model == "obuchowski":
        a, b, ratio = _binormal(first), _binormal(second), n_negative / n_positive
        height = exp(-(a**2 + b**2) / 4)
        means = height / 12.5664 * (correlation + correlation / ratio + correlation**2 * a * b / 2)
        spreads = height / 50.2655 * a * b * (correlation**2 + ratio * correlation**2) / (2 * ratio)
        return (means + spreads) / n_positive
    if model == "binormal":
        # Two pairs of cases share the positive case, the negative one, or both.
        return (
            _excess(first, second, correlation)
            + (n_positive + n_negative - 2) * _excess(first, second, correlation / 2)
        ) / (n_positive * n_negative)
    assert_never(model)


def _binormal(area: float) -> float:
    """Distance of the means of two normal distributions of variance 1 that have this area."""
    return float(2**0.5 * norm.ppf(area))


def _excess(first: float, second: float, correlation: float) -> float:
    """Chance that both pairs are ranked rightly, beyond that of independent ones."""
    limits, matrix = norm.ppf([first, second]), [[1.0, correlation], [correlation, 1.0]]
    return float(multivariate_normal.cdf(limits, cov=matrix, allow_singular=True)) - first * second
