"""Seconds that predictions took."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.inputs.folders import listed
from cmb_autoseg.evaluation.inputs.naming import RUN_RECORD
from cmb_autoseg.evaluation.inputs.rows import cell_text, is_missing, number, read_rows
from cmb_autoseg.files import read_json

__all__ = ["read_seconds", "run_records", "seconds_of_run"]

PART = "prepare: "
"""Begins the names of steps that are parts of another one."""
COLUMNS = ("case", "seconds")


def seconds_of_run(predicted: Path) -> dict[str, float]:
    """Seconds a case by the records that cmb_predict and cmb_bids leave beside predictions; empty where there are none.

    Args:
        predicted: folder of the predictions, or a list or mask in it.
    """
    seconds: dict[str, float] = {}
    for run in run_records(predicted):
        steps = run.get("seconds")
        for case, took in steps.items() if isinstance(steps, dict) else ():
            if isinstance(took, dict):
                parts = [value for step, value in took.items() if not step.startswith(PART)]
                if parts and all(isinstance(value, int | float) for value in parts):
                    seconds[case] = float(sum(parts))
    return seconds


def run_records(predicted: Path) -> list[Mapping[str, Any]]:
    """What runs of this tool say of themselves in a folder of predictions; other files of that name are passed over.

    Args:
        predicted: the folder, or a list or mask in it.
    """
    folder = predicted if predicted.is_dir() else predicted.parent
    records: list[Mapping[str, Any]] = []
    for path in (*sorted(folder.glob(f"logs/*_{RUN_RECORD}")), folder / RUN_RECORD):
        try:
            content = read_json(path)
        except InputError:
            continue
        if isinstance(content, dict) and "model" in content:
            records.append(content)
    return records


def read_seconds(path: Path, cases: Collection[str]) -> dict[str, float]:
    """Seconds a case from a table with the columns `case` and `seconds`; empty cells are left out.

    Args:
        path: of the table.
        cases: that it should speak of.

    Raises:
        InputError: unreadable, a missing column, a time that is not above 0, two rows of one case, or no row of any of
            the cases.
    """
    table = read_rows(path)
    for column in COLUMNS:
        if column not in table.columns:
            there = ", ".join(filter(None, table.columns)) or "none"
            raise InputError(f"{path}: no column {column} (there: {there}); give the columns case and seconds")
    seconds: dict[str, float] = {}
    for row in table.rows:
        if is_missing(row.cells.get("seconds")):
            continue
        case, took = cell_text(row.cells.get("case")), number(row, "seconds")
        if took <= 0:
            raise InputError(f"{row.where}: seconds {took:g} of {case} is not above 0; correct it")
        if case in seconds:
            raise InputError(f"{row.where}: a second row of {case}; keep one")
        seconds[case] = took
    if cases and not seconds.keys() & set(cases):
        raise InputError(
            f"{path}: has no seconds of any case ({listed(sorted(cases))}); its column case holds "
            f"{listed(seconds)}; name them alike"
        )
    return seconds
