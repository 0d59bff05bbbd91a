"""Tables of sequences: each alone, one missing, every subset, trained on one and tested on another."""

from collections.abc import Mapping
from functools import cache

from cmb_autoseg.comparison.case_scores import ScoredView
from cmb_autoseg.comparison.cells import Comparison, subsets_of, view_name
from cmb_autoseg.comparison.judging import Contrast, Group, Judge, PickView, all_sequences, just
from cmb_autoseg.comparison.table import (
    POOLED,
    SAME_THRESHOLD,
    THRESHOLD,
    adjust,
    at_largest_budget,
    counts_of,
    matrix_groups,
    row_of,
    table_of,
    told,
    visible_sequences,
)
from cmb_autoseg.records import Role
from cmb_autoseg.reporting.tables import Row, Table

__all__ = [
    "cross_sequence",
    "dropping",
    "per_sequence",
    "subsets",
    "that_have",
    "with_sequence",
    "without_sequence",
]


def per_sequence(judge: Judge, comparison: Comparison) -> Table:
    figures = ("f1", "precision", "sensitivity", "auc", "fp_per_scan")
    rows = [
        {"sequence": role.value, **row}
        for group in at_largest_budget(comparison)
        for role in visible_sequences(comparison)
        if (row := row_of(judge, group, figures, just(role.value)))["state"] or row["scans"]
    ]
    columns = ("recipe", "sequence", "scans", "lesions", *figures)
    notes = ("Predicted from this sequence alone, the others left blank, on the scans that have it.", SAME_THRESHOLD)
    return table_of("per_sequence", "Each sequence alone", columns, rows, (*notes, POOLED, THRESHOLD))


@cache
def without_sequence(role: Role) -> PickView:
    """The view from all that the case has but one sequence; None where it lacks that one, or nothing is left."""

    def pick(views: Mapping[str, ScoredView]) -> ScoredView | None:
        whole = all_sequences(views)
        has = whole.row.sequences.split("+") if whole else []
        return views.get("+".join(name for name in has if name != role.value)) if role.value in has else None

    return pick


@cache
def with_sequence(role: Role) -> PickView:
    """The view from all sequences, of those cases for which there is one without this sequence."""
    return lambda views: all_sequences(views) if without_sequence(role)(views) is not None else None


@cache
def that_have(view: str) -> PickView:
    """The view from all sequences, of those cases that have these."""
    return lambda views: all_sequences(views) if view in views else None


def dropping(judge: Judge, comparison: Comparison) -> Table:
    rows: list[Row] = []
    for group in at_largest_budget(comparison):
        for role in comparison.channels:
            row: Row = {"recipe": group.recipe, "dropped": role.value, "state": judge.state(group)}
            if row["state"] is None:
                row |= _dropped(judge, group, Group(comparison.reference, group.budget), role)
            if row["state"] or row["scans"]:
                rows.append(row)
    adjust(rows, "dropped")
    columns = ("recipe", "dropped", "scans", "lesions", "f1", "f1_without", "cost", "p", "p_holm")
    sentences = {
        "scans": "Scans that have the sequence and another in which microbleeds show, predicted from all they have and "
        "from all but this one.",
        "cost": "Cost: lesion F1 with it minus without it, paired over the same scans; p and Holm's correction over "
        "recipes, sequence by sequence.",
        "cost_beyond_reference": "The last column, negative where dropping costs the recipe less than "
        f"{comparison.reference}, has its interval from the same draws.",
    }
    notes = (*told(rows, sentences), SAME_THRESHOLD)
    every = (*columns, "cost_beyond_reference")
    return table_of("dropping", "One sequence missing", every, rows, (*notes, POOLED, THRESHOLD))


def _dropped(judge: Judge, group: Group, reference: Group, role: Role) -> Row:
    whole, less = judge.measured(group, with_sequence(role)), judge.measured(group, without_sequence(role))
    row: Row = {**counts_of(whole), "f1": judge.figure(whole, "f1"), "f1_without": judge.figure(less, "f1")}
    row |= _cost(judge.contrast("f1", [whole], [less]))
    if group != reference and judge.state(reference) is None:
        theirs, theirs_less = (
            judge.measured(reference, with_sequence(role)),
            judge.measured(reference, without_sequence(role)),
        )
        beyond = judge.contrast("f1", [whole, theirs_less], [less, theirs])
        row["cost_beyond_reference"] = beyond and beyond.difference
    return row


def _cost(contrast: Contrast | None) -> Row:
    return {} if contrast is None else {"cost": contrast.difference, "p": contrast.p}


def subsets(judge: Judge, comparison: Comparison) -> Table:
    figures = ("f1", "sensitivity", "precision", "fp_per_scan")
    rows: list[Row] = []
    for group in at_largest_budget(comparison):
        for subset in subsets_of(comparison.channels):
            name = view_name(subset)
            row: Row = {"subset": name, **row_of(judge, group, figures, just(name))}
            if row["state"] is None and row["scans"]:
                whole = judge.measured(group, that_have(name))
                less = judge.measured(group, just(name))
                row |= _cost(judge.contrast("f1", [whole], [less]))
            if row["state"] or row["scans"]:
                rows.append(row)
    adjust(rows, "subset")
    columns = ("recipe", "subset", "scans", "lesions", *figures, "cost", "p", "p_holm")
    sentences = {
        "scans": "Scans that have all of these sequences, predicted from these alone.",
        "cost": "Cost: lesion F1 from all that these scans have minus lesion F1 from these, paired over the same "
        "scans; p and Holm's correction over recipes, subset by subset.",
    }
    notes = [*told(rows, sentences), SAME_THRESHOLD]
    every = len(comparison.channels) + 1
    if len({len(s) for s in subsets_of(comparison.channels)}) < every - 1:
        notes.append("Of many channels only all, all but one, and each alone are tried.")
    return table_of("subsets", "Every set of sequences", columns, rows, (*notes, POOLED, THRESHOLD))


def cross_sequence(judge: Judge, comparison: Comparison) -> Table:
    figures = ("auc", "voxel_sensitivity", "sensitivity", "f1", "fp_per_scan")
    rows = []
    for group in matrix_groups(comparison):
        for role in visible_sequences(comparison):
            row = row_of(judge, group, figures, just(role.value))
            if row["state"] or row["scans"]:
                assert group.trained_on is not None
                rows.append({"trained_on": group.trained_on.value, "tested_on": role.value, **row})
    columns = ("recipe", "trained_on", "tested_on", "scans", "lesions", *figures)
    notes = (
        "Trained on one sequence, the others left blank; the tested sequence is put in the place of the trained one, "
        "on all scans that have it. The thresholds are those of the trained sequence. Folds without a case of "
        "the trained sequence to learn from are left out.",
    )
    return table_of("cross_sequence", "Trained on one, tested on another", columns, rows, (*notes, POOLED))
