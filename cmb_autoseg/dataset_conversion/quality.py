"""Quality control of a dataset: verdicts, who is left out for them, tables, gallery and participant flow."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from cmb_autoseg.dataset_conversion.case_conversion import CaseRecord
from cmb_autoseg.dataset_conversion.sorting.resolver import Cohort, Exclusion
from cmb_autoseg.files import atomic_path
from cmb_autoseg.progress import log
from cmb_autoseg.quality_control.cohort_table import write_cohort_table
from cmb_autoseg.quality_control.findings import CohortCase, Verdict
from cmb_autoseg.quality_control.flow import participant_flow, write_flow_table
from cmb_autoseg.quality_control.flow_figure import draw_flow
from cmb_autoseg.quality_control.gallery import write_gallery
from cmb_autoseg.quality_control.tables import write_quality_table
from cmb_autoseg.quality_control.verdicts import judge
from cmb_autoseg.records import Case
from cmb_autoseg.workspace import DatasetFolders

__all__ = ["excluded_by_quality", "judge_cases", "tell_verdicts", "write_flow", "write_quality"]

SHOWN = 10
"""So many cases are named on the terminal; the table has all."""


def judge_cases(
    cases: Sequence[Case], records: Mapping[str, CaseRecord], cohorts: Mapping[str, Cohort]
) -> dict[str, Verdict]:
    """The verdict on each case that was measured, by its name."""
    measured = _measured(cases, records)
    settings = {name: cohort.qc for name, cohort in cohorts.items()}
    return {verdict.case: verdict for verdict in judge(measured, settings)}


def _measured(cases: Sequence[Case], records: Mapping[str, CaseRecord]) -> list[CohortCase]:
    return [
        CohortCase(case=case.name, cohort=case.cohort, subject=case.subject, quality=quality)
        for case in cases
        if (quality := records[case.name].quality) is not None
    ]


def write_quality(
    folders: DatasetFolders,
    cases: Sequence[Case],
    records: Mapping[str, CaseRecord],
    verdicts: Mapping[str, Verdict],
    left_out: AbstractSet[str],
    cohorts: Mapping[str, Cohort],
) -> None:
    """Write `qc.tsv` and the gallery `qc.html`, of all cases that were prepared."""
    measured = _measured(cases, records)
    judged = [verdicts[case.case] for case in measured]
    disguised = [
        verdict.model_copy(
            update={
                "findings": tuple(
                    finding.model_copy(update={"text": cohorts[verdict.cohort].disguise(finding.text)})
                    for finding in verdict.findings
                )
            }
        )
        for verdict in judged
    ]
    write_quality_table(folders.raw / "qc.tsv", measured, disguised)
    write_gallery(folders.raw / "qc.html", folders.name, measured, disguised, folders.raw / "qc", sorted(left_out))


def write_flow(folders: DatasetFolders, rows: Sequence[Mapping[str, object]], exclusions: Sequence[Exclusion]) -> None:
    """Write the participant flow as table and figure, and the table of cohorts."""
    texts = [{name: "n/a" if value is None else str(value) for name, value in row.items()} for row in rows]
    left_out = [{name: str(value) for name, value in exclusion.model_dump().items()} for exclusion in exclusions]
    flow = participant_flow(texts, left_out)
    write_flow_table(folders.raw / "participant_flow.tsv", flow)
    with (
        atomic_path(folders.raw / "participant_flow.svg") as svg,
        atomic_path(folders.raw / "participant_flow.png") as png,
    ):
        draw_flow(flow, svg, png)
    write_cohort_table(texts, folders.raw / "cohorts.tsv", folders.raw / "cohorts.md")


def excluded_by_quality(verdicts: Mapping[str, Verdict], cohorts: Mapping[str, Cohort]) -> list[Exclusion]:
    """Cases that fail in cohorts whose card says `qc.on_fail: exclude`."""
    return [
        Exclusion(
            case=verdict.case,
            cohort=verdict.cohort,
            subject=verdict.subject,
            reason=f"quality control: {cohorts[verdict.cohort].disguise(verdict.reasons)}",
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
        worst = "; ".join(finding.text for finding in verdict.findings if finding.level == verdict.verdict)
        log(f"  {verdict.verdict}: {verdict.case}: {cohorts[verdict.cohort].disguise(worst)}")
    if len(doubtful) > SHOWN:
        log(f"  and {len(doubtful) - SHOWN} more in {folders.raw / 'qc.tsv'}")
