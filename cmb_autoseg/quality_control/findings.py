"""What quality control says of a case, in words."""

from typing import Literal

from cmb_autoseg.quality_control.case_quality import CaseQuality
from cmb_autoseg.records import Record, Role

__all__ = ["CohortCase", "Finding", "Level", "Verdict"]

Level = Literal["note", "review", "fail"]


class CohortCase(Record):
    """A measured case with what tells it from the others."""

    case: str
    cohort: str
    subject: str
    quality: CaseQuality


class Finding(Record):
    """One thing that a person should know of a case."""

    rule: str
    """A short name, the same for all cases: `clipped`, `copy`, `label`."""
    level: Level
    """`note` changes no verdict."""
    text: str
    """With the number found and the threshold."""
    role: Role | None = None


class Verdict(Record):
    """Whether a case is good for use; the worst of its findings decides."""

    case: str
    cohort: str
    subject: str
    findings: tuple[Finding, ...] = ()

    @property
    def verdict(self) -> Literal["pass", "review", "fail"]:
        levels = {finding.level for finding in self.findings}
        return "fail" if "fail" in levels else "review" if "review" in levels else "pass"

    @property
    def reasons(self) -> str:
        """All findings, the worst first, in one line."""
        order = ("fail", "review", "note")
        ranked = sorted(self.findings, key=lambda finding: order.index(finding.level))
        return "; ".join(finding.text for finding in ranked)
