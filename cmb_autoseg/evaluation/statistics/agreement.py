"""How far raters agree beyond chance."""

from collections.abc import Hashable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm
from statsmodels.stats.inter_rater import cohens_kappa
from statsmodels.stats.inter_rater import fleiss_kappa as fleiss_kappa_of_table

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.metrics.figure import Figure, Statistic, Values, Weights, undefined

__all__ = ["KappaWeights", "cohen_kappa", "cohen_statistic", "fleiss_kappa", "fleiss_statistic"]

KappaWeights = Literal["none", "linear", "quadratic"]
"""Whether a disagreement counts the same whatever its size, as its distance in classes, or as the square of it."""

WHY_NO_KAPPA = "all judgements are in one class"
ROUNDING = 1e-9
"""Disagreement expected by chance that is none but for the order of additions."""


def cohen_kappa(
    first: Sequence[Hashable],
    second: Sequence[Hashable],
    classes: Sequence[Hashable],
    weights: KappaWeights = "none",
    level: float = 0.95,
) -> Figure:
    """Cohen's kappa of two raters who judged the same, independent items.

    The interval is asymptotic (Fleiss, Cohen and Everitt 1969, Psychological Bulletin 72:323). Where items come in
    groups, as findings of one case do, take `cohen_statistic` and draws of the groups.

    Args:
        first: (n_items,), class of each item by one rater.
        second: by the other one.
        classes: all there are, in their order.
        weights: how disagreements count (Cohen 1968, Psychological Bulletin 70:213).
        level: of the interval.

    Raises:
        InputError: raters of different numbers of items, or a class that is none.
    """
    table = _table(first, second, classes)
    kappa = cohen_statistic(table[None], weights).value()
    if np.isnan(kappa):
        return undefined(WHY_NO_KAPPA)
    found = cohens_kappa(table, wt=None if weights == "none" else weights)
    reach = float(norm.ppf((1 + level) / 2) * found.std_kappa)
    return Figure(value=kappa, ci=(kappa - reach, min(1.0, kappa + reach)) if reach > 0 else None)


def cohen_statistic(tables: ArrayLike, weights: KappaWeights = "none") -> Statistic:
    """Cohen's kappa as a function of how often each group of items counts.

    Args:
        tables: (n_groups, n_classes, n_classes), of each group the number of items by the two raters' classes.
        weights: how disagreements count.
    """
    counts = np.asarray(tables, np.float64)
    apart = np.abs(np.subtract.outer(np.arange(counts.shape[1]), np.arange(counts.shape[1])))
    cost = {"none": np.minimum(apart, 1), "linear": apart, "quadratic": apart**2}[weights]

    def of(weights: Weights) -> Values:
        drawn = np.tensordot(weights, counts, axes=1)
        seen = (drawn * cost).sum(axis=(1, 2)) * drawn.sum(axis=(1, 2))
        by_chance = np.einsum("di,dj,ij->d", drawn.sum(axis=2), drawn.sum(axis=1), cost)
        return _beyond_chance(seen, by_chance)

    return Statistic(of, WHY_NO_KAPPA, len(counts))


def fleiss_kappa(judgements: ArrayLike) -> float:
    """Fleiss' kappa of several raters of the same items (Fleiss 1971, Psychological Bulletin 76:378).

    Args:
        judgements: (n_items, n_classes), how many raters put each item into each class; the same number of raters
            judged every item.

    Returns:
        NaN where all judgements are in one class.
    """
    counts = np.asarray(judgements, np.int64)
    if np.count_nonzero(counts.sum(axis=0)) < 2:
        return float("nan")
    return float(fleiss_kappa_of_table(counts, method="fleiss"))


def fleiss_statistic(judgements: ArrayLike, groups: ArrayLike, n_groups: int) -> Statistic:
    """Fleiss' kappa as a function of how often each group of items counts.

    Args:
        judgements: (n_items, n_classes), as `fleiss_kappa` has them; two raters or more.
        groups: (n_items,), number of each item's group, from 0.
        n_groups: groups without an item included.
    """
    counts, group = np.asarray(judgements, np.float64), np.asarray(groups, np.intp)
    n_raters = counts.sum(axis=1)
    agreeing = (counts * (counts - 1)).sum(axis=1) / (n_raters * (n_raters - 1))
    sums = np.stack([np.bincount(group, of, minlength=n_groups) for of in (agreeing, np.ones(len(group)))])
    of_class = np.stack([np.bincount(group, of, minlength=n_groups) for of in (counts / n_raters[:, None]).T])

    def of(weights: Weights) -> Values:
        agreed, n_items = weights @ sums[0], weights @ sums[1]
        by_chance = ((weights @ of_class.T) ** 2).sum(axis=1)
        return _beyond_chance((n_items - agreed) * n_items, n_items**2 - by_chance)

    return Statistic(of, WHY_NO_KAPPA if len(group) else "no item was judged by all raters", n_groups)


def _beyond_chance(seen: NDArray[np.float64], by_chance: NDArray[np.float64]) -> Values:
    """1 less disagreement seen over disagreement expected by chance; NaN where none is to be expected."""
    kappa: Values = 1 - np.divide(seen, by_chance, out=np.full(len(seen), np.nan), where=by_chance > ROUNDING)
    return kappa


def _table(first: Sequence[Hashable], second: Sequence[Hashable], classes: Sequence[Hashable]) -> NDArray[np.int64]:
    if len(first) != len(second):
        raise InputError(f"kappa: {len(first)} and {len(second)} items; both raters judge the same ones")
    number = {name: index for index, name in enumerate(classes)}
    if strange := [name for name in (*first, *second) if name not in number]:
        raise InputError(f"kappa: class {strange[0]}; there are {', '.join(map(str, classes))}")
    table = np.zeros((len(number), len(number)), dtype=np.int64)
    np.add.at(table, ([number[name] for name in first], [number[name] for name in second]), 1)
    return table
