"""Calibration: of candidates with a confidence of 0.8, eight in ten should be right."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.evaluation.case_score import CaseScore
from cmb_autoseg.evaluation.metrics.confidences import NO_CONFIDENCE
from cmb_autoseg.evaluation.metrics.division import divided
from cmb_autoseg.evaluation.metrics.figure import Statistic, Weights
from cmb_autoseg.evaluation.metrics.joint import never, together

__all__ = ["N_BINS", "Reliability", "calibration_statistics", "reliability"]

N_BINS = 10
NO_CANDIDATE = "no candidate"


@dataclass(frozen=True)
class Reliability:
    """Bins of equal width over the confidence, each with its lower end; 1 belongs to the last one."""

    edges: NDArray[np.float64]
    """(n_bins + 1,)"""
    n: NDArray[np.int64]
    """(n_bins,): candidates in each bin."""
    mean_confidence: NDArray[np.float64]
    """(n_bins,); NaN in an empty bin."""
    share_right: NDArray[np.float64]
    """(n_bins,); NaN in an empty bin."""
    why: str | None
    """Why there is no curve; None where there is one."""

    def as_json(self) -> dict[str, Any]:
        """Plain lists; a value of an empty bin is null."""
        shares = {name: getattr(self, name) for name in ("mean_confidence", "share_right")}
        plain = {name: [None if np.isnan(v) else float(v) for v in values] for name, values in shares.items()}
        return {"edges": self.edges.tolist(), "n": self.n.tolist(), **plain, "why": self.why}


def calibration_statistics(cases: Sequence[CaseScore], protocol: str) -> dict[str, Statistic]:
    """Expected and maximal calibration error and Brier score of the candidates' confidence.

    Expected calibration error: Naeini et al. 2015, AAAI, with `N_BINS` bins of equal width.
    """
    sums = _sums(cases, protocol)
    names = ("ece", "maximal_calibration_error", "brier")
    if sums is None:
        return {name: never(NO_CONFIDENCE, len(cases)) for name in names}

    def of(weights: Weights) -> NDArray[np.float64]:
        n, confidence, right, square = np.moveaxis(np.tensordot(weights, sums, axes=1), 1, 0)
        gap, total = np.abs(confidence - right), n.sum(axis=1)
        in_bins = divided(gap, n, 0.0)
        whole = np.stack([gap.sum(axis=1), in_bins.max(axis=1) * total, square.sum(axis=1)], axis=1)
        return divided(whole, total[:, None])

    return together(of, dict.fromkeys(names, NO_CANDIDATE), len(cases))


def reliability(cases: Sequence[CaseScore], protocol: str) -> Reliability:
    """Share of right candidates over their confidence; candidates that are neither right nor wrong are left out."""
    sums, edges = _sums(cases, protocol), np.linspace(0.0, 1.0, N_BINS + 1)
    if sums is None:
        nothing = np.full(N_BINS, np.nan)
        return Reliability(edges, np.zeros(N_BINS, np.int64), nothing, nothing, NO_CONFIDENCE)
    n, confidence, right, _ = sums.sum(axis=0)
    why = None if n.any() else NO_CANDIDATE
    return Reliability(edges, n.astype(np.int64), divided(confidence, n), divided(right, n), why)


def _sums(cases: Sequence[CaseScore], protocol: str) -> NDArray[np.float64] | None:
    """(n_cases, 4, N_BINS): candidates, their confidence, right ones, squared errors; None without any confidence."""
    sums = np.zeros((len(cases), 4, N_BINS))
    known = False
    for own, case in zip(sums, cases, strict=True):
        if case.candidates is None or case.candidates.confidence is None:
            continue
        known = True
        matching = case.candidate_matchings[protocol]
        right = np.zeros(len(case.candidates))
        right[[number - 1 for number in matching.right]] = 1.0
        counted = np.ones(len(right), dtype=bool)
        counted[[number - 1 for number in matching.ignored]] = False
        confidence, right = case.candidates.confidence[counted], right[counted]
        place = np.minimum((confidence * N_BINS).astype(np.int64), N_BINS - 1)
        for row, values in enumerate((np.ones(len(right)), confidence, right, (confidence - right) ** 2)):
            own[row] = np.bincount(place, weights=values, minlength=N_BINS)
    return sums if known else None
