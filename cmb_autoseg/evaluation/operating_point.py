"""The threshold of a test, from other cases than those that are tested."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.case_score import CaseScore
from cmb_autoseg.records import OperatingPoint

__all__ = ["RULES", "ThresholdRule", "choose_threshold", "read_threshold", "refuse_no_validation"]

RULES = ("best-f1", "sensitivity-0.9", "fp-1")
"""Examples of the three kinds of rules, as the user writes them."""
RULE = re.compile(r"(?P<kind>best-f1|sensitivity-|fp-)(?P<number>\d*\.?\d+)?")
TIE = 1e-12
"""Differences of a figure below this are rounding."""
BELOW_ONE = float(np.nextafter(1.0, 0.0))
"""Cuts 32-bit probabilities as 1 does; thresholds are below 1."""


@dataclass(frozen=True)
class ThresholdRule:
    """How a threshold is chosen on validation cases."""

    kind: str
    """`best-f1`, `sensitivity` or `fp`."""
    goal: float = 0.0
    """Least sensitivity, or most false positives per scan."""

    @property
    def name(self) -> str:
        return self.kind if self.kind == "best-f1" else f"{self.kind}-{self.goal:g}"

    @property
    def told(self) -> str:
        if self.kind == "best-f1":
            return "best pooled lesion F1"
        if self.kind == "sensitivity":
            return f"highest threshold with lesion sensitivity of at least {self.goal:g}"
        return f"lowest threshold with at most {self.goal:g} false positives per scan"


def read_threshold(text: str) -> float | ThresholdRule:
    """What `--threshold` says: a number fixed before the test, or a rule for validation cases.

    Raises:
        InputError: neither.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if 0 < value < 1:
        return value
    match = RULE.fullmatch(text)
    if match is not None and (match["kind"] == "best-f1") == (match["number"] is None):
        rule = ThresholdRule(match["kind"].rstrip("-"), float(match["number"] or 0))
        if rule.kind != "sensitivity" or 0 < rule.goal <= 1:
            return rule
    legal = f"a number strictly between 0 and 1 such as 0.35, or a rule: {', '.join(RULES)} with any number"
    if text == "youden":
        raise InputError(
            "--threshold youden: lesions have no specificity, since there is no countable non-lesion; give " + legal
        )
    raise InputError(f"--threshold: found {text!r}, expected {legal}")


def refuse_no_validation(rule: ThresholdRule) -> NoReturn:
    """Where a rule is given without validation cases.

    Raises:
        InputError: always.
    """
    raise InputError(
        f"--threshold {rule.name}: a threshold chosen on the cases that it is judged by flatters; choose it on others "
        "with --validation PRED REF, or give a number that was fixed before"
    )


def choose_threshold(rule: ThresholdRule, cases: Sequence[CaseScore], protocol: str) -> OperatingPoint:
    """Choose the threshold of lesion confidences on validation cases.

    A reference lesion is found at a threshold when a candidate that belongs to it is at least as confident; a
    candidate that belongs to none is a false positive there. Thresholds that are tried are the confidences themselves;
    of several with the best F1 the highest one is taken.

    Args:
        rule: which threshold.
        cases: of validation, with candidates; none of them may be a test case (see `refuse_judged_cases`).
        protocol: by which candidates were matched.

    Returns:
        The point with what was measured on these cases; `rule` says how it was chosen and on how many cases.

    Raises:
        InputError: predictions without confidence, no reference lesion, no candidate, or a goal that is not reached.
    """
    sweep = _sweep(rule, cases, protocol)
    chosen = _CHOICES[rule.kind](rule, sweep)
    found = f"on {len(cases)} validation cases with {sweep.n_lesions} lesions, matched by {protocol}"
    return OperatingPoint(
        name=rule.name,
        threshold=min(float(sweep.thresholds[chosen]), BELOW_ONE),
        rule=f"{rule.told}, {found}",
        sensitivity=float(sweep.sensitivity[chosen]),
        precision=float(sweep.precision[chosen]),
        f1=float(sweep.f1[chosen]),
        fp_per_scan=float(sweep.fp_per_scan[chosen]),
    )


@dataclass(frozen=True)
class _Sweep:
    """Figures pooled over cases at each confidence that occurs, rising; arrays are (n_thresholds,)."""

    thresholds: NDArray[np.float64]
    sensitivity: NDArray[np.float64]
    precision: NDArray[np.float64]
    fp_per_scan: NDArray[np.float64]
    n_lesions: int

    @property
    def f1(self) -> NDArray[np.float64]:
        total = self.sensitivity + self.precision
        return np.divide(2 * self.sensitivity * self.precision, total, out=np.zeros(len(total)), where=total > 0)


def _sweep(rule: ThresholdRule, cases: Sequence[CaseScore], protocol: str) -> _Sweep:
    found, right, false = [np.zeros(0)], [np.zeros(0)], [np.zeros(0)]
    for case in cases:
        pair = case.candidate_confidences(protocol)
        if pair is None or case.candidates is None or case.candidates.confidence is None:
            raise InputError(
                f"--threshold {rule.name}: the validation prediction of {case.case} has no probabilities or scores to "
                "choose from; give those, or a threshold as a number"
            )
        found.append(pair[0])
        false.append(pair[1])
        matched = sorted(case.candidate_matchings[protocol].right)
        right.append(case.candidates.confidence[[number - 1 for number in matched]])
    of_lesions, of_right, of_false = (np.concatenate(part) for part in (found, right, false))
    if not len(of_lesions):
        raise InputError(
            f"--threshold {rule.name}: no reference lesion in {len(cases)} validation cases, so no threshold can be "
            "chosen; add cases with lesions"
        )
    thresholds = np.unique(np.concatenate([of_right, of_false]))
    thresholds = thresholds[thresholds > 0]
    if not len(thresholds):
        raise InputError(
            f"--threshold {rule.name}: nothing is predicted in {len(cases)} validation cases, so no threshold can be "
            "chosen; give a number"
        )
    n_found, n_right, n_false = (_at_least(values, thresholds) for values in (of_lesions, of_right, of_false))
    return _Sweep(
        thresholds,
        sensitivity=n_found / len(of_lesions),
        precision=n_right / (n_right + n_false),
        fp_per_scan=n_false / len(cases),
        n_lesions=len(of_lesions),
    )


def _at_least(values: NDArray[np.float64], thresholds: NDArray[np.float64]) -> NDArray[np.int64]:
    """(n_thresholds,): how many of the values (n,) are at or above each threshold; NaN are not."""
    rising = np.sort(values[~np.isnan(values)])
    return len(rising) - np.searchsorted(rising, thresholds, side="left")


def _best_f1(rule: ThresholdRule, sweep: _Sweep) -> int:
    if sweep.f1.max() <= 0:
        raise InputError(f"--threshold {rule.name}: no validation lesion is found at any threshold; give a number")
    return int(np.flatnonzero(sweep.f1 >= sweep.f1.max() - TIE)[-1])


def _for_sensitivity(rule: ThresholdRule, sweep: _Sweep) -> int:
    enough = np.flatnonzero(sweep.sensitivity >= rule.goal - TIE)
    if not len(enough):
        raise InputError(
            f"--threshold {rule.name}: the validation cases reach a sensitivity of {sweep.sensitivity.max():.3g} at "
            "most; give a lower one"
        )
    return int(enough[-1])


def _for_false_positives(rule: ThresholdRule, sweep: _Sweep) -> int:
    few = np.flatnonzero(sweep.fp_per_scan <= rule.goal + TIE)
    if not len(few):
        raise InputError(
            f"--threshold {rule.name}: at the highest confidence there are already {sweep.fp_per_scan[-1]:.3g} false "
            "positives per scan of validation; give more"
        )
    return int(few[0])


_CHOICES: Mapping[str, Callable[[ThresholdRule, _Sweep], int]] = {
    "best-f1": _best_f1,
    "sensitivity": _for_sensitivity,
    "fp": _for_false_positives,
}
