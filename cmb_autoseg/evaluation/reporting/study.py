"""All that the tables and figures of a report are made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cmb_autoseg.evaluation.case_score import CaseScore
from cmb_autoseg.evaluation.matching.protocols import Protocol
from cmb_autoseg.evaluation.metrics.figure import Figure
from cmb_autoseg.reporting.tables import Row

__all__ = ["Group", "Study"]


@dataclass(frozen=True)
class Group:
    """Some of the lesions or cases, and their figures."""

    by: str
    """What divides them: `size`, `region`, or a column of the table of cases."""
    name: str
    counts: Mapping[str, int]
    """How many: `cases`, `subjects`, `lesions`, `predicted`; whichever are known."""
    figures: Mapping[str, Figure]
    """By `<group>.<key>` of `metrics.json`, such as `lesion.sensitivity`."""
    warning: str = ""
    """Why its figures are not to be relied on, such as too few subjects; says which group it is about."""
    few: str = ""
    """What it has too few of, such as `4 without lesions`."""


@dataclass(frozen=True)
class Study:
    """Scored cases and their figures under one protocol; whatever is empty has no table."""

    protocol: Protocol
    cases: Sequence[CaseScore]
    figures: Mapping[str, Mapping[str, Figure]]
    """By group and key of `metrics.json`: `lesion`, `voxel`, `count`, `patient`, `severity`, `calibration`, `surface`.
    """
    limits: Mapping[str, Protocol] = field(default_factory=dict)
    """The protocols of `by_protocol`, with the limits in force."""
    by_protocol: Mapping[str, Mapping[str, Figure]] = field(default_factory=dict)
    """Lesion figures by the protocol's name."""
    strata: Sequence[Group] = ()
    """By size and region."""
    subgroups: Sequence[Group] = ()
    systems: Mapping[str, Mapping[str, Figure]] = field(default_factory=dict)
    """Figures by `<group>.<key>`, by the system's name; this one among them."""
    differences: Sequence[Mapping[str, Any]] = ()
    """As `statistics.paired.comparison_rows` gives them."""
    more_rows: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    """Of tables that have the columns of their rows: `delong`, `power`, `reader_verdicts`, `reader_agreement`."""
    operating_point: Mapping[str, str] = field(default_factory=dict)
    """Name and value: threshold, its name, what it was chosen from."""
