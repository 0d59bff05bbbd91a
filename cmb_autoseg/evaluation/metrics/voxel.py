"""Figures about voxels: overlap, rates and volumes over whole images."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.evaluation.case_score import CaseScore
from cmb_autoseg.evaluation.metrics.division import divided
from cmb_autoseg.evaluation.metrics.figure import Statistic, Values, Weights, mean_of_defined, share
from cmb_autoseg.evaluation.metrics.joint import never
from cmb_autoseg.evaluation.metrics.voxel_histogram import areas_under_curve

__all__ = ["NO_EXTENT", "case_dice", "n_without_voxels", "voxel_statistics"]

NO_EXTENT = "no case has voxels on both sides (points and boxes have none)"
NOTHING_MARKED = "no voxel marked"
ALL_MARKED = "no voxel outside the marked ones"
NOTHING_AT_ALL = "no voxel marked or predicted"


def n_without_voxels(cases: Sequence[CaseScore]) -> int:
    """Cases that no figure of this group counts, as a side of theirs has no voxels."""
    return sum(case.voxels is None for case in cases)


def case_dice(cases: Sequence[CaseScore]) -> NDArray[np.float64]:
    """(n_cases,): Dice of each case; 0 where only one side is empty, NaN where both are or a side has no voxels."""
    tp, fp, fn, _ = _voxels(cases).T
    return divided(2 * tp, 2 * tp + fp + fn)


def voxel_statistics(
    cases: Sequence[CaseScore], protocol: str, wins: NDArray[np.float64] | None = None
) -> dict[str, Statistic]:
    """Every figure of the group `voxel`, by its key.

    Args:
        cases: those without voxels on both sides are left out; `n_without_voxels` counts them.
        protocol: whose pairs `dice_of_hits` is about.
        wins: (n_cases, n_cases), columns of `voxel_auc.count_wins` in the order of `cases`; the row and the column of
            a case without a probability map are NaN. None where no case has one.
    """
    tp, fp, fn, tn = _voxels(cases).T
    statistics = {
        "dice": share(2 * tp, 2 * tp + fp + fn, NOTHING_AT_ALL),
        "one_minus_dice": share(fp + fn, 2 * tp + fp + fn, NOTHING_AT_ALL),
        "dice_per_case_mean": mean_of_defined(case_dice(cases), NOTHING_AT_ALL),
        "dice_of_hits": _dice_of_hits(cases, protocol),
        "jaccard": share(tp, tp + fp + fn, NOTHING_AT_ALL),
        "precision": share(tp, tp + fp, "no voxel predicted"),
        "recall": share(tp, tp + fn, NOTHING_MARKED),
        "specificity": share(tn, tn + fp, ALL_MARKED),
        "false_positive_rate": share(fp, tn + fp, ALL_MARKED),
        "accuracy": share(tp + tn, tp + fp + fn + tn, "no voxel"),
        "auc": _auc(cases, wins),
        **_volume_statistics(cases),
    }
    if cases and n_without_voxels(cases) == len(cases):
        return {key: never(NO_EXTENT, len(cases)) for key in statistics}
    return statistics


def _voxels(cases: Sequence[CaseScore]) -> NDArray[np.float64]:
    """(n_cases, 4): true positive, false positive, false negative, true negative; zeros of cases without voxels."""
    rows = np.zeros((len(cases), 4))
    for row, case in zip(rows, cases, strict=True):
        if (own := case.voxels) is not None:
            row[:] = own.true_positive, own.false_positive, own.false_negative, own.true_negative
    return rows


def _dice_of_hits(cases: Sequence[CaseScore], protocol: str) -> Statistic:
    own = [[pair.dice for pair in case.matchings[protocol].pairs if pair.dice is not None] for case in cases]
    return share([sum(values) for values in own], [len(values) for values in own], "no lesion was found")


def _volume_statistics(cases: Sequence[CaseScore]) -> dict[str, Statistic]:
    tp, fp, fn, _ = _voxels(cases).T
    voxel_mm3 = np.array([case.voxel_volume_mm3 or np.nan for case in cases], np.float64)
    known = np.array([case.voxels is not None for case in cases], dtype=bool) & ~np.isnan(voxel_mm3)
    voxel_mm3 = np.where(known, voxel_mm3, 0.0)
    more, reference = (fp - fn) * voxel_mm3, (tp + fn) * voxel_mm3
    return {
        "volume_difference_mean": share(more, known, "no case whose voxels have a known volume"),
        "absolute_volume_difference_mean": share(np.abs(more), known, "no case whose voxels have a known volume"),
        "relative_volume_difference": share(more, reference, NOTHING_MARKED),
    }


def _auc(cases: Sequence[CaseScore], wins: NDArray[np.float64] | None) -> Statistic:
    counted_voxels = np.array([case.voxels is not None for case in cases], dtype=bool)
    known = counted_voxels if wins is None else counted_voxels & ~np.isnan(np.diagonal(wins))
    if wins is None or not known.any():
        marked = any(_voxels(cases)[:, [0, 2]].ravel())
        return never("no case has a probability map" if marked else NOTHING_MARKED, len(cases))
    tp, fp, fn, tn = _voxels(cases).T * known
    counted = np.where(known[:, None] & known[None, :], wins, 0.0)

    def of(weights: Weights) -> Values:
        return areas_under_curve(counted, tp + fn, fp + tn, weights)

    return Statistic(of, ALL_MARKED if (tp + fn).any() else NOTHING_MARKED, len(cases))
