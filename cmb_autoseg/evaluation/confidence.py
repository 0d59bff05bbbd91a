"""Which cases of a system have confidences, as curves need, and whether curves of two systems are of the same cases."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cmb_autoseg.evaluation.case_score import CaseScore
from cmb_autoseg.evaluation.inputs.folders import listed

__all__ = ["confident_everywhere", "doubts_of_confidence", "doubts_of_counts", "without_hollow_confidence"]

UNSURE = 0.5
"""Detectors keep boxes far below it for their curves, and nobody would call these findings."""


def without_hollow_confidence(cases: Sequence[CaseScore]) -> tuple[CaseScore, ...]:
    """Take confidence from empty predictions of a system that never has any.

    An empty list has no score to lack, so it looks confident; curves of a system whose lists have no scores would be
    drawn from its empty lists alone.
    """
    mute = any(case.candidates is None and len(case.predicted) for case in cases)
    speaks = any(case.candidates is not None and len(case.candidates) for case in cases)
    if mute and not speaks:
        return tuple(_mute(case) for case in cases)
    return tuple(cases)


def confident_everywhere(systems: Sequence[Sequence[CaseScore]]) -> list[tuple[CaseScore, ...]]:
    """Take confidence from cases of which some system has none, so that curves of all systems are of the same cases.

    Systems that have none at all, such as plain masks, have no curves and silence no others.

    Args:
        systems: their cases, in the same order.
    """
    speaking = [cases for cases in systems if any(case.candidates is not None for case in cases)]
    both = [all(case.candidates is not None for case in same) for same in zip(*speaking, strict=True)]
    return [
        tuple(case if keep else _mute(case) for case, keep in zip(cases, both, strict=True))
        if any(case.candidates is not None for case in cases)
        else tuple(cases)
        for cases in systems
    ]


def doubts_of_confidence(cases: Sequence[CaseScore], threshold: float | None) -> tuple[str, ...]:
    """Warnings: cases that are not in the curves though others are, and a threshold that could not be applied."""
    without = [case.case for case in cases if case.candidates is None]
    if not without:
        return ()
    doubts = []
    if threshold is not None:
        doubts.append(
            f"--threshold {threshold:g} could not be applied to {listed(without)}, which have no probabilities or "
            "scores; they are scored as they are"
        )
    if len(without) < len(cases):
        doubts.append(
            f"{listed(without)}: no probabilities or scores, while other cases have them; not in curves and what is "
            "read from these (name probability maps <case>_prob.nii.gz)"
        )
    return tuple(doubts)


def doubts_of_counts(cases: Sequence[CaseScore]) -> tuple[str, ...]:
    """A warning where points or boxes of all scores are counted, as a detector writes them: no threshold was given."""
    scores = [case.predicted.confidence for case in cases if case.predicted.kind != "mask" and len(case.predicted)]
    known = np.concatenate([values for values in scores if values is not None] or [np.zeros(0)])
    n_unsure = int(np.count_nonzero(known < UNSURE))
    if not n_unsure:
        return ()
    return (
        f"no threshold: every prediction counts, and scores begin at {known.min():.2g} ({n_unsure:,} of {len(known):,} "
        f"below {UNSURE:g}), so false positives and counts are of all of them; give --threshold for a count, such as "
        f"{UNSURE:g} or the model's operating point (curves and average precision need none)",
    )


def _mute(case: CaseScore) -> CaseScore:
    return replace(case, candidates=None, candidate_matchings={})
