"""P values of a family of tests, corrected for how many they are."""

from collections.abc import Sequence
from typing import Literal

from statsmodels.stats.multitest import multipletests

__all__ = ["benjamini_hochberg", "holm"]


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment, which bounds the chance of any false finding; None stays None and does not count.

    Holm 1979, Scandinavian Journal of Statistics 6:65.
    """
    return _adjusted(p_values, "holm")


def benjamini_hochberg(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjustment that bounds the expected share of false ones among the findings; None stays None, does not count.

    Benjamini and Hochberg 1995, Journal of the Royal Statistical Society B 57:289.
    """
    return _adjusted(p_values, "fdr_bh")


def _adjusted(p_values: Sequence[float | None], method: Literal["holm", "fdr_bh"]) -> list[float | None]:
    tested = [p for p in p_values if p is not None]
    if not tested:
        return [None] * len(p_values)
    adjusted = iter(multipletests(tested, method=method)[1].tolist())
    return [None if p is None else next(adjusted) for p in p_values]
