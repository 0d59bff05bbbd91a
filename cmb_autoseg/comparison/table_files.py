"""The page that holds all tables and pictures, and what of a table is shown there."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cmb_autoseg.comparison.cells import Comparison
from cmb_autoseg.comparison.drawings import draw
from cmb_autoseg.comparison.drawn_folds import folds_shown, folds_told
from cmb_autoseg.comparison.table import TITLES, budget_shown
from cmb_autoseg.evaluation.matching.protocols import PROTOCOLS
from cmb_autoseg.files import write_text
from cmb_autoseg.reporting.table_files import as_markdown as markdown_of
from cmb_autoseg.reporting.table_files import write_table
from cmb_autoseg.reporting.tables import Row, Table

__all__ = ["as_markdown", "headline", "write_page"]

TESTS_OF = {
    "p": ("difference", "cost"),
    "p_holm": ("difference", "cost"),
    "p_wilcoxon": ("subjects",),
    "p_wilcoxon_holm": ("subjects",),
}
"""What a row has wherever the test of a column was asked for, though it may have no p."""


def as_markdown(table: Table) -> str:
    """The table alone; what is not run yet says so in the first empty column, or in one of its own."""
    return markdown_of(_for_people(table))


def _for_people(table: Table) -> Table:
    """Without empty columns, and with what is not run yet told in the table."""
    keys = [key for key in table.columns if any(_value(row, key) is not None for row in table.rows)]
    untold = any(row.get("state") and all(row.get(key) is not None for key in keys) for row in table.rows)
    if untold and "state" not in keys:
        keys.append("state")
    rows = tuple(_row(row, keys) for row in table.rows)
    return replace(table, columns={key: TITLES[key] for key in keys}, rows=rows)


def _row(row: Row, keys: Sequence[str]) -> Row:
    shown = {key: _value(row, key) for key in keys}
    if isinstance(shown.get("parameters"), int):
        shown["parameters"] = f"{shown['parameters']:,}"
    if row.get("state") and "state" not in keys:
        shown[next(key for key in keys if row.get(key) is None)] = str(row["state"])
    return shown


def _value(row: Row, key: str) -> Any:
    """Of a cell; `n/a` for a p that cannot be had."""
    value = row.get(key)
    asked = any(row.get(other) is not None for other in TESTS_OF.get(key, ()))
    return "n/a" if value is None and asked else value


def write_page(tables: Sequence[Table], comparison: Comparison, out: Path, whole: Comparison | None = None) -> None:
    """Write every table and picture, and `comparison.md` with all of them; what is there no more is deleted.

    Args:
        tables: in this order.
        comparison: that they are drawn of.
        out: the comparison's folder.
        whole: all that was ever asked for; None where that is drawn.
    """
    names = {table.name for table in tables}
    for old in (*(out / "tables").glob("*.*"), *(out / "figures").glob("*.png")):
        if old.stem not in names and not old.name.startswith("."):
            old.unlink()
    parts = [f"# Comparison on {comparison.dataset}\n", _head(comparison, whole or comparison)]
    common = [note for note in tables[0].notes if sum(note in table.notes for table in tables) > 2]
    for table in tables:
        write_table(table, out / "tables", comparison.data, _for_people(table))
        parts.append(f"## {table.title}\n\n{as_markdown(table)}")
        parts += [f"{note}\n" for note in table.notes if note not in common]
        if draw(table, out / "figures" / f"{table.name}.png", comparison.data):
            parts.append(f"![{table.title}](figures/{table.name}.png)\n")
    parts.insert(2, "\n\n".join(common) + "\n")
    write_text(out / "comparison.md", "\n".join(parts))


def headline(comparison: Comparison) -> str:
    """What the first table shows, for where it stands alone."""
    data = f", {comparison.data} data" if comparison.data else ""
    return f"Recipes on {comparison.dataset}{data}, {budget_shown(comparison)}, {folds_shown(comparison)}:"


def _head(comparison: Comparison, whole: Comparison) -> str:
    plain = [cell for cell in comparison.cells if cell.trained_on is None]
    listed = {
        name: ", ".join(f"{value:g}" for value in sorted({getattr(cell, name) for cell in plain}))
        for name in ("seed", "budget")
    }
    steps = ", ".join(f"{recipe} {comparison.steps[recipe] or 'none'}" for recipe in comparison.recipes)
    kind = f"**{comparison.data[0].upper()}{comparison.data[1:]} data.** " if comparison.data else ""
    return (
        f"{kind}Seeds {listed['seed']}; label budgets {listed['budget']}. {folds_told(comparison, whole)} "
        f"Optimisation steps of a fold: {steps}. Sequences: {', '.join(comparison.channels)}. Lesions are "
        f"matched by the protocol valdo: {PROTOCOLS['valdo'].defined}\n"
    )
