"""Which cohorts are simulated, by what a converted dataset says of its cases."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["looks_simulated", "simulated_cohorts"]

SIGNS_OF_SIMULATION = {
    "cohort": re.compile("SIMULATED"),
    "scanner": re.compile("simulated"),
    "anatomy": re.compile(r"average-\d+-\d+"),
}
"""What columns say in datasets of simulated people that were converted before cards said it."""


def simulated_cohorts(record: Mapping[str, Any], rows: Sequence[Mapping[str, str]]) -> frozenset[str]:
    """The cohorts that the record names; of records of earlier versions those whose columns cmb_simulate wrote."""
    told = record.get("simulated")
    if isinstance(told, list):
        return frozenset(map(str, told))
    return frozenset(row["cohort"] for row in rows if looks_simulated(row))


def looks_simulated(columns: Mapping[str, str]) -> bool:
    """Whether the columns of a case are those that `cmb_simulate` writes."""
    return any(sign.fullmatch(columns.get(column, "")) for column, sign in SIGNS_OF_SIMULATION.items())
