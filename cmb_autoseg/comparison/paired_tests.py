"""Paired tests of the tables of fewer labels, of single sequences and of the matrix, in one table of their own."""

from collections.abc import Mapping, Sequence
from functools import cache

from cmb_autoseg.comparison.case_scores import ScoredView
from cmb_autoseg.comparison.cells import Comparison
from cmb_autoseg.comparison.judging import Group, Judge, PickView, all_sequences, just
from cmb_autoseg.comparison.sequence_tables import that_have
from cmb_autoseg.comparison.table import (
    THRESHOLD,
    TITLES,
    adjust,
    at_largest_budget,
    groups_of,
    matrix_groups,
    table_of,
    told,
    visible_sequences,
)
from cmb_autoseg.reporting.tables import Row, Table

__all__ = ["paired_tests"]

TESTED = ("auc", "sensitivity", "f1")
EFFICIENCY, ALONE, MATRIX = "fewer labels", "sequence alone", "matrix"
Side = tuple[Group, PickView]


def paired_tests(judge: Judge, comparison: Comparison) -> Table:
    """Budgets against all labels of the same recipe; sequences and the matrix against the reference recipe.

    Where there is no other recipe, sequences are tested against all sequences of the same model, and the matrix against
    the model's own sequence, on the scans that have both.
    """
    rows = [
        *_of_budgets(judge, comparison),
        *_of_sequences(judge, comparison),
        *_of_matrix(judge, comparison),
    ]
    for row in rows:
        row["family"] = (row["about"], row["figure"])
    adjust(rows, "family")
    for row in rows:
        del row["family"]
    columns = ("about", "recipe", "of", "against", "figure", "scans", "difference", "p", "p_holm")
    sentences = {
        "difference": "Difference of a figure, on the same scans and the same draws of subjects, seeds averaged in "
        "each; p: two-sided, from those draws; Holm's correction over all rows of the same first column, figure by "
        "figure."
    }
    present = {row["about"] for row in rows}
    if MATRIX in present:
        sentences["of"] = "A matrix entry reads trained on > tested on."
    parts = ["fewer labels"] * (EFFICIENCY in present) + ["sequences"] * bool(present & {ALONE, MATRIX})
    title = f"Paired tests of {' and of '.join(parts)}"
    return table_of("paired_tests", title, columns, rows, (*told(rows, sentences), THRESHOLD))


def _of_budgets(judge: Judge, comparison: Comparison) -> list[Row]:
    groups, rows = groups_of(comparison), list[Row]()
    for group in groups:
        largest = max(other.budget for other in groups if other.recipe == group.recipe)
        if group.budget < largest:
            full = Group(group.recipe, largest)
            base = {"about": EFFICIENCY, "recipe": group.recipe, "of": f"{group.budget:g}", "against": f"{largest:g}"}
            rows += _tested(judge, base, (group, all_sequences), (full, all_sequences))
    return rows


def _of_sequences(judge: Judge, comparison: Comparison) -> list[Row]:
    groups, rows = at_largest_budget(comparison), list[Row]()
    for group in groups:
        for role in visible_sequences(comparison):
            base = {"about": ALONE, "recipe": group.recipe, "of": role.value}
            ours = (group, just(role.value))
            if len(groups) == 1:
                rows += _tested(judge, base | {"against": "all sequences"}, ours, (group, that_have(role.value)))
            elif group.recipe != comparison.reference:
                reference = Group(comparison.reference, group.budget)
                rows += _tested(judge, base | {"against": reference.recipe}, ours, (reference, just(role.value)))
    return rows


def _of_matrix(judge: Judge, comparison: Comparison) -> list[Row]:
    groups, rows = matrix_groups(comparison), list[Row]()
    several = len({group.recipe for group in groups}) > 1
    for group in groups:
        assert group.trained_on is not None
        own = group.trained_on.value
        for tested in (role.value for role in visible_sequences(comparison)):
            base = {"about": MATRIX, "recipe": group.recipe, "of": f"{own} > {tested}"}
            if not several and tested != own:
                sides = ((group, _both(tested, own)), (group, _both(own, tested)))
                rows += _tested(judge, base | {"against": f"{own} > {own}"}, *sides)
            elif several and group.recipe != comparison.reference:
                reference = Group(comparison.reference, group.budget, group.trained_on)
                sides = ((group, just(tested)), (reference, just(tested)))
                rows += _tested(judge, base | {"against": reference.recipe}, *sides)
    return rows


@cache
def _both(view: str, other: str) -> PickView:
    """One view, of the cases that have another one, too."""

    def pick(views: Mapping[str, ScoredView]) -> ScoredView | None:
        return views.get(view) if other in views else None

    return pick


def _tested(judge: Judge, base: Row, ours: Side, theirs: Side, names: Sequence[str] = TESTED) -> list[Row]:
    """A row for each figure; one that tells why, where a side is not finished; none without a scan on both sides."""
    state = judge.state(ours[0]) or judge.state(theirs[0])
    if state is not None:
        return [{**base, "figure": TITLES[names[0]], "state": state}]
    plus, minus = judge.measured(*ours), judge.measured(*theirs)
    rows = []
    for name in names:
        contrast = judge.contrast(name, [plus], [minus])
        if contrast is not None and (contrast.difference.value is not None or name != "auc"):
            row = {**base, "figure": TITLES[name], "scans": contrast.n_cases, "state": None}
            rows.append({**row, "difference": contrast.difference, "p": contrast.p})
    return rows
