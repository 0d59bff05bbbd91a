"""Classes of severity: whether prediction and reference put a case into the same one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.evaluation.case_score import CaseScore
from cmb_autoseg.evaluation.metrics.figure import Statistic, proportion
from cmb_autoseg.evaluation.metrics.patient import lesion_counts
from cmb_autoseg.evaluation.statistics.agreement import KappaWeights, cohen_statistic

__all__ = ["CLASSES", "Confusion", "severity_confusion", "severity_statistics"]

CLASSES = ("0", "1", "2-4", "5-10", "> 10")
"""Numbers of lesions of each class."""
LEAST = np.array([1, 2, 5, 11])
"""Lesions with which each class but the first begins."""
KAPPAS: dict[str, KappaWeights] = {"kappa": "none", "kappa_linear": "linear", "kappa_quadratic": "quadratic"}


@dataclass(frozen=True)
class Confusion:
    """How many cases are in each class by reference and by prediction."""

    classes: tuple[str, ...]
    table: NDArray[np.int64]
    """(class of the reference, class of the prediction)."""

    def as_json(self) -> dict[str, Any]:
        """Plain lists: a row for each class of the reference, a number for each class of the prediction."""
        return {"classes": list(self.classes), "reference_by_prediction": self.table.tolist()}


def severity_confusion(cases: Sequence[CaseScore]) -> Confusion:
    """Cases by the class of their reference (row) and of their prediction (column)."""
    return Confusion(CLASSES, _tables(cases).sum(axis=0).astype(np.int64))


def severity_statistics(cases: Sequence[CaseScore]) -> dict[str, Statistic]:
    """Share of cases in the right class, and Cohen's kappa with no, linear and quadratic weights."""
    tables = _tables(cases)
    kappas = {name: cohen_statistic(tables, kind) for name, kind in KAPPAS.items()}
    return {
        "class_accuracy": proportion(np.trace(tables, axis1=1, axis2=2), np.ones(len(cases)), "no scored case"),
        **{name: replace(kappa, why_none="all cases are in one class on both sides") for name, kappa in kappas.items()},
    }


def _tables(cases: Sequence[CaseScore]) -> NDArray[np.float64]:
    """(n_cases, class of the reference, class of the prediction): 1 where the case is, else 0."""
    predicted, reference = np.searchsorted(LEAST, lesion_counts(cases), side="right").T
    tables = np.zeros((len(cases), len(CLASSES), len(CLASSES)))
    tables[np.arange(len(cases)), reference, predicted] = 1.0
    return tables
