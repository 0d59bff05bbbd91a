"""Quality control of a dataset: verdicts, who is left out for them, tables, gallery and participant flow."""

from collections.abc import Mapping, Sequence

from cmb_autoseg.dataset_conversion.case_conversion import CaseRecord
from cmb_autoseg.dataset_conversion.resolver import Cohort, Exclusion
from cmb_autoseg.progress import log
from cmb_autoseg.quality_control.findings import CohortCase, Verdict
from cmb_autoseg.quality_control.verdicts import judge
from cmb_autoseg.records import Case
from cmb_autoseg.workspace import DatasetFolders

__all__ = ["excluded_by_quality", "judge_cases", "tell_verdicts"]

SHOWN = 10
"""So many cases are named on the terminal; the table has all."""


def judge_cases(
    cases: Sequence[Case], records: Mapping[str, CaseRecord], cohorts: Mapping[str, Cohort]
) -> dict[str, Verdict]:
    """The verdict on each case that was measured, by its name."""
    measured = [
        CohortCase(case=case.name, cohort=case.cohort, subject=case.subject, quality=quality)
        for case in cases
        if (quality := records[case.name].quality) is not None
    ]
    settings = {name: cohort.qc for name, cohort in cohorts.items()}
    return {verdict.case: verdict for verdict in judge(measured, settings)}


def excluded_by_quality(verdicts: Mapping[str, Verdict], cohorts: Mapping[str, Cohort]) -> list[Exclusion]:
    """Cases that fail in cohorts whose card says `qc.on_fail: exclude`."""
    return [
        Exclusion(
            case=verdict.case,
            cohort=verdict.cohort,
            subject=verdict.subject,
            reason=f"quality control: {cohorts[verdict.cohort].disguise_path(verdict.reasons)}",
            by_rule=True,
        )
        for verdict in verdicts.values()
        if verdict.verdict == "fail" and cohorts[verdict.cohort].qc.on_fail == "exclude"
    ]


def tell_verdicts(verdicts: Mapping[str, Verdict], cohorts: Mapping[str, Cohort], folders: DatasetFolders) -> None:
    """Say on the terminal which cases somebody should look at."""
    doubtful = [verdict for verdict in verdicts.values() if verdict.verdict != "pass"]
    if not doubtful:
        return
    failed = [verdict for verdict in doubtful if verdict.verdict == "fail"]
    log(
        f"quality control: {len(failed)} cases fail and {len(doubtful) - len(failed)} want a look; "
        f"see {folders.raw / 'qc.html'}; qc.on_fail: exclude in a card leaves out what fails, "
        "exclude: {CASE: reason} any other"
    )
    for verdict in sorted(doubtful, key=lambda verdict: (verdict.verdict != "fail", verdict.case))[:SHOWN]:
        log(f"  {verdict.verdict}: {verdict.case}: {cohorts[verdict.cohort].disguise_path(verdict.reasons)}")
    if len(doubtful) > SHOWN:
        log(f"  and {len(doubtful) - SHOWN} more in {folders.raw / 'qc.tsv'}")
