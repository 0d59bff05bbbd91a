"""Curves over all thresholds: FROC, precision and recall, ROC of lesions and of patients, with bands."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.evaluation.case_score import CaseScore
from cmb_autoseg.evaluation.metrics.confidences import (
    NO_CONFIDENCE,
    mean_probabilities,
    n_without_confidence,
    ranked_candidates,
)
from cmb_autoseg.evaluation.metrics.division import divided
from cmb_autoseg.evaluation.metrics.figure import Weights
from cmb_autoseg.evaluation.metrics.joint import in_blocks
from cmb_autoseg.evaluation.metrics.lesion import NO_LESION
from cmb_autoseg.evaluation.metrics.patient import RULES, patient_ranking
from cmb_autoseg.evaluation.metrics.ranking import Ranking, at_most, rank

__all__ = [
    "FROC_GRID",
    "RATE_GRID",
    "Band",
    "Curve",
    "Froc",
    "PrecisionRecall",
    "Roc",
    "froc",
    "lesion_roc",
    "patient_roc",
    "precision_recall",
]

FROC_GRID = np.geomspace(0.125, 8.0, 49)
"""False positives per scan at which the band of an FROC curve is worked out: eight to a doubling."""
RATE_GRID = np.linspace(0.0, 1.0, 51)


@dataclass(frozen=True)
class Band:
    """Where the middle 95 % of draws lie, at fixed places of the horizontal axis."""

    x: NDArray[np.float64]
    """(n,)"""
    low: NDArray[np.float64]
    """(n,); NaN where fewer than half of the draws have a value."""
    high: NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """One point for each threshold, from the highest on."""

    thresholds: NDArray[np.float64]
    n_left_out: int
    """Cases without confidence, which are not in the curve."""
    why: str | None
    """Why there is no curve; None where there is one."""
    band: Band | None

    def as_json(self) -> dict[str, Any]:
        """Plain lists; a value that is not finite is null."""
        return _as_json(self)


@dataclass(frozen=True)
class Froc(Curve):
    """Free-response receiver operating characteristic (Bunch et al. 1978)."""

    fp_per_scan: NDArray[np.float64]
    sensitivity: NDArray[np.float64]


@dataclass(frozen=True)
class PrecisionRecall(Curve):
    """Precision over recall of lesions."""

    recall: NDArray[np.float64]
    precision: NDArray[np.float64]


@dataclass(frozen=True)
class Roc(Curve):
    """Receiver operating characteristic; it begins at (0, 0) with an infinite threshold."""

    false_positive_rate: NDArray[np.float64]
    sensitivity: NDArray[np.float64]


def froc(cases: Sequence[CaseScore], protocol: str, weights: Weights | None = None) -> Froc:
    """Sensitivity over false positives per scan; a band over `FROC_GRID` where weights (n_draws, n_cases) are given."""
    ranked = ranked_candidates(cases, protocol)
    if ranked is None:
        return Froc(_NONE, len(cases), NO_CONFIDENCE, None, _NONE, _NONE)
    if not ranked.n_reference.any():
        return Froc(_NONE, n_without_confidence(cases), NO_LESION, None, _NONE, _NONE)
    right, false = (counts[0] for counts in ranked.ranking.counts(np.ones((1, len(cases)))))
    short = ranked.ranking.shortened

    def in_draws(draws: Weights) -> NDArray[np.float64]:
        found = at_most(*short.counts(draws), np.outer(draws @ ranked.has_confidence, FROC_GRID))
        return divided(found, (draws @ ranked.n_reference)[:, None])

    return Froc(
        thresholds=ranked.ranking.thresholds,
        n_left_out=n_without_confidence(cases),
        why=None,
        band=_band(FROC_GRID, in_draws, weights, short),
        fp_per_scan=false / ranked.has_confidence.sum(),
        sensitivity=right / ranked.n_reference.sum(),
    )


def precision_recall(cases: Sequence[CaseScore], protocol: str, weights: Weights | None = None) -> PrecisionRecall:
    """Precision over recall; in the band, at each recall the best precision of any threshold that reaches it.

    The band ends where the curve does; a draw in which no threshold reaches a recall has precision 0 there.
    """
    ranked = ranked_candidates(cases, protocol)
    if ranked is None:
        return PrecisionRecall(_NONE, len(cases), NO_CONFIDENCE, None, _NONE, _NONE)
    if not ranked.n_reference.any():
        return PrecisionRecall(_NONE, n_without_confidence(cases), NO_LESION, None, _NONE, _NONE)
    right, false = (counts[0] for counts in ranked.ranking.counts(np.ones((1, len(cases)))))
    short = ranked.ranking.shortened
    end = right[-1] / ranked.n_reference.sum() if len(right) else 0.0
    grid = np.append(RATE_GRID[: np.searchsorted(RATE_GRID, end - 1e-12)], end)

    def in_draws(draws: Weights) -> NDArray[np.float64]:
        found, wrong = short.counts(draws)
        recall = divided(found, (draws @ ranked.n_reference)[:, None])
        best = np.maximum.accumulate(divided(found, found + wrong, 0.0)[:, ::-1], axis=1)[:, ::-1]
        padded = np.concatenate([best, np.zeros((len(draws), 1))], axis=1)  # where no threshold reaches the recall
        reached = np.stack([own[np.searchsorted(at, grid - 1e-12)] for own, at in zip(padded, recall, strict=True)])
        return np.where((draws @ ranked.n_reference > 0)[:, None], reached, np.nan)

    return PrecisionRecall(
        thresholds=ranked.ranking.thresholds,
        n_left_out=n_without_confidence(cases),
        why=None,
        band=_band(grid, in_draws, weights, short),
        recall=right / ranked.n_reference.sum(),
        precision=right / (right + false),
    )


def lesion_roc(cases: Sequence[CaseScore], protocol: str, weights: Weights | None = None) -> Roc:
    """Right against false candidates by mean probability; its area is `lesion.auc`."""
    scores = [mean_probabilities(case, protocol) for case in cases]
    known = [case.candidates is not None and case.candidates.mean_probability is not None for case in cases]
    if not any(known):
        return _no_roc(NO_CONFIDENCE, len(cases))
    ranking = rank([own[0] for own in scores], [own[1] for own in scores])
    return _roc(ranking, known.count(False), "no right or no false candidate", len(cases), weights)


def patient_roc(cases: Sequence[CaseScore], rule: str = "any", weights: Weights | None = None) -> Roc:
    """Cases that have as many lesions as the rule asks for against the others; its area is the rule's `auc`."""
    ranking = patient_ranking(cases, RULES[rule])
    if ranking is None:
        return _no_roc(NO_CONFIDENCE, len(cases))
    return _roc(ranking, n_without_confidence(cases), "all cases are on one side of the rule", len(cases), weights)


def _roc(ranking: Ranking, n_left_out: int, why_none: str, n_cases: int, weights: Weights | None) -> Roc:
    right, false = (np.concatenate([[0.0], counts[0]]) for counts in ranking.counts(np.ones((1, n_cases))))
    if right[-1] == 0 or false[-1] == 0:
        return _no_roc(why_none, n_left_out)

    short = ranking.shortened

    def in_draws(draws: Weights) -> NDArray[np.float64]:
        corner = np.zeros((len(draws), 1))
        found, wrong = (np.concatenate([corner, counts], axis=1) for counts in short.counts(draws))
        all_right, all_false = found[:, -1:], wrong[:, -1:]
        rates = divided(found, all_right), divided(wrong, all_false)
        # Where the curve rises upright, np.interp takes its top.
        return np.stack([np.interp(RATE_GRID, x, y) for y, x in zip(*rates, strict=True)])

    return Roc(
        thresholds=np.concatenate([[np.inf], ranking.thresholds]),
        n_left_out=n_left_out,
        why=None,
        band=_band(RATE_GRID, in_draws, weights, short),
        false_positive_rate=false / false[-1],
        sensitivity=right / right[-1],
    )


_NONE = np.empty(0)


def _no_roc(why: str, n_left_out: int) -> Roc:
    return Roc(_NONE, n_left_out, why, None, _NONE, _NONE)


def _band(
    x: NDArray[np.float64],
    in_draws: Callable[[Weights], NDArray[np.float64]],
    weights: Weights | None,
    ranking: Ranking,
) -> Band | None:
    """From the 2.5th to the 97.5th percentile of the draws at each place of `x`."""
    if weights is None or len(weights) == 0:
        return None
    heights = in_blocks(in_draws, weights, len(ranking.thresholds))
    ends = np.full((2, len(x)), np.nan)
    often = np.count_nonzero(~np.isnan(heights), axis=0) >= max(1.0, len(heights) / 2)
    ends[:, often] = np.nanquantile(heights[:, often], [0.025, 0.975], axis=0)
    return Band(x, *ends)


def _as_json(part: Curve | Band) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return [float(number) if np.isfinite(number) else None for number in value]
        return _as_json(value) if isinstance(value, Band) else value

    return {field.name: plain(getattr(part, field.name)) for field in fields(part)}
