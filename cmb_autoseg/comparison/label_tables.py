"""Tables of ways to learn: all labels, the paired differences, fewer labels."""

from collections.abc import Sequence

import numpy as np

from cmb_autoseg.comparison.cells import Comparison
from cmb_autoseg.comparison.judging import Group, Judge, wilcoxon_p
from cmb_autoseg.comparison.table import (
    POOLED,
    THRESHOLD,
    TITLES,
    adjust,
    at_largest_budget,
    budget_shown,
    groups_of,
    row_of,
    table_of,
    told,
)
from cmb_autoseg.reporting.tables import Row, Table

__all__ = ["annotation_efficiency", "differences", "paradigms"]

TESTED = ("auc", "f1", "sensitivity", "fp_per_scan")


def paradigms(judge: Judge, comparison: Comparison) -> Table:
    figures = (
        *("auc", "voxel_sensitivity", "voxel_specificity", "sensitivity", "precision", "f1"),
        *("fp_per_scan", "fp_per_negative_scan"),
    )
    rows = []
    for group in at_largest_budget(comparison):
        row = row_of(judge, group, figures)
        if row["state"] is None:
            of_seeds = [measured.value("f1") for measured in judge.measured(group)]
            row["f1_seeds"] = ", ".join("n/a" if np.isnan(value) else f"{value:.3f}" for value in of_seeds)
        rows.append(row)
    columns = ("recipe", "scans", "lesions", *figures, "f1_seeds")
    budget = budget_shown(comparison)
    notes = (f"{budget[0].upper()}{budget[1:]}.", POOLED, THRESHOLD)
    return table_of("paradigms", "Recipes", columns, rows, notes)


def differences(judge: Judge, comparison: Comparison) -> Table:
    rows: list[Row] = []
    for group in groups_of(comparison):
        if group.recipe == comparison.reference:
            continue
        reference = Group(comparison.reference, group.budget)
        state = judge.state(group) or judge.state(reference)
        base = {"recipe": group.recipe, "budget": group.budget, "state": state}
        if state is not None:
            rows.append(base)
            continue
        ours, theirs = judge.measured(group), judge.measured(reference)
        for name in TESTED:
            contrast = judge.contrast(name, [ours], [theirs])
            if contrast is None:
                rows.append({**base, "figure": TITLES[name], "state": f"not judged on the scans of {reference.recipe}"})
                continue
            row = {**base, "figure": TITLES[name], "scans": contrast.n_cases}
            row |= {"difference": contrast.difference, "p": contrast.p}
            if name == "f1":
                row["p_wilcoxon"], row["subjects"] = wilcoxon_p(ours, theirs)
            rows.append(row)
    adjust(rows, "figure")
    adjust(rows, "figure", "p_wilcoxon", "p_wilcoxon_holm")
    sentences = {
        "difference": f"Recipe minus {comparison.reference} at the same budget, on the same draws of subjects, seeds "
        "averaged in each. p: two-sided, from those draws; Holm's correction over the recipes and budgets of this "
        "table, figure by figure.",
        "subjects": "Wilcoxon: signed ranks of the subjects' lesion F1 (mean over seeds and scans), of subjects that "
        "have lesions, six at least.",
    }
    notes = (*told(rows, sentences), THRESHOLD)
    tests = ("p", "p_holm", "subjects", "p_wilcoxon", "p_wilcoxon_holm")
    columns = ("budget", "recipe", "figure", "scans", "difference", *tests)
    return table_of("differences", f"Differences from {comparison.reference}", columns, rows, notes)


def annotation_efficiency(judge: Judge, comparison: Comparison) -> Table:
    figures = ("auc", "sensitivity", "precision", "f1", "fp_per_scan")
    rows = []
    for group in groups_of(comparison):
        facts = [scores.training for scores in judge.finished(group)]
        row = row_of(judge, group, figures)
        row["labelled_subjects"] = _range([fact.n_training_subjects for fact in facts])
        row["labelled_scans"] = _range([fact.n_training_cases for fact in facts])
        rows.append(row)
    columns = ("budget", "labelled_subjects", "labelled_scans", "recipe", *figures)
    sentence = "Labelled subjects and scans of training, in each fold; steps are the same at every budget."
    notes = (*told(rows, {"labelled_subjects": sentence}), POOLED, THRESHOLD)
    return table_of("annotation_efficiency", "Fewer labels", columns, rows, notes)


def _range(numbers: Sequence[int]) -> str | None:
    if not numbers:
        return None
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low}-{high}"
