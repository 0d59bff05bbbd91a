"""Thresholds with a reason: chosen on out-of-fold predictions, named, and carried by the model."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.matching.match import match_components
from cmb_autoseg.evaluation.matching.protocols import Protocol
from cmb_autoseg.geometry import Volume, check_same_grid, mask_box
from cmb_autoseg.lesions.components import find_components
from cmb_autoseg.records import OperatingPoint

__all__ = [
    "NO_CASES",
    "SWEEP_COLUMNS",
    "SWEEP_THRESHOLDS",
    "ScoredCase",
    "Sweep",
    "count_case",
    "counting_threshold",
    "is_number",
    "points_of",
    "ratio",
    "resolve_operating_point",
    "sweep_thresholds",
    "weakness",
]

SWEEP_THRESHOLDS = (*(round(0.02 * step, 2) for step in range(1, 50)), 0.99)
"""0.02 to 0.98 in steps of 0.02, and 0.99, where the probabilities of confident networks crowd."""

SWEEP_COLUMNS = (
    "threshold",
    "sensitivity",
    "precision",
    "f1",
    "fp_per_scan",
    "voxel_sensitivity",
    "voxel_specificity",
)
SCREENING_SENSITIVITY = 0.90
WEAK_F1 = 0.5
FALLBACK = SWEEP_THRESHOLDS.index(0.5)
TIE = 1e-12
"""Differences of a figure below this are rounding."""


@dataclass(frozen=True)
class ScoredCase:
    """One case with the probabilities of a model that was not trained on it.

    All three are on one grid; `brain` is None where voxels are to be counted in the whole image.
    """

    name: str
    probability: Volume
    reference: Volume
    brain: NDArray[np.bool_] | None = None
    """(i, j, k)."""


@dataclass(frozen=True)
class Sweep:
    """Counts pooled over cases at each of `SWEEP_THRESHOLDS`; every array has one entry a threshold."""

    n_cases: int
    n_lesions: int
    hits: NDArray[np.int64]
    matched_predictions: NDArray[np.int64]
    false_positives: NDArray[np.int64]
    voxels_found: NDArray[np.int64]
    """Reference voxels at or above the threshold."""
    voxels_false: NDArray[np.int64]
    """Other brain voxels at or above the threshold."""
    n_voxels: int
    """Reference voxels."""
    n_other_voxels: int
    """Brain voxels that are no reference voxels."""

    def __add__(self, more: "Sweep") -> "Sweep":
        return Sweep(*(getattr(self, part.name) + getattr(more, part.name) for part in fields(Sweep)))

    def __sub__(self, part_of_it: "Sweep") -> "Sweep":
        return Sweep(*(getattr(self, part.name) - getattr(part_of_it, part.name) for part in fields(Sweep)))

    @property
    def sensitivity(self) -> NDArray[np.float64]:
        """Of lesions."""
        return self.hits / self.n_lesions

    @property
    def precision(self) -> NDArray[np.float64]:
        """Of predicted lesions; NaN where none is predicted."""
        return ratio(self.matched_predictions, self.matched_predictions + self.false_positives)

    @property
    def f1(self) -> NDArray[np.float64]:
        """Harmonic mean of sensitivity and precision; 0 where nothing is found."""
        precision = np.nan_to_num(self.precision)
        return np.nan_to_num(ratio(2 * self.sensitivity * precision, self.sensitivity + precision))

    @property
    def fp_per_scan(self) -> NDArray[np.float64]:
        return self.false_positives / self.n_cases

    @property
    def voxel_sensitivity(self) -> NDArray[np.float64]:
        return self.voxels_found / self.n_voxels

    @property
    def voxel_specificity(self) -> NDArray[np.float64]:
        """Inside the brain; 1 where the brain is nothing but lesion."""
        return 1 - np.nan_to_num(ratio(self.voxels_false, np.full_like(self.voxels_false, self.n_other_voxels)))

    def rows(self) -> list[dict[str, Any]]:
        """One row a threshold, columns `SWEEP_COLUMNS`; an undefined precision is None."""
        columns = {name: getattr(self, name) for name in SWEEP_COLUMNS if name != "threshold"}
        return [
            {
                "threshold": threshold,
                **{name: None if np.isnan(values[n]) else float(values[n]) for name, values in columns.items()},
            }
            for n, threshold in enumerate(SWEEP_THRESHOLDS)
        ]


_NONE = np.zeros(len(SWEEP_THRESHOLDS), dtype=np.int64)
NO_CASES = Sweep(0, 0, _NONE, _NONE, _NONE, _NONE, _NONE, 0, 0)


def ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    """Entry by entry, (n,); NaN where the whole is not over 0."""
    result = np.full(len(part), np.nan)
    np.divide(part, whole, out=result, where=whole > 0)
    return result


def sweep_thresholds(cases: Iterable[ScoredCase], protocol: Protocol) -> Sweep:
    """Count hits and false positives at every threshold; one case is in memory at a time.

    Raises:
        InputError: there is no case, or no reference lesion in any case.
        GeometryError: probability and reference of a case are not on one grid.
    """
    total = NO_CASES
    for case in cases:
        total = total + count_case(case, protocol)
    if not total.n_lesions:
        raise InputError(
            f"operating points: no reference lesion in {total.n_cases} validation cases, so no threshold can be "
            "chosen; add labelled cases with lesions"
        )
    return total


def count_case(case: ScoredCase, protocol: Protocol) -> Sweep:
    """The counts of one case, which may be without lesions.

    Raises:
        GeometryError: probability and reference are not on one grid.
    """
    check_same_grid(case.probability, case.reference, "predict on the grid of the reference")
    marked = case.reference.data > 0
    # (threshold, what): hits, matched predictions, false positives.
    lesions = np.zeros((len(SWEEP_THRESHOLDS), 3), dtype=np.int64)
    n_lesions = _add_lesions(lesions, case.probability, marked, protocol)
    brain = marked if case.brain is None else marked | case.brain
    others = ~marked if case.brain is None else brain & ~marked
    voxels = (_count_at_thresholds(case.probability.data[side]) for side in (marked, others))
    return Sweep(1, n_lesions, *lesions.T, *voxels, *(int(np.count_nonzero(side)) for side in (marked, others)))


def _count_at_thresholds(values: NDArray[Any]) -> NDArray[np.int64]:
    """How many of the values (n,) are at or above each threshold."""
    # In the values' own type, so that 0.98 here is the 0.98 that a mask is cut at.
    thresholds = np.asarray(SWEEP_THRESHOLDS, dtype=values.dtype)
    passed = np.bincount(np.searchsorted(thresholds, values, side="right"), minlength=len(thresholds) + 1)
    return passed[::-1].cumsum()[::-1][1:]


def _add_lesions(counts: NDArray[np.int64], probability: Volume, marked: NDArray[np.bool_], protocol: Protocol) -> int:
    """Add one case's hits, matched predictions and false positives to `counts`; return its lesions."""
    window = mask_box((probability.data >= SWEEP_THRESHOLDS[0]) | marked)
    if window is None:
        return 0
    values = probability.data[window]
    # The box keeps the image's affine: both sides are shifted alike, and only distances matter.
    grid = Volume(values, probability.affine)
    reference = find_components(marked[window])
    row, n_before = np.zeros(3, dtype=np.int64), 0
    for n, threshold in enumerate(SWEEP_THRESHOLDS):
        mask = values >= threshold
        n_inside = int(np.count_nonzero(mask))
        # Masks of rising thresholds are nested: as many voxels are the same voxels.
        if n_inside != n_before:
            predicted = find_components(mask)
            matching = match_components(predicted, reference, grid, protocol)
            n_right = len(matching.right)
            n_false = len(predicted) - n_right - len(matching.ignored)
            row = np.array([len(matching.found), n_right, n_false])
            n_before = n_inside
        counts[n] += row
    return len(reference)


def points_of(sweep: Sweep, judged: str = "out-of-fold predictions") -> tuple[OperatingPoint, ...]:
    """The three named thresholds of a sweep, each with what was measured there.

    `counting` has the best pooled lesion F1; of several, the middle of the longest run of
    neighbouring thresholds that share it, since its surroundings are as good. `screening` is the
    highest threshold with a lesion sensitivity of at least 0.90, or else with the best that is reached.
    `youden` has the best sensitivity + specificity - 1 (Youden 1950) of voxels inside the brain:
    specificity needs true negatives, and there is no countable "non-lesion".
    A rule that no threshold serves, since nothing is found at any, gives 0.5.

    Args:
        sweep: over the cases.
        judged: what of the cases it is over.
    """
    reached = min(SCREENING_SENSITIVITY, float(sweep.sensitivity.max()))
    youden = sweep.voxel_sensitivity + sweep.voxel_specificity - 1
    chosen = {
        "counting": (counting_threshold(sweep), "best pooled lesion F1"),
        "screening": (
            _last(sweep.sensitivity >= reached),
            f"highest threshold with lesion sensitivity >= {SCREENING_SENSITIVITY:.2f}"
            if reached >= SCREENING_SENSITIVITY
            else f"highest threshold with the best lesion sensitivity reached (below {SCREENING_SENSITIVITY:.2f})",
        ),
        "youden": (_middle_of_best(youden), "best voxel sensitivity + specificity - 1 inside the brain"),
    }
    if reached == 0:
        chosen = dict.fromkeys(chosen, (FALLBACK, "stands in, as no threshold finds a lesion"))
    return tuple(
        _point(name, index, f"{rule}, on {judged} of {sweep.n_cases} cases", sweep)
        for name, (index, rule) in chosen.items()
    )


def counting_threshold(sweep: Sweep) -> int:
    """Where `counting` is, as index into `SWEEP_THRESHOLDS`: that of 0.5 where no lesion exists or is found."""
    return _middle_of_best(sweep.f1) if sweep.n_lesions else FALLBACK


def weakness(point: OperatingPoint) -> str | None:
    """A warning about a model that found little at this point in its cross-validation."""
    if point.f1 is None or point.f1 >= WEAK_F1:
        return None
    return (
        f"in its cross-validation this model found {point.sensitivity or 0:.0%} of the lesions at "
        f"{point.fp_per_scan or 0:.1f} false positives per scan ({point.name}); train it longer, or on more scans, "
        "before you rely on what it finds"
    )


def _middle_of_best(values: NDArray[np.float64]) -> int:
    best = float(values.max())
    if best <= 0:
        return FALLBACK
    runs, count = ndimage.label(values >= best - TIE)
    longest = max((np.flatnonzero(runs == run) for run in range(1, count + 1)), key=len)
    return int(longest[len(longest) // 2])


def _last(holds: NDArray[np.bool_]) -> int:
    return int(np.flatnonzero(holds)[-1])


def _point(name: str, index: int, rule: str, sweep: Sweep) -> OperatingPoint:
    precision = float(sweep.precision[index])
    return OperatingPoint(
        name=name,
        threshold=SWEEP_THRESHOLDS[index],
        rule=rule,
        sensitivity=float(sweep.sensitivity[index]),
        precision=None if np.isnan(precision) else precision,
        f1=float(sweep.f1[index]),
        fp_per_scan=float(sweep.fp_per_scan[index]),
    )


def resolve_operating_point(points: Sequence[OperatingPoint], text: str) -> OperatingPoint:
    """The operating point that `--operating-point` asks for: a name of the model's, or a threshold.

    Raises:
        InputError: neither; lists the names that the model has.
    """
    for point in points:
        if point.name == text:
            return point
    threshold = _as_number(text)
    if threshold is None or not 0 < threshold < 1:
        legal = ", ".join(point.name for point in points)
        either = f"one of {legal}, or " if legal else ""
        percent = threshold is not None and 1 < threshold < 100
        hint = f"; did you mean {threshold / 100:g}?" if percent and threshold else ""
        raise InputError(
            f"--operating-point: found {text!r}, expected {either}a threshold strictly between 0 and 1 such as 0.35"
            + hint
        )
    return OperatingPoint(name=text, threshold=threshold, rule="threshold given by the user")


def _as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def is_number(text: str) -> bool:
    """Whether `--operating-point` names a threshold and not a point of the model."""
    return _as_number(text) is not None
