"""Participant flow: how many scans were found, left out and why, and what the others are used for.

The counts are those of a STARD or CONSORT figure (Bossuyt et al. 2015, 10.1136/bmj.h5527; Schulz et al. 2010).
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cmb_autoseg.files import write_tsv

__all__ = ["Flow", "FlowCount", "participant_flow", "reason_category", "write_flow_table"]

Row = Mapping[str, str]

CATEGORIES: tuple[tuple[str, str], ...] = (
    ("failed quality control", r"^quality control\b|^qc\b"),
    ("duplicate of another scan", r"the very scan of|same pixels|\bcopy of\b|duplicate"),
    ("motion or artifacts", r"\bmotion\b|\bghost|\bartefact|\bartifact"),
    ("incomplete coverage", r"\bcoverage\b|brain ends|cut off at"),
    (
        "missing sequence",
        r"\bno (?:swi|gre|qsm|t1|t2|flair|image|sequence|file)|lacks|missing|required|no such file|not found",
    ),
    ("missing label", r"\bno (?:label|mask|rating|reading)|label file"),
    ("ambiguous files", r"ambiguous|several files|more than one|which of"),
    ("registration refused", r"regist"),
    ("geometry does not fit", r"affine|\bgrid\b|\bshape\b|orientation|voxel size|outside the volume|spacing"),
    ("label cannot be used", r"\blabels?\b|\bmask\b|\bvalues?\b.*\blisted\b|\bpoint\b|\bbox(?:es)?\b"),
    (
        "corrupt or unreadable file",
        r"damaged|truncated|not readable|unreadable|nan|every voxel|corrupt|no grey values|zip|archive",
    ),
)
"""Looked for in this order; the card's own words (`exclude` rules and the like) come before all."""
OTHER = "other reasons"
DECIDED = "the card excludes it: "
"""Before the words of a person, which are a category of their own."""
MISSING = ("", "n/a")


@dataclass(frozen=True)
class FlowCount:
    """One box of the flow: so many cases of so many subjects."""

    stage: str
    """`found`, `excluded`, `included`, or what the included ones are: `labelled`, `unlabelled`, `test`."""
    cohort: str
    """A cohort, or `all`."""
    reason: str | None
    """Why cases were left out: of the stage `excluded` only, None for its sum."""
    cases: int
    subjects: int


@dataclass(frozen=True)
class Flow:
    """The whole flow: counts of all cohorts together, then of each."""

    counts: tuple[FlowCount, ...]

    def get(self, stage: str, cohort: str = "all", reason: str | None = None) -> FlowCount:
        """One count; zero where there is none."""
        found = (c for c in self.counts if (c.stage, c.cohort, c.reason) == (stage, cohort, reason))
        return next(found, FlowCount(stage, cohort, reason, 0, 0))

    def reasons(self, cohort: str = "all") -> list[FlowCount]:
        """Exclusions by reason, most frequent first."""
        found = [c for c in self.counts if c.cohort == cohort and c.stage == "excluded" and c.reason is not None]
        return sorted(found, key=lambda count: (-count.cases, count.reason or ""))

    @property
    def cohorts(self) -> list[str]:
        return [name for name in dict.fromkeys(count.cohort for count in self.counts) if name != "all"]


def reason_category(reason: str) -> str:
    """The kind of a reason in exclusions.tsv, for counting: `missing sequence`, or what a person wrote in the card."""
    if reason.startswith(DECIDED):
        return reason.removeprefix(DECIDED)
    text = re.sub(r"\S*/\S*|\S+\.nii\S*", " ", reason.lower())
    for category, pattern in CATEGORIES:
        if re.search(pattern, text):
            return category
    return OTHER


def participant_flow(rows: Sequence[Row], exclusions: Sequence[Row]) -> Flow:
    """Count the flow from the rows of cases.tsv and exclusions.tsv.

    A case that stands in both was prepared and then left out by quality control (`on_fail: exclude`) and counts
    as excluded. A subject is counted in every box that one of its cases is in.

    Args:
        rows: of cases.tsv, as read: `case`, `cohort`, `subject`, `split`, `labelled`.
        exclusions: of exclusions.tsv: `case`, `cohort`, `subject`, `reason`.
    """
    left_out = {(row["cohort"], row["case"]) for row in exclusions}
    used = [row for row in rows if (row["cohort"], row["case"]) not in left_out]
    cohorts = sorted({row["cohort"] for row in (*used, *exclusions)})
    counts: list[FlowCount] = []
    for cohort in ("all", *cohorts):
        of_cohort = [row for row in used if cohort in ("all", row["cohort"])]
        out = [row for row in exclusions if cohort in ("all", row["cohort"])]
        kinds = {"labelled": [], "unlabelled": [], "test": []}  # type: dict[str, list[Row]]
        for row in of_cohort:
            kinds[_kind(row)].append(row)
        counts.append(_count("found", cohort, None, [*of_cohort, *out]))
        counts.append(_count("excluded", cohort, None, out))
        by_reason = Counter(reason_category(row.get("reason", "")) for row in out)
        for reason, _ in sorted(by_reason.items(), key=lambda item: (-item[1], item[0])):
            part = [row for row in out if reason_category(row.get("reason", "")) == reason]
            counts.append(_count("excluded", cohort, reason, part))
        counts.append(_count("included", cohort, None, of_cohort))
        counts.extend(_count(kind, cohort, None, members) for kind, members in kinds.items())
    return Flow(tuple(counts))


def write_flow_table(path: Path, flow: Flow) -> None:
    """Write `participant_flow.tsv`, one row a box of the figure and cohort."""
    write_tsv(
        path,
        ("cohort", "stage", "reason", "cases", "subjects"),
        (
            {"cohort": c.cohort, "stage": c.stage, "reason": c.reason, "cases": c.cases, "subjects": c.subjects}
            for c in flow.counts
        ),
    )


def _kind(row: Row) -> str:
    if row.get("split") == "test":
        return "test"
    return "labelled" if row.get("labelled") in ("1", "True", "true") else "unlabelled"


def _count(stage: str, cohort: str, reason: str | None, rows: Sequence[Row]) -> FlowCount:
    subjects = {(row["cohort"], row["subject"]) for row in rows if row.get("subject", "") not in MISSING}
    return FlowCount(stage, cohort, reason, len(rows), len(subjects))
