"""Tables as TSV, Markdown and JSON, and the page that holds them all."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cmb_autoseg.comparison.cells import Comparison
from cmb_autoseg.comparison.drawings import draw
from cmb_autoseg.comparison.table import TITLES, Table, budget_shown
from cmb_autoseg.evaluation.metrics import Figure
from cmb_autoseg.evaluation.protocols import PROTOCOLS
from cmb_autoseg.files import write_json, write_text, write_tsv

__all__ = ["as_markdown", "headline", "write_page", "write_table"]

EXACT = ("budget", "p", "p_holm", "p_wilcoxon", "p_wilcoxon_holm")
"""Columns of numbers that are shown with three digits that count, not with three decimals."""
TESTS_OF = {
    "p": ("difference", "cost"),
    "p_holm": ("difference", "cost"),
    "p_wilcoxon": ("subjects",),
    "p_wilcoxon_holm": ("subjects",),
}
"""What a row has wherever the test of a column was asked for, though it may have no p."""


def write_table(table: Table, folder: Path, data: str = "") -> None:
    """Write `<name>.tsv`, `.md` and `.json` into a folder; a figure's interval has columns of its own in the TSV."""
    has_interval = {key for key in table.columns for row in table.rows if isinstance(row.get(key), Figure)}
    columns = [
        part
        for key in table.columns
        for part in ((key, f"{key}_low", f"{key}_high") if key in has_interval else (key,))
    ]
    state = [] if "state" in table.columns else ["state"]
    write_tsv(folder / f"{table.name}.tsv", [*columns, *state], [_flat(row) for row in table.rows])
    write_text(folder / f"{table.name}.md", as_markdown(table) + _notes(table))
    keys = (*table.columns, *state)
    rows = [{key: _plain(row.get(key)) for key in keys} for row in table.rows]
    content = {"title": table.title, "data": data or None, "notes": list(table.notes), "rows": rows}
    write_json(folder / f"{table.name}.json", content)


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, Figure):
            low, high = value.ci or (None, None)
            flat |= {key: value.value, f"{key}_low": low, f"{key}_high": high}
        else:
            flat[key] = value
    return flat


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, Figure) else value


def as_markdown(table: Table) -> str:
    """The table alone; what is not run yet says so in the first empty column, or in one of its own."""
    keys = [key for key in table.columns if any(_value(row, key) is not None for row in table.rows)]
    untold = any(row.get("state") and all(row.get(key) is not None for key in keys) for row in table.rows)
    if untold and "state" not in keys:
        keys.append("state")
    lines = ["| " + " | ".join(TITLES[key] for key in keys) + " |", "|" + " --- |" * len(keys)]
    lines += ["| " + " | ".join(_cells(row, keys)) + " |" for row in table.rows]
    return "\n".join(lines) + "\n"


def _value(row: dict[str, Any], key: str) -> Any:
    """Of a cell; `n/a` for a p that cannot be had."""
    value = row.get(key)
    asked = any(row.get(other) is not None for other in TESTS_OF.get(key, ()))
    return "n/a" if value is None and asked else value


def _cells(row: dict[str, Any], keys: Sequence[str]) -> list[str]:
    shown = [_shown(key, _value(row, key)) for key in keys]
    if row.get("state") and "state" not in keys:
        shown[next(index for index, key in enumerate(keys) if row.get(key) is None)] = str(row["state"])
    return shown


def _shown(key: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Figure):
        if value.value is None:
            return "n/a"
        interval = f"{value.ci[0]:.3f} to {value.ci[1]:.3f}" if value.ci else "n/a"
        return f"{value.value:.3f} ({interval})"
    if isinstance(value, float):
        return f"{value:.3g}" if key in EXACT else f"{value:.3f}"
    return f"{value:,}" if key == "parameters" else str(value)


def _notes(table: Table) -> str:
    return "\n" + "\n\n".join(table.notes) + "\n"


def write_page(tables: Sequence[Table], comparison: Comparison, out: Path) -> None:
    """Write every table and picture, and `comparison.md` with all of them; what is there no more is deleted."""
    names = {table.name for table in tables}
    for old in (*(out / "tables").glob("*.*"), *(out / "figures").glob("*.png")):
        if old.stem not in names and not old.name.startswith("."):
            old.unlink()
    parts = [f"# Comparison on {comparison.dataset}\n", _head(comparison)]
    common = [note for note in tables[0].notes if sum(note in table.notes for table in tables) > 2]
    for table in tables:
        write_table(table, out / "tables", comparison.data)
        parts.append(f"## {table.title}\n\n{as_markdown(table)}")
        parts += [f"{note}\n" for note in table.notes if note not in common]
        if draw(table, out / "figures" / f"{table.name}.png", comparison.data):
            parts.append(f"![{table.title}](figures/{table.name}.png)\n")
    parts.insert(2, "\n\n".join(common) + "\n")
    write_text(out / "comparison.md", "\n".join(parts))


def headline(comparison: Comparison) -> str:
    """What the first table shows, for where it stands alone."""
    data = f", {comparison.data} data" if comparison.data else ""
    return f"Learning paradigms on {comparison.dataset}{data}, {budget_shown(comparison)}:"


def _head(comparison: Comparison) -> str:
    plain = [cell for cell in comparison.cells if cell.trained_on is None]
    listed = {
        name: ", ".join(f"{value:g}" for value in sorted({getattr(cell, name) for cell in plain}))
        for name in ("seed", "budget", "fold")
    }
    steps = ", ".join(f"{recipe} {comparison.steps[recipe]}" for recipe in comparison.recipes)
    kind = f"**{comparison.data[0].upper()}{comparison.data[1:]} data.** " if comparison.data else ""
    return (
        f"{kind}Seeds {listed['seed']}; label budgets {listed['budget']}; folds {listed['fold']} of 0 to 4, the same "
        f"for all. Optimisation steps of a fold: {steps}. Sequences: {', '.join(comparison.channels)}. Lesions are "
        f"matched by the protocol valdo: {PROTOCOLS['valdo'].definition}\n"
    )
