"""One number of a report, and what it is worked out by: a function of how often each case is in a draw."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import model_serializer

from cmb_autoseg.records import Record

__all__ = ["Figure", "Statistic", "Values", "Weights", "mean_of_defined", "proportion", "share", "undefined"]

Weights = NDArray[np.float64]
"""(n_draws, n_cases): how often each case is in each draw; all ones for the cases as they are."""
Values = NDArray[np.float64]
"""(n_draws,); NaN where a figure is undefined."""


class Figure(Record):
    """One number of a report, or the reason why there is none."""

    value: float | None
    ci: tuple[float, float] | None = None
    """95 % confidence interval, by BCa where nothing else is said; None where not computed."""
    ci_percentile: tuple[float, float] | None = None
    why: str | None = None

    @model_serializer
    def _as_json(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"value": self.value, "ci": self.ci}
        if self.ci_percentile is not None:
            shown["ci_percentile"] = self.ci_percentile
        return shown if self.value is not None else {**shown, "why": self.why}


def undefined(why: str) -> Figure:
    return Figure(value=None, why=why)


@dataclass(frozen=True)
class Statistic:
    """A figure as a function of weights, so that the value, its interval and a paired test come from one formula."""

    of: Callable[[Weights], Values]
    why_none: str
    """Why it has no value where it is undefined, such as `no reference lesion`."""
    n_cases: int
    trials: NDArray[np.float64] | None = None
    """(n_cases,): of a share of items, each of which counts or does not, how many each case has; None of others."""

    def value(self) -> float:
        """For the cases as they are; NaN where undefined."""
        return float(self.of(np.ones((1, self.n_cases)))[0])


def share(part: ArrayLike, whole: ArrayLike, why_none: str) -> Statistic:
    """Pooled ratio: sum of `part` over sum of `whole`, (n_cases,) each; undefined where the latter is 0."""
    parts, wholes = np.asarray(part, np.float64), np.asarray(whole, np.float64)

    def of(weights: Weights) -> Values:
        above, below = weights @ parts, weights @ wholes
        shares: Values = np.divide(above, below, out=np.full(len(weights), np.nan), where=below > 0)
        return shares

    return Statistic(of, why_none, len(parts))


def proportion(part: ArrayLike, whole: ArrayLike, why_none: str) -> Statistic:
    """A share of items, each of which counts or does not: lesions found, people called ill; so it lies in 0..1."""
    return replace(share(part, whole, why_none), trials=np.asarray(whole, np.float64))


def mean_of_defined(values: ArrayLike, why_none: str) -> Statistic:
    """Mean over cases of their own value, (n_cases,); cases without one (NaN) are left out."""
    own = np.asarray(values, np.float64)
    return share(np.nan_to_num(own), ~np.isnan(own), why_none)
