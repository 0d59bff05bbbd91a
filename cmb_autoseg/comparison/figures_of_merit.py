"""Every figure of a comparison, from the counts of cases that are weighted as a draw of the bootstrap says."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.comparison.case_scores import ScoredView
from cmb_autoseg.evaluation.metrics.voxel_histogram import areas_under_curve, wins_of_pairs
from cmb_autoseg.inference.operating_points import NO_CASES, Sweep, counting_threshold, ratio

__all__ = ["FIGURES", "FigureName", "Measured", "chosen_thresholds", "measure"]

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
    """(n, n), of `voxel_histogram.wins_of_pairs`; None where histograms are not kept."""

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

    def n_defining(self, name: str) -> int:
        """Number of subjects of whom, each taken alone, a figure is defined."""
        names = list(dict.fromkeys(self.subjects))
        alone = np.array([[subject == name for subject in self.subjects] for name in names])
        return int(np.count_nonzero(~np.isnan(self.draws(name, alone))))

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


def _share(part: str, whole: str) -> Callable[[Measured, Weights], Values]:
    def share(cases: Measured, weights: Weights) -> Values:
        return ratio(weights @ cases.counts[part], weights @ cases.counts[whole])

    return share


def _precision(cases: Measured, weights: Weights) -> Values:
    matched = weights @ cases.counts["matched_predictions"]
    return ratio(matched, matched + weights @ cases.counts["false_positives"])


def _f1(cases: Measured, weights: Weights) -> Values:
    """0 where lesions exist and nothing is found; undefined without a lesion."""
    sensitivity = FIGURES["sensitivity"](cases, weights)
    precision = np.nan_to_num(_precision(cases, weights))
    both = sensitivity + precision
    return np.where(np.isnan(sensitivity), np.nan, np.nan_to_num(ratio(2 * sensitivity * precision, both)))


def _specificity(cases: Measured, weights: Weights) -> Values:
    return 1.0 - ratio(weights @ cases.counts["voxels_false"], weights @ cases.counts["n_other_voxels"])


def _auc(cases: Measured, weights: Weights) -> Values:
    if cases.wins is None:
        return np.full(len(weights), np.nan)
    return areas_under_curve(cases.wins, cases.counts["n_voxels"], cases.counts["n_other_voxels"], weights)


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


def chosen_thresholds(views: Sequence[ScoredView], judged: Iterable[str] = ()) -> dict[str, int]:
    """For each subject the threshold that is best for all others: index into `SWEEP_THRESHOLDS`.

    Best is what the operating point `counting` is by the pooled cases of the others; where these have no lesion,
    or none is found, it is 0.5.

    Args:
        views: cases predicted from all their sequences, of one model.
        judged: subjects that need a threshold, too, though they have no such view.
    """
    of_subject: dict[str, Sweep] = dict.fromkeys(judged, NO_CASES)
    for view in views:
        of_subject[view.row.subject] = of_subject.get(view.row.subject, NO_CASES) + view.counts
    everyone = sum(of_subject.values(), NO_CASES)
    return {subject: counting_threshold(everyone - own) for subject, own in of_subject.items()}


def measure(views: Sequence[ScoredView], thresholds: Mapping[str, int]) -> Measured:
    """Cases of one model in one view at the thresholds of their subjects.

    Args:
        views: one a case, in any order.
        thresholds: of each subject, as `chosen_thresholds` gives them.
    """
    ordered = sorted(views, key=lambda view: view.row.case)
    histograms = [view.histogram for view in ordered if view.histogram is not None]
    at = [thresholds[view.row.subject] for view in ordered]
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
        wins_of_pairs(histograms) if histograms and len(histograms) == len(ordered) else None,
    )
