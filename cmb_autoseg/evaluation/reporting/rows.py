"""Scored cases and their lesions as rows of tables."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cmb_autoseg.evaluation.case_score import CaseScore, Pair
from cmb_autoseg.evaluation.matching.lesion_set import LesionSet
from cmb_autoseg.evaluation.metrics.lesion import case_f1
from cmb_autoseg.evaluation.metrics.voxel import case_dice

__all__ = ["CASE_COLUMNS", "FAILURE_COLUMNS", "MATCH_COLUMNS", "case_rows", "match_rows"]

CASE_COLUMNS = (
    "case",
    "subject",
    "n_reference",
    "n_predicted",
    "hits",
    "misses",
    "false_positives",
    "ignored",
    "sensitivity",
    "precision",
    "f1",
    "dice",
    "count_error",
    "highest_confidence",
    "seconds",
)
MATCH_COLUMNS = (
    "case",
    "kind",
    "reference",
    "predicted",
    "x_mm",
    "y_mm",
    "z_mm",
    "region",
    "distance_mm",
    "overlap",
    "iou",
    "volume_mm3",
    "diameter_mm",
    "predicted_volume_mm3",
    "prob_max",
    "prob_mean",
)
FAILURE_COLUMNS = ("case", "reason")


def case_rows(cases: Sequence[CaseScore], protocol: str) -> list[dict[str, Any]]:
    """One row a scored case, columns `CASE_COLUMNS`."""
    own_f1, own_dice = case_f1(cases, protocol), case_dice(cases)
    return [_case_row(case, protocol, f1, dice) for case, f1, dice in zip(cases, own_f1, own_dice, strict=True)]


def _case_row(case: CaseScore, protocol: str, f1: float, dice: float) -> dict[str, Any]:
    found, right, false = case.counts(protocol)
    n_reference, counted = len(case.reference), right + false
    confidence = None if case.candidates is None else case.candidates.confidence
    return {
        "case": case.case,
        "subject": case.subject,
        "n_reference": n_reference,
        "n_predicted": len(case.predicted),
        "hits": found,
        "misses": n_reference - found,
        "false_positives": false,
        "ignored": len(case.matchings[protocol].ignored),
        "sensitivity": found / n_reference if n_reference else None,
        "precision": right / counted if counted else None,
        "f1": _known(f1),
        "dice": _known(dice),
        "count_error": len(case.predicted) - n_reference,
        "highest_confidence": None if confidence is None else float(confidence.max(initial=0.0)),
        "seconds": case.seconds,
    }


def match_rows(cases: Sequence[CaseScore], protocol: str) -> list[dict[str, Any]]:
    """One row a reference lesion, and one a predicted lesion that finds none; columns `MATCH_COLUMNS`."""
    return [row for case in cases for row in _match_rows(case, protocol)]


def _match_rows(case: CaseScore, protocol: str) -> Iterator[dict[str, Any]]:
    matching = case.matchings[protocol]
    pairs: dict[int, list[Pair]] = {}
    for pair in matching.pairs:
        pairs.setdefault(pair.reference, []).append(pair)
    for number in range(1, len(case.reference) + 1):
        own = pairs.get(number)
        yield {
            "case": case.case,
            "kind": "hit" if own else "miss",
            "reference": number,
            **_place(case.reference, number),
            **(_of_pairs(own, case.predicted) if own else {}),
        }
    for number in range(1, len(case.predicted) + 1):
        if number not in matching.right:
            kind = "ignored" if number in matching.ignored else "false_positive"
            row = {"case": case.case, "kind": kind, "predicted": number}
            yield {**row, **_place(case.predicted, number), **_of_prediction(case.predicted, number)}


def _place(lesions: LesionSet, number: int) -> dict[str, Any]:
    x_mm, y_mm, z_mm = map(float, lesions.centres_mm[number - 1])
    return {
        "x_mm": x_mm,
        "y_mm": y_mm,
        "z_mm": z_mm,
        "region": lesions.regions[number - 1],
        "volume_mm3": _known(lesions.volumes_mm3[number - 1]),
        "diameter_mm": _known(lesions.diameters_mm[number - 1]),
    }


def _of_pairs(pairs: Sequence[Pair], predicted: LesionSet) -> dict[str, Any]:
    best = pairs[0]
    return {
        "predicted": ";".join(str(pair.predicted) for pair in pairs),
        "distance_mm": best.distance_mm,
        "overlap": best.overlap,
        "iou": best.iou,
        **_of_prediction(predicted, best.predicted),
    }


def _of_prediction(lesions: LesionSet, number: int) -> dict[str, Any]:
    known = {"predicted_volume_mm3": _known(lesions.volumes_mm3[number - 1])}
    for column, values in (("prob_max", lesions.confidence), ("prob_mean", lesions.mean_probability)):
        known[column] = None if values is None else float(values[number - 1])
    return known


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
