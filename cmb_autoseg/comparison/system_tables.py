"""Tables of recipes as systems: what each finds at the same number of false positives, and what each takes."""

from collections.abc import Sequence

import numpy as np

from cmb_autoseg.comparison.case_scores import TrainingFacts
from cmb_autoseg.comparison.cells import Comparison
from cmb_autoseg.comparison.froc import froc_curve
from cmb_autoseg.comparison.judging import Judge
from cmb_autoseg.comparison.table import POOLED, THRESHOLD, at_largest_budget, counts_of, row_of, table_of, told
from cmb_autoseg.evaluation.metrics.lesion import FROC_POINTS
from cmb_autoseg.inference.operating_points import SWEEP_THRESHOLDS
from cmb_autoseg.reporting.tables import Row, Table

__all__ = ["CURVE", "costs", "froc"]

CURVE = "curve"
"""Key of a row of `froc` that holds its `FrocCurve`, for the picture alone."""
POINT_KEYS = {rate: f"froc_{rate:g}" for rate in FROC_POINTS}


def froc(judge: Judge, comparison: Comparison) -> Table:
    """Sensitivity at fixed rates of false positives."""
    rows: list[Row] = []
    for group in at_largest_budget(comparison):
        row: Row = {"recipe": group.recipe, "state": judge.state(group)}
        if row["state"] is None:
            row |= counts_of(judge.measured(group))
        curve = froc_curve(judge, group) if row["state"] is None else None
        if curve is not None:
            at = curve.at_points()
            row |= {POINT_KEYS[rate]: figure for rate, figure in at.items()}
            row |= {"froc_score": curve.score(), CURVE: curve}
        elif row["state"] is None:
            row["state"] = "no case has a lesion"
        rows.append(row)
    columns = ("recipe", "scans", "lesions", *POINT_KEYS.values(), "froc_score")
    notes = (
        "Lesion sensitivity at the best threshold of each recipe and seed with no more than so many false positives "
        "per scan, and its mean over these rates, from all candidates of the maps ranked by their confidence; no "
        "threshold is held back here. In the picture a line is the mean over seeds; where recipes are few, thin lines "
        "are the seeds, and bands the 95 % intervals.",
        *_swept_note([row["recipe"] for row in rows if CURVE in row and row[CURVE].is_swept]),
        POOLED,
    )
    return table_of("froc", "Sensitivity by false positives per scan (FROC)", columns, rows, notes)


def _swept_note(recipes: Sequence[str]) -> tuple[str, ...]:
    """Of recipes whose scores hold no candidates; none where there are no such recipes."""
    if not recipes:
        return ()
    return (
        f"Of {', '.join(recipes)} some scores are of an earlier version and hold no candidates: the curve is of "
        f"{len(SWEEP_THRESHOLDS)} thresholds, the highest {SWEEP_THRESHOLDS[-1]:g}, and n/a below the lowest rate of "
        "false positives that these reach. To have it from candidates, delete the files of the recipe in scores/ and "
        "repeat the calls of cmb_compare: trained cells are kept and judged again.",
    )


def costs(judge: Judge, comparison: Comparison) -> Table:
    """Size of the network, time of training and of prediction, beside what the recipe finds."""
    figures = ("f1", "fp_per_negative_scan")
    rows: list[Row] = []
    for group in at_largest_budget(comparison):
        row = row_of(judge, group, figures)
        row |= _facts([scores.training for scores in judge.finished(group)])
        rows.append(row)
    columns = ("recipe", "scans", "parameters", "steps", "training_s", "seconds_per_case", *figures)
    sentences = {
        "parameters": "Parameters: of all networks that it takes to predict by one fold.",
        "steps": "Steps: of a fold, at most where a recipe ends early.",
        "training_s": "Training: seconds of a fold, mean over folds and seeds, without those of the models that a "
        "recipe is built on; measured where the cell was trained, with all that ran there beside it.",
        "seconds_per_case": "Seconds per case: of a prepared scan by one fold, from all its sequences, mean over "
        "cases, folds and seeds; without loading the model.",
    }
    notes = (*told(rows, sentences), POOLED, THRESHOLD)
    return table_of("costs", "What each recipe takes", columns, rows, notes)


def _facts(facts: Sequence[TrainingFacts]) -> Row:
    if not facts:
        return {}
    seconds = _mean([fact.training_seconds for fact in facts])
    return {
        "parameters": max(fact.n_parameters for fact in facts),
        "steps": max(fact.steps for fact in facts),
        "training_s": None if seconds is None else round(seconds),
        "seconds_per_case": _mean([fact.seconds_per_case for fact in facts]),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    """None where an earlier version, which did not measure them, has made all."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
