"""The confidences of all cases' candidates under one protocol, ranked."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.evaluation.case_score import CaseScore
from cmb_autoseg.evaluation.metrics.ranking import Ranking, rank

__all__ = ["NO_CONFIDENCE", "RankedCandidates", "mean_probabilities", "n_without_confidence", "ranked_candidates"]

NO_CONFIDENCE = "the predictions have no confidence, so there is nothing to vary a threshold over"


@dataclass(frozen=True)
class RankedCandidates:
    """Reference lesions by the confidence that found them, and false candidates by theirs."""

    ranking: Ranking
    n_reference: NDArray[np.float64]
    """(n_cases,): reference lesions, missed ones included; 0 of cases without confidence, which are left out."""
    has_confidence: NDArray[np.float64]
    """(n_cases,): 1 where the prediction has confidences, else 0."""


def ranked_candidates(cases: Sequence[CaseScore], protocol: str) -> RankedCandidates | None:
    """Of all cases; None where no prediction has a confidence.

    A reference lesion has the highest confidence of the candidates that find it; one that none finds has no score.
    """
    pairs = [case.candidate_confidences(protocol) for case in cases]
    if all(pair is None for pair in pairs):
        return None
    nothing = np.empty(0)
    found = [nothing if pair is None else pair[0][~np.isnan(pair[0])] for pair in pairs]
    false = [nothing if pair is None else pair[1] for pair in pairs]
    n_reference = [0 if pair is None else len(pair[0]) for pair in pairs]
    has_confidence = [pair is not None for pair in pairs]
    return RankedCandidates(rank(found, false), np.array(n_reference, np.float64), np.array(has_confidence, np.float64))


def n_without_confidence(cases: Sequence[CaseScore]) -> int:
    """Cases that are in no curve, as their prediction has no confidence."""
    return sum(case.candidates is None or case.candidates.confidence is None for case in cases)


def mean_probabilities(case: CaseScore, protocol: str) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Mean probabilities of right and of false candidates, and the number of missed reference lesions.

    All empty where the candidates have no mean probability.
    """
    if case.candidates is None or case.candidates.mean_probability is None:
        return np.empty(0), np.empty(0), 0
    matching, mean = case.candidate_matchings[protocol], case.candidates.mean_probability
    right = np.zeros(len(mean), dtype=bool)
    right[[number - 1 for number in matching.right]] = True
    false = ~right
    false[[number - 1 for number in matching.ignored]] = False
    return mean[right], mean[false], len(case.reference) - len(matching.found)
