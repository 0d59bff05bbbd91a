"""How many cases a study needs to tell two areas under ROC curves apart, and what a finished study could have told."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.statistics.area_variance import VarianceModel, covariance_of_areas, variance_of_area
from cmb_autoseg.evaluation.statistics.delong import delong_covariance, stacked
from cmb_autoseg.records import Record

__all__ = ["AreaStudy", "RetrospectivePower", "retrospective_power"]

MOST_POSITIVE = 10**7
"""Positive cases at which the search for a sufficient study gives up."""


@dataclass(frozen=True)
class AreaStudy:
    """A study that is to tell two areas under ROC curves apart, planned.

    Raises:
        InputError: areas that are equal or not between 0 and 1, a correlation that is not from 0 to below 1, and the
            like.
    """

    first: float
    """Area of the system that there is."""
    second: float
    """Area of the other system, which the study must be able to tell from the first one's."""
    correlation: float = 0.0
    """Of two systems on the same cases; 0 where each has as many cases of its own. `hanley_mcneil`: of the areas;
    the other models: of the scores, among positive and among negative cases."""
    negatives_per_positive: float = 1.0
    alpha: float = 0.05
    sides: Literal[1, 2] = 2
    variance: VarianceModel = "binormal"
    null: Literal["as_found", "both_first"] = "as_found"
    """Variance that the test divides by: the one of the two areas, as DeLong's test estimates it; or the one of two
    areas that are both the first, as the published tables have it."""

    def __post_init__(self) -> None:
        for name, area in (("first", self.first), ("second", self.second)):
            if not 0 < area < 1:
                raise InputError(f"{name} area: {area:g}; give one between 0 and 1")
        if self.first == self.second:
            raise InputError(f"areas: both are {self.first:g}; no study can tell them apart")
        if not 0 <= self.correlation < 1:
            raise InputError(f"correlation: {self.correlation:g}; give one from 0 (other cases) to below 1")
        if not self.negatives_per_positive > 0:
            raise InputError(f"negatives per positive: {self.negatives_per_positive:g}; give a number above 0")
        if not 0 < self.alpha < 1:
            raise InputError(f"alpha: {self.alpha:g}; give a level between 0 and 1, such as 0.05")

    def power(self, n_positive: float) -> float:
        """Chance that the test finds the difference, with this many positive cases (of each system, if unpaired)."""
        found = sqrt(self._variance(self.first, self.second, n_positive))
        null = found if self.null == "as_found" else sqrt(self._variance(self.first, self.first, n_positive))
        return _chance(abs(self.first - self.second), found, null, self.alpha, self.sides)

    def n_positive(self, power: float = 0.8) -> int:
        """Least number of positive cases (of each system, if unpaired) with which the test has this power.

        Raises:
            InputError: a power that is not between alpha and 1, or that ten million positive cases do not reach.
        """
        if not self.alpha < power < 1:
            raise InputError(f"power: {power:g}; give one between alpha ({self.alpha:g}) and 1, such as 0.8")
        if self.power(MOST_POSITIVE) < power:
            raise InputError(
                f"power {power:g}: not reached by {MOST_POSITIVE} positive cases; ask for a larger difference"
            )
        low, high = 1, MOST_POSITIVE
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self.power(middle) >= power else (middle + 1, high)
        return low

    def n_negative(self, n_positive: int) -> int:
        """That go with them."""
        return ceil(n_positive * self.negatives_per_positive)

    def _variance(self, first: float, second: float, n_positive: float) -> float:
        """Of the difference of two areas."""
        n_negative = n_positive * self.negatives_per_positive
        single = [variance_of_area(area, n_positive, n_negative, self.variance) for area in (first, second)]
        return sum(single) - 2 * covariance_of_areas(
            first, second, n_positive, n_negative, self.correlation, self.variance
        )


class RetrospectivePower(Record):
    """What a finished study of two areas on the same cases could have told, with DeLong's covariances."""

    difference: float
    """First area less second."""
    standard_error: float
    alpha: float
    power: float
    """Chance that a study of this size finds a true difference of the observed size. It says no more than the p value
    does (Hoenig and Heisey 2001, American Statistician 55:19); `detectable_difference` tells what it could do."""
    target_power: float
    detectable_difference: float
    """Least true difference that a study of this size finds with the target power."""
    n_positive: int
    n_negative: int
    n_positive_needed: int | None
    """For the target power at the observed difference, as many negative cases a positive one as here; None where the
    areas are equal, or where there is no variance."""
    n_negative_needed: int | None


def retrospective_power(
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    truth: ArrayLike,
    subjects: Sequence[Hashable] | None = None,
    alpha: float = 0.05,
    target_power: float = 0.8,
) -> RetrospectivePower:
    """Power of DeLong's paired, two-sided test in a finished study, and the cases that another one would need.

    Args:
        scores_a: (n_cases,), of the first system.
        scores_b: (n_cases,), of the second one.
        truth: (n_cases,), whether a case is positive.
        subjects: (n_cases,), of every case, where a subject has several.
        alpha: level of the test.
        target_power: that the study should have had.

    Raises:
        InputError: as `delong_covariance`, or a target power that is not between alpha and 1.
    """
    if not 0 < alpha < target_power < 1:
        raise InputError(f"alpha {alpha:g}, target power {target_power:g}; give 0 < alpha < power < 1, as 0.05 and 0.8")
    areas, covariance = delong_covariance(stacked(scores_a, scores_b), truth, subjects)
    difference, contrast = float(areas[0] - areas[1]), np.array([1.0, -1.0])
    error = sqrt(max(0.0, float(contrast @ covariance @ contrast)))
    detectable = float(norm.isf(alpha / 2) + norm.ppf(target_power)) * error
    n_positive = int(np.asarray(truth, bool).sum())
    n_negative = np.asarray(truth).size - n_positive
    more = (detectable / difference) ** 2 if difference and error else None
    return RetrospectivePower(
        difference=difference,
        standard_error=error,
        alpha=alpha,
        power=_chance(abs(difference), error, error, alpha, 2) if error else float(difference != 0),
        target_power=target_power,
        detectable_difference=detectable,
        n_positive=n_positive,
        n_negative=n_negative,
        n_positive_needed=None if more is None else ceil(n_positive * more),
        n_negative_needed=None if more is None else ceil(n_negative * more),
    )


def _chance(difference: float, error: float, null_error: float, alpha: float, sides: int) -> float:
    """Chance that a normal estimate is significant on the true difference's side."""
    return float(norm.sf((norm.isf(alpha / sides) * null_error - difference) / error))
