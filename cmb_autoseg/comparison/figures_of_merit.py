"""Every figure of a comparison, from the counts of cases that are weighted as a draw of the bootstrap says."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.comparison.case_scores import ScoredView
from cmb_autoseg.evaluation.voxel_auc import VoxelHistogram
from cmb_autoseg.inference.operating_points import SWEEP_THRESHOLDS

__all__ = ["FIGURES", "FigureName", "Measured", "chosen_thresholds", "measure"]

FALLBACK = SWEEP_THRESHOLDS.index(0.5)
Weights = NDArray[np.float64]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """The cases of one model in one view, at the threshold that other subjects chose.

    Arrays have one entry a case, in the order of `cases`.
    """

    cases: tuple[str, ...]
    subjects: tuple[str, ...]
    counts: Mapping[str, NDArray[np.float64]]
    """Hits, matched predictions and so on, and 1 for `scans` and for lesion-free `negative_scans`."""
    wins: NDArray[np.float64] | None
    """(n, n): over the lesion voxels of case i and other voxels of case j, how often the first is the more probable,
    ties half. None where histograms are not kept."""

    def value(self, name: str) -> float:
        """A figure of the cases as they are; NaN where it is undefined."""
        return float(self.draws(name, np.ones((1, len(self.cases))))[0])

    def draws(self, name: str, weights: Weights) -> Values:
        """A figure in each draw, (n_draws,); NaN where it is undefined.

        Args:
            name: one of `FIGURES`.
            weights: (n_draws, n_cases), how often each case is in the draw.
        """
        return FIGURES[name](self, np.asarray(weights, np.float64))

    def f1_of_subjects(self) -> dict[str, float]:
        """Mean lesion F1 of each subject's scans; subjects without a lesion have none."""
        of_subject: dict[str, list[float]] = {}
        for index, subject in enumerate(self.subjects):
            only = np.zeros((1, len(self.cases)))
            only[0, index] = 1
            value = float(self.draws("f1", only)[0])
            if not np.isnan(value):
                of_subject.setdefault(subject, []).append(value)
        return {subject: float(np.mean(values)) for subject, values in of_subject.items()}


FigureName = str


def _ratio(part: Values, whole: Values) -> Values:
    result = np.full(len(whole), np.nan)
    np.divide(part, whole, out=result, where=whole > 0)
    return result


def _share(part: str, whole: str) -> Callable[[Measured, Weights], Values]:
    def share(cases: Measured, weights: Weights) -> Values:
        return _ratio(weights @ cases.counts[part], weights @ cases.counts[whole])

    return share


def _precision(cases: Measured, weights: Weights) -> Values:
    matched = weights @ cases.counts["matched_predictions"]
    return _ratio(matched, matched + weights @ cases.counts["false_positives"])


def _f1(cases: Measured, weights: Weights) -> Values:
    """0 where lesions exist and nothing is found; undefined without a lesion."""
    sensitivity = FIGURES["sensitivity"](cases, weights)
    precision = np.nan_to_num(_precision(cases, weights))
    both = sensitivity + precision
    return np.where(np.isnan(sensitivity), np.nan, np.nan_to_num(_ratio(2 * sensitivity * precision, both)))


def _specificity(cases: Measured, weights: Weights) -> Values:
    return 1.0 - _ratio(weights @ cases.counts["voxels_false"], weights @ cases.counts["n_other_voxels"])


def _auc(cases: Measured, weights: Weights) -> Values:
    """Of all voxels of the draw together: wins of a pair of cases count as often as both are drawn."""
    if cases.wins is None:
        return np.full(len(weights), np.nan)
    wins = np.sum((weights @ cases.wins) * weights, axis=1)
    return _ratio(wins, (weights @ cases.counts["n_voxels"]) * (weights @ cases.counts["n_other_voxels"]))


FIGURES: dict[FigureName, Callable[[Measured, Weights], Values]] = {
    "auc": _auc,
    "voxel_sensitivity": _share("voxels_found", "n_voxels"),
    "voxel_specificity": _specificity,
    "sensitivity": _share("hits", "n_lesions"),
    "precision": _precision,
    "f1": _f1,
    "fp_per_scan": _share("false_positives", "scans"),
    "fp_per_negative_scan": _share("negative_false_positives", "negative_scans"),
}
"""`auc` to `voxel_specificity` count brain voxels, the others lesions; all pool the cases."""


def chosen_thresholds(views: Sequence[ScoredView]) -> dict[str, int]:
    """For each subject the threshold that is best for all others: index into `SWEEP_THRESHOLDS`.

    Best is the pooled lesion F1; of several with the same, the one with the fewest false positives, and of
    these the highest. Where nothing can be chosen from, it is 0.5.

    Args:
        views: cases predicted from all their sequences, of one model.
    """
    # (case, what, threshold): hits, matched predictions, false positives.
    curves = np.array(
        [[v.counts.hits, v.counts.matched_predictions, v.counts.false_positives] for v in views], dtype=np.float64
    )
    n_lesions = np.array([view.counts.n_lesions for view in views], dtype=np.float64)
    subjects = np.array([view.row.subject for view in views])
    return {
        subject: _best(curves[subjects != subject].sum(axis=0), n_lesions[subjects != subject].sum())
        for subject in dict.fromkeys(subjects.tolist())
    }


def _best(curves: NDArray[np.float64], n_lesions: float) -> int:
    hits, matched, false = curves
    if n_lesions == 0 or not hits.any():
        return FALLBACK
    sensitivity, precision = hits / n_lesions, _ratio(matched, matched + false)
    f1 = np.nan_to_num(_ratio(2 * sensitivity * precision, np.nan_to_num(sensitivity + precision)))
    rank = np.round(f1, 12)
    return max(range(len(rank)), key=lambda index: (rank[index], -false[index], index))


def measure(views: Sequence[ScoredView], thresholds: Mapping[str, int]) -> Measured:
    """Cases of one model in one view at the thresholds of their subjects.

    Args:
        views: one a case, in any order.
        thresholds: of each subject, as `chosen_thresholds` gives them.
    """
    ordered = sorted(views, key=lambda view: view.row.case)
    at = [thresholds.get(view.row.subject, FALLBACK) for view in ordered]
    counts = {
        name: np.array(
            [getattr(view.counts, name)[index] for view, index in zip(ordered, at, strict=True)], dtype=np.float64
        )
        for name in ("hits", "matched_predictions", "false_positives", "voxels_found", "voxels_false")
    }
    for name in ("n_lesions", "n_voxels", "n_other_voxels"):
        counts[name] = np.array([getattr(view.counts, name) for view in ordered], dtype=np.float64)
    counts["scans"] = np.ones(len(ordered))
    counts["negative_scans"] = (counts["n_lesions"] == 0).astype(np.float64)
    counts["negative_false_positives"] = counts["false_positives"] * counts["negative_scans"]
    return Measured(
        tuple(view.row.case for view in ordered),
        tuple(view.row.subject for view in ordered),
        counts,
        _wins([view.histogram for view in ordered]),
    )


def _wins(histograms: Sequence[VoxelHistogram | None]) -> NDArray[np.float64] | None:
    known = [histogram for histogram in histograms if histogram is not None]
    if not known or len(known) < len(histograms):
        return None
    other = np.stack([histogram.other for histogram in known]).astype(np.float64)
    below = np.cumsum(other, axis=1) - other / 2
    return np.stack([histogram.lesion for histogram in known]).astype(np.float64) @ below.T
