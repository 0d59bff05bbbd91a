"""Tables of cases: the best and the worst, seconds."""

from collections.abc import Sequence

import numpy as np

from cmb_autoseg.evaluation.case_score import CaseScore
from cmb_autoseg.evaluation.metrics.lesion import case_f1
from cmb_autoseg.reporting.tables import Row, Table

__all__ = ["N_SHOWN", "best_cases", "best_worst", "seconds_table", "told", "worst_cases"]

N_SHOWN = 3
"""Cases of either kind."""


def worst_cases(cases: Sequence[CaseScore], protocol: str, n: int = N_SHOWN) -> list[CaseScore]:
    """Lowest lesion F1 first, ties by most errors (misses and false positives), then by name; none without an error.

    A case that has no reference lesion but false positives counts as 0.
    """
    f1 = np.nan_to_num(case_f1(cases, protocol))
    wrong = [(own, case) for own, case in zip(f1, cases, strict=True) if _errors(case, protocol)]
    ranked = sorted(wrong, key=lambda pair: (pair[0], -_errors(pair[1], protocol), pair[1].case))
    return [case for _, case in ranked[:n]]


def best_cases(cases: Sequence[CaseScore], protocol: str, n: int = N_SHOWN) -> list[CaseScore]:
    """All lesions found and nothing false, most lesions first, ties by name; none without a lesion."""
    right = [case for case in cases if len(case.reference) and not _errors(case, protocol)]
    return sorted(right, key=lambda case: (-len(case.reference), case.case))[:n]


def _errors(case: CaseScore, protocol: str) -> int:
    found, _, false = case.counts(protocol)
    return len(case.reference) - found + false


def told(case: CaseScore, protocol: str) -> str:
    """Its counts in a sentence."""
    found, _, false = case.counts(protocol)
    lesions, positives = _plural(len(case.reference), "reference lesion"), _plural(false, "false positive")
    return f"{found} of {lesions} found, {positives}."


def _plural(n: int, thing: str) -> str:
    return f"{n} {thing}{'' if n == 1 else 's'}"


def best_worst(cases: Sequence[CaseScore], protocol: str) -> Table:
    chosen = {"worst": worst_cases(cases, protocol), "best": best_cases(cases, protocol)}
    rows = tuple(_row(kind, case, protocol) for kind, own in chosen.items() for case in own)
    columns = {
        "kind": "standing",
        "case": "case",
        "reference": "reference lesions",
        "found": "found",
        "missed": "missed",
        "false": "false positives",
        "f1": "lesion F1",
    }
    note = (
        "Worst: lowest lesion F1 of the case (0 for false positives without a reference lesion), ties by most misses "
        "and false positives together; best: everything found and nothing false, most lesions first; further ties by "
        f"name, {N_SHOWN} of each at most."
    )
    return Table("best_worst", "Best and worst cases", columns, rows, (note,))


def _row(kind: str, case: CaseScore, protocol: str) -> Row:
    found, _, false = case.counts(protocol)
    n, f1 = len(case.reference), float(case_f1([case], protocol)[0])
    counts = {"reference": n, "found": found, "missed": n - found, "false": false}
    return {"kind": kind, "case": case.case, **counts, "f1": None if np.isnan(f1) else f1}


def seconds_table(cases: Sequence[CaseScore]) -> Table:
    """Seconds that predictions took, where their run says so."""
    seconds = np.array([case.seconds for case in cases if case.seconds is not None], np.float64)
    rows: tuple[Row, ...] = ()
    if len(seconds):
        low, middle, high = np.percentile(seconds, (25, 50, 75))
        told_as = {"n": len(seconds), "median": float(middle), "low": float(low), "high": float(high)}
        rows = (
            {**told_as, "mean": float(seconds.mean()), "least": float(seconds.min()), "most": float(seconds.max())},
        )
    columns = {
        "n": "cases",
        "median": "median, s",
        "low": "lower quartile, s",
        "high": "upper quartile, s",
        "mean": "mean, s",
        "least": "least, s",
        "most": "most, s",
    }
    return Table("seconds", "Seconds per case", columns, rows)
