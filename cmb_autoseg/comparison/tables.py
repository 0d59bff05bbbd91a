"""The tables of a comparison, as data; how they are written is `table_files.py`, how drawn `drawings.py`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from cmb_autoseg.comparison.case_scores import CellScores, ScoredView
from cmb_autoseg.comparison.cells import Comparison, subsets_of, view_name
from cmb_autoseg.comparison.judging import Contrast, Group, Judge, PickView, Side, all_sequences, just, wilcoxon_p
from cmb_autoseg.evaluation.bootstrap import holm
from cmb_autoseg.records import SUSCEPTIBILITY_ROLES, Role

__all__ = ["TITLES", "Row", "Table", "all_tables"]

Row = dict[str, Any]
"""Column to text, number, `Figure` or None."""

TITLES = {
    "recipe": "recipe",
    "budget": "label budget",
    "seed": "seed",
    "fold": "fold",
    "sequence": "sequence",
    "dropped": "dropped",
    "subset": "sequences",
    "trained_on": "trained on",
    "tested_on": "tested on",
    "state": "state",
    "figure": "figure",
    "scans": "scans",
    "lesions": "lesions",
    "subjects": "subjects",
    "labelled_subjects": "labelled subjects",
    "labelled_scans": "labelled scans",
    "unlabelled_scans": "unlabelled scans",
    "steps": "steps",
    "parameters": "parameters",
    "encoder": "encoder",
    "auc": "voxel AUC",
    "voxel_sensitivity": "voxel sensitivity",
    "voxel_specificity": "voxel specificity",
    "sensitivity": "lesion sensitivity",
    "precision": "lesion precision",
    "f1": "lesion F1",
    "fp_per_scan": "FP per scan",
    "fp_per_negative_scan": "FP per lesion-free scan",
    "f1_seeds": "lesion F1 of each seed",
    "difference": "difference",
    "p": "p",
    "p_holm": "p (Holm)",
    "p_wilcoxon": "p (Wilcoxon)",
    "p_wilcoxon_holm": "p (Wilcoxon, Holm)",
    "f1_without": "lesion F1 without it",
    "cost": "cost in F1",
    "cost_beyond_reference": "cost less the reference's",
}
"""Of columns, for people; figures are defined in docs/reference/metrics.md."""

TESTED = ("auc", "f1", "sensitivity", "fp_per_scan")
POOLED = (
    "Each figure pools the validation cases of all folds and is the mean over seeds; in brackets the 95 % confidence "
    "interval, percentiles of the draws of a bootstrap that draws subjects with all their scans. Weights and "
    "thresholds stay as they are in a draw, so the interval is of the choice of patients, not of training."
)
THRESHOLD = (
    "Figures at a threshold: each subject's scans are judged at the probability that gives the best pooled lesion F1 "
    "of all other validation subjects of the same recipe, seed and budget, predicted from all their sequences, so no "
    "case chooses its own threshold."
)
SAME_THRESHOLD = "The thresholds are those of predictions from all sequences: a model keeps its threshold."


@dataclass(frozen=True)
class Table:
    """Rows of figures under named columns."""

    name: str
    title: str
    columns: tuple[str, ...]
    """Keys of the rows; `TITLES` has them in words."""
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def all_tables(judge: Judge, comparison: Comparison) -> list[Table]:
    """Every table that something was asked for."""
    tables = [paradigms(judge, comparison), differences(judge, comparison)]
    if len({cell.budget for cell in comparison.cells}) > 1:
        tables.append(annotation_efficiency(judge, comparison))
    tables.append(per_sequence(judge, comparison))
    if comparison.subsets:
        tables += [dropping(judge, comparison), subsets(judge, comparison)]
    if any(cell.trained_on for cell in comparison.cells):
        tables.append(cross_sequence(judge, comparison))
    return [table for table in tables if table.rows] + [cell_list(judge, comparison)]


def _groups(comparison: Comparison) -> list[Group]:
    """Recipe by recipe, budgets from the largest."""
    asked = {(cell.recipe, cell.budget) for cell in comparison.cells if cell.trained_on is None}
    budgets = sorted({budget for _, budget in asked}, reverse=True)
    return [Group(recipe, b) for b in budgets for recipe in comparison.recipes if (recipe, b) in asked]


def _largest(comparison: Comparison) -> list[Group]:
    groups = _groups(comparison)
    return [group for group in groups if group.budget == groups[0].budget]


def _figures(judge: Judge, side: Side, names: Sequence[str]) -> Row:
    return {name: judge.figure(side, name) for name in names}


def _counts(side: Side) -> Row:
    if not side:
        return {"scans": 0, "lesions": 0}
    return {"scans": len(side[0].cases), "lesions": int(side[0].counts["n_lesions"].sum())}


def _row(judge: Judge, group: Group, figures: Sequence[str], pick: PickView = all_sequences) -> Row:
    row: Row = {"recipe": group.recipe, "budget": group.budget, "state": judge.state(group)}
    if row["state"] is None:
        side = judge.measured(group, pick)
        row |= {**_counts(side), **_figures(judge, side, figures)}
    return row


def paradigms(judge: Judge, comparison: Comparison) -> Table:
    figures = (
        *("auc", "voxel_sensitivity", "voxel_specificity", "sensitivity", "precision", "f1"),
        *("fp_per_scan", "fp_per_negative_scan"),
    )
    rows = []
    for group in _largest(comparison):
        row = _row(judge, group, figures)
        if row["state"] is None:
            of_seeds = [measured.value("f1") for measured in judge.measured(group)]
            row["f1_seeds"] = ", ".join("n/a" if np.isnan(value) else f"{value:.3f}" for value in of_seeds)
        rows.append(row)
    columns = ("recipe", "scans", "lesions", *figures, "f1_seeds")
    return Table("paradigms", "Learning paradigms", columns, tuple(rows), (POOLED, THRESHOLD))


def differences(judge: Judge, comparison: Comparison) -> Table:
    rows: list[Row] = []
    for group in _groups(comparison):
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
                rows.append({**base, "figure": TITLES[name], "state": "not judged on the reference's cases"})
                continue
            row = {**base, "figure": TITLES[name], "difference": contrast.difference, "p": contrast.p}
            if name == "f1":
                row["p_wilcoxon"], row["subjects"] = wilcoxon_p(ours, theirs)
            rows.append(row)
    for p, adjusted in (("p", "p_holm"), ("p_wilcoxon", "p_wilcoxon_holm")):
        _adjust(rows, p, adjusted)
    notes = (
        f"Recipe minus {comparison.reference} at the same budget, on the same draws of subjects, seeds averaged in "
        "each. p: two-sided, from those draws; Holm's correction over the recipes and budgets of this table, figure by "
        "figure. Wilcoxon: signed ranks of the subjects' lesion F1 (mean over seeds and scans), of subjects that have "
        "lesions.",
        THRESHOLD,
    )
    columns = ("budget", "recipe", "figure", "difference", "p", "p_holm", "subjects", "p_wilcoxon", "p_wilcoxon_holm")
    return Table("differences", f"Differences from {comparison.reference}", columns, tuple(rows), notes)


def _adjust(rows: Sequence[Row], p: str, adjusted: str) -> None:
    """Holm's correction within the rows of each figure, in place."""
    for name in dict.fromkeys(row.get("figure") for row in rows):
        family = [row for row in rows if row.get("figure") == name]
        for row, value in zip(family, holm([row.get(p) for row in family]), strict=True):
            row[adjusted] = value


def annotation_efficiency(judge: Judge, comparison: Comparison) -> Table:
    figures = ("auc", "sensitivity", "precision", "f1", "fp_per_scan")
    rows = []
    for group in _groups(comparison):
        facts = [scores.training for scores in judge.finished(group)]
        row = _row(judge, group, figures)
        row["labelled_subjects"] = _range([fact.n_training_subjects for fact in facts])
        row["labelled_scans"] = _range([fact.n_training_cases for fact in facts])
        rows.append(row)
    columns = ("budget", "labelled_subjects", "labelled_scans", "recipe", *figures)
    notes = ("Labelled subjects and scans of training, in each fold; steps are the same at every budget.",)
    return Table("annotation_efficiency", "Fewer labels", columns, tuple(rows), (*notes, POOLED, THRESHOLD))


def _range(numbers: Sequence[int]) -> str | None:
    if not numbers:
        return None
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low}-{high}"


def _visible(comparison: Comparison) -> tuple[Role, ...]:
    return tuple(role for role in comparison.channels if role in SUSCEPTIBILITY_ROLES)


def per_sequence(judge: Judge, comparison: Comparison) -> Table:
    figures = ("f1", "precision", "sensitivity", "auc", "fp_per_scan")
    rows = [
        {"sequence": role.value, **row}
        for group in _largest(comparison)
        for role in _visible(comparison)
        if (row := _row(judge, group, figures, just(role.value)))["state"] or row["scans"]
    ]
    columns = ("recipe", "sequence", "scans", "lesions", *figures)
    notes = ("Predicted from this sequence alone, the others left blank, on the scans that have it.", SAME_THRESHOLD)
    return Table("per_sequence", "Each sequence alone", columns, tuple(rows), (*notes, POOLED, THRESHOLD))


@cache
def _without(role: Role) -> PickView:
    """The view from all that the case has but one sequence; None where it lacks that one, or nothing is left."""

    def pick(views: Mapping[str, ScoredView]) -> ScoredView | None:
        whole = all_sequences(views)
        has = whole.row.sequences.split("+") if whole else []
        return views.get("+".join(name for name in has if name != role.value)) if role.value in has else None

    return pick


@cache
def _with(role: Role) -> PickView:
    """The view from all sequences, of those cases for which there is one without this sequence."""
    return lambda views: all_sequences(views) if _without(role)(views) is not None else None


@cache
def _that_have(view: str) -> PickView:
    """The view from all sequences, of those cases that have these."""
    return lambda views: all_sequences(views) if view in views else None


def dropping(judge: Judge, comparison: Comparison) -> Table:
    rows: list[Row] = []
    for group in _largest(comparison):
        for role in comparison.channels:
            row: Row = {"recipe": group.recipe, "dropped": role.value, "state": judge.state(group)}
            if row["state"] is None:
                row |= _dropped(judge, group, Group(comparison.reference, group.budget), role)
            if row["state"] or row["scans"]:
                rows.append(row)
    for role in comparison.channels:
        family = [row for row in rows if row["dropped"] == role.value]
        for row, value in zip(family, holm([row.get("p") for row in family]), strict=True):
            row["p_holm"] = value
    columns = ("recipe", "dropped", "scans", "lesions", "f1", "f1_without", "cost", "p", "p_holm")
    notes = (
        "Scans that have the sequence and another in which microbleeds show, predicted from all they have and from all "
        "but this one. Cost: lesion F1 with it minus without it, paired over the same scans; p and Holm's correction "
        "over recipes, sequence by sequence. The last column, negative where dropping costs the recipe less than "
        f"{comparison.reference}, has its interval from the same draws.",
        SAME_THRESHOLD,
    )
    every = (*columns, "cost_beyond_reference")
    return Table("dropping", "One sequence missing", every, tuple(rows), (*notes, POOLED, THRESHOLD))


def _dropped(judge: Judge, group: Group, reference: Group, role: Role) -> Row:
    whole, less = judge.measured(group, _with(role)), judge.measured(group, _without(role))
    row: Row = {**_counts(whole), "f1": judge.figure(whole, "f1"), "f1_without": judge.figure(less, "f1")}
    row |= _cost(judge.contrast("f1", [whole], [less]))
    if group != reference and judge.state(reference) is None:
        theirs, theirs_less = judge.measured(reference, _with(role)), judge.measured(reference, _without(role))
        beyond = judge.contrast("f1", [whole, theirs_less], [less, theirs])
        row["cost_beyond_reference"] = beyond and beyond.difference
    return row


def _cost(contrast: Contrast | None) -> Row:
    return {} if contrast is None else {"cost": contrast.difference, "p": contrast.p}


def subsets(judge: Judge, comparison: Comparison) -> Table:
    figures = ("f1", "sensitivity", "precision", "fp_per_scan")
    rows: list[Row] = []
    for group in _largest(comparison):
        for subset in subsets_of(comparison.channels):
            name = view_name(subset)
            row: Row = {"subset": name, **_row(judge, group, figures, just(name))}
            if row["state"] is None and row["scans"]:
                whole = judge.measured(group, _that_have(name))
                row |= _cost(judge.contrast("f1", [whole], [judge.measured(group, just(name))]))
            if row["state"] or row["scans"]:
                rows.append(row)
    columns = ("recipe", "subset", "scans", "lesions", *figures, "cost")
    notes = [
        "Scans that have all of these sequences, predicted from these alone; cost: lesion F1 from all that these "
        "scans have minus lesion F1 from these.",
        SAME_THRESHOLD,
    ]
    every = len(comparison.channels) + 1
    if len({len(s) for s in subsets_of(comparison.channels)}) < every - 1:
        notes.append("Of many channels only all, all but one, and each alone are tried.")
    return Table("subsets", "Every set of sequences", columns, tuple(rows), (*notes, POOLED, THRESHOLD))


def cross_sequence(judge: Judge, comparison: Comparison) -> Table:
    figures = ("auc", "voxel_sensitivity", "sensitivity", "f1", "fp_per_scan")
    asked = dict.fromkeys(
        Group(cell.recipe, cell.budget, cell.trained_on) for cell in comparison.cells if cell.trained_on
    )
    rows = []
    for group in asked:
        for role in _visible(comparison):
            row = _row(judge, group, figures, just(role.value))
            if row["state"] or row["scans"]:
                assert group.trained_on is not None
                rows.append({"trained_on": group.trained_on.value, "tested_on": role.value, **row})
    columns = ("recipe", "trained_on", "tested_on", "scans", "lesions", *figures)
    notes = (
        "Trained on one sequence, the others left blank; the tested sequence is put in the place of the trained one, "
        "on all scans that have it. The thresholds are those of the trained sequence.",
    )
    return Table("cross_sequence", "Trained on one, tested on another", columns, tuple(rows), (*notes, POOLED))


def cell_list(judge: Judge, comparison: Comparison) -> Table:
    rows = []
    for cell in comparison.cells:
        found = judge.scores.get(cell.name)
        row: Row = {
            "recipe": cell.recipe,
            "budget": cell.budget,
            "seed": cell.seed,
            "fold": cell.fold,
            "trained_on": cell.trained_on.value if cell.trained_on else "all",
            "state": "finished" if found else "not run yet",
            "steps": comparison.steps.get(cell.recipe),
        }
        rows.append(row | (_facts(found) if found else {}))
    columns = ("recipe", "budget", "seed", "fold", "trained_on", "state", "steps", "labelled_subjects")
    more = ("labelled_scans", "unlabelled_scans", "scans", "parameters", "encoder")
    notes = ("One row a trained fold; scans: those that it is judged on.",)
    return Table("cells", "What was trained", (*columns, *more), tuple(rows), notes)


def _facts(scores: CellScores) -> Row:
    training = scores.training
    return {
        "steps": training.steps,
        "labelled_subjects": training.n_training_subjects,
        "labelled_scans": training.n_training_cases,
        "unlabelled_scans": training.n_unlabelled_cases,
        "scans": len({row.case for row in scores.rows}),
        "parameters": training.n_parameters,
        "encoder": training.encoder or "random",
    }
