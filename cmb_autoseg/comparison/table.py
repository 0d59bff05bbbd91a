"""Headings and notes of the tables, and the parts that several of them share."""

from collections.abc import Mapping, Sequence

from cmb_autoseg.comparison.cells import Comparison
from cmb_autoseg.comparison.judging import Group, Judge, PickView, Side, all_sequences
from cmb_autoseg.evaluation.metrics.lesion import FROC_POINTS
from cmb_autoseg.evaluation.statistics.multiple import holm
from cmb_autoseg.records import SUSCEPTIBILITY_ROLES, Role
from cmb_autoseg.reporting.tables import Row, Table

__all__ = [
    "POOLED",
    "SAME_THRESHOLD",
    "THRESHOLD",
    "TITLES",
    "adjust",
    "at_largest_budget",
    "budget_shown",
    "counts_of",
    "groups_of",
    "matrix_groups",
    "row_of",
    "table_of",
    "told",
    "visible_sequences",
]

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
    "about": "about",
    "of": "of",
    "against": "against",
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
    "training_s": "training, s",
    "seconds_per_case": "seconds per case",
    "auc": "voxel AUC",
    "voxel_sensitivity": "voxel sensitivity",
    "voxel_specificity": "voxel specificity",
    "sensitivity": "lesion sensitivity",
    "precision": "lesion precision",
    "f1": "lesion F1",
    "fp_per_scan": "FP per scan",
    "fp_per_negative_scan": "FP per lesion-free scan",
    "f1_seeds": "lesion F1 of each seed",
    **{f"froc_{rate:g}": f"at {rate:g}" for rate in FROC_POINTS},
    "froc_score": "mean of these",
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

EXACT = frozenset({"budget", "seconds_per_case", "p", "p_holm", "p_wilcoxon", "p_wilcoxon_holm"})

POOLED = (
    "Each figure pools the validation cases of all folds and is the mean over seeds; in brackets the 95 % confidence "
    "interval, percentiles of the draws of a bootstrap that draws subjects with all their scans. Weights and "
    "thresholds stay as they are in a draw, so the interval is of the choice of patients, not of training. A "
    "figure that a single subject defines has neither interval nor p (n/a)."
)
THRESHOLD = (
    "Figures at a threshold: each subject's scans are judged at the probability that gives the best pooled lesion F1 "
    "of all other validation subjects of the same recipe, seed and budget, predicted from all their sequences, so no "
    "case chooses its own threshold."
)
SAME_THRESHOLD = "The thresholds are those of predictions from all sequences: a model keeps its threshold."


def table_of(name: str, title: str, columns: Sequence[str], rows: Sequence[Row], notes: Sequence[str]) -> Table:
    """A table with the headings of `TITLES`; programs are told the state of every row."""
    headed = {key: TITLES[key] for key in columns}
    state = () if "state" in headed else ("state",)
    return Table(name, title, headed, tuple(rows), tuple(notes), EXACT, state)


def groups_of(comparison: Comparison) -> list[Group]:
    """But those of the matrix, recipe by recipe, budgets from the largest."""
    asked = {(cell.recipe, cell.budget) for cell in comparison.cells if cell.trained_on is None}
    budgets = sorted({budget for _, budget in asked}, reverse=True)
    return [Group(recipe, b) for b in budgets for recipe in comparison.recipes if (recipe, b) in asked]


def at_largest_budget(comparison: Comparison) -> list[Group]:
    groups = groups_of(comparison)
    return [group for group in groups if group.budget == groups[0].budget]


def budget_shown(comparison: Comparison) -> str:
    """Which label budget tables of one budget have, in words."""
    budgets = sorted({cell.budget for cell in comparison.cells})
    listed = ", ".join(f"{budget:g}" for budget in budgets)
    return f"label budget {budgets[-1]:g}" + (f", the largest of {listed}" if len(budgets) > 1 else "")


def told(rows: Sequence[Row], sentences: Mapping[str, str]) -> tuple[str, ...]:
    """One note of those sentences whose column any row fills; none where there is no such column.

    Args:
        rows: of the table.
        sentences: by the column that each is about.
    """
    filled = {key for row in rows for key, value in row.items() if value is not None}
    note = " ".join(sentence for column, sentence in sentences.items() if column in filled)
    return (note,) if note else ()


def _figures(judge: Judge, side: Side, names: Sequence[str]) -> Row:
    return {name: judge.figure(side, name) for name in names}


def counts_of(side: Side) -> Row:
    if not side:
        return {"scans": 0, "lesions": 0}
    return {"scans": len(side[0].cases), "lesions": int(side[0].counts["n_lesions"].sum())}


def row_of(judge: Judge, group: Group, figures: Sequence[str], pick: PickView = all_sequences) -> Row:
    row: Row = {"recipe": group.recipe, "budget": group.budget, "state": judge.state(group)}
    if row["state"] is None:
        side = judge.measured(group, pick)
        row |= {**counts_of(side), **_figures(judge, side, figures)}
    return row


def matrix_groups(comparison: Comparison) -> list[Group]:
    """Of the cross-sequence matrix, in the order of the cells."""
    alone = (cell for cell in comparison.cells if cell.trained_on)
    return list(dict.fromkeys(Group(cell.recipe, cell.budget, cell.trained_on) for cell in alone))


def visible_sequences(comparison: Comparison) -> tuple[Role, ...]:
    return tuple(role for role in comparison.channels if role in SUSCEPTIBILITY_ROLES)


def adjust(rows: Sequence[Row], family: str, p: str = "p", adjusted: str = "p_holm") -> None:
    """Holm's correction within the rows that share what stands in the column `family`, in place."""
    for name in dict.fromkeys(row.get(family) for row in rows):
        tested = [row for row in rows if row.get(family) == name and row.get(p) is not None]
        for row, value in zip(tested, holm([row[p] for row in tested]), strict=True):
            row[adjusted] = value
