"""Pass, review or fail: what the measures of a cohort's cases mean."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from cmb_autoseg.quality_control.case_rules import case_findings
from cmb_autoseg.quality_control.cohort_rules import cohort_findings, protocol_of
from cmb_autoseg.quality_control.copies import copy_findings
from cmb_autoseg.quality_control.findings import CohortCase, Finding, Verdict
from cmb_autoseg.quality_control.settings import QualitySettings

__all__ = ["judge"]

USUAL_SHARE = 0.5
"""What this share of a protocol's cases show alike is how the protocol is, not a fault of one scan."""
OF_PROTOCOL = ("coverage", "brain volume", "clipped", "grey values", "slices", "noise", "ghost", "overlap", "match")
"""Rules to which that applies."""
FEWEST_ALIKE = 3
"""Cases that tell how much of the brain a protocol scans, if all of them do."""


def judge(
    cases: Sequence[CohortCase], settings: QualitySettings | Mapping[str, QualitySettings] | None = None
) -> list[Verdict]:
    """Judge all cases of one dataset, in their order.

    Args:
        cases: of one cohort or several; outliers are looked for within a cohort, copies among all.
        settings: thresholds for all, or those of each cohort by its name; the defaults where none are given.
    """
    of_cohort: dict[str, list[CohortCase]] = defaultdict(list)
    for case in cases:
        of_cohort[case.cohort].append(case)
    found: dict[str, list[Finding]] = defaultdict(list)
    for cohort, members in of_cohort.items():
        thresholds = _of(settings, cohort)
        own = {case.case: case_findings(case.quality, thresholds) for case in members}
        usual = _usual(members, own, thresholds)
        outlying = cohort_findings(members, thresholds)
        for case in members:
            found[case.case] += [
                *(_as_note(finding) if _key(case, finding) in usual else finding for finding in own[case.case]),
                *outlying.get(case.case, ()),
            ]
    for name, findings in copy_findings(cases, _of(settings, cases[0].cohort) if cases else QualitySettings()).items():
        found[name] += findings
    return [
        Verdict(case=case.case, cohort=case.cohort, subject=case.subject, findings=tuple(found[case.case]))
        for case in cases
    ]


def _of(settings: QualitySettings | Mapping[str, QualitySettings] | None, cohort: str) -> QualitySettings:
    if settings is None:
        return QualitySettings()
    return settings if isinstance(settings, QualitySettings) else settings.get(cohort, QualitySettings())


def _key(case: CohortCase, finding: Finding) -> tuple[object, ...]:
    return protocol_of(case.quality), finding.rule, finding.role


def _usual(
    cases: Sequence[CohortCase], found: Mapping[str, Sequence[Finding]], settings: QualitySettings
) -> set[tuple[object, ...]]:
    """Findings that half of a protocol's cases share: slabs that cover a part of the brain, say.

    Of a protocol with fewer cases than `min_cohort`, what all of at least 3 show of how much was scanned.
    """
    sizes: dict[object, int] = defaultdict(int)
    counts: dict[tuple[object, ...], int] = defaultdict(int)
    for case in cases:
        sizes[protocol_of(case.quality)] += 1
        for key in {_key(case, finding) for finding in found[case.case] if finding.rule in OF_PROTOCOL}:
            counts[key] += 1
    return {
        key
        for key, count in counts.items()
        if (sizes[key[0]] >= settings.min_cohort and count >= USUAL_SHARE * sizes[key[0]])
        or (key[1] == "coverage" and count == sizes[key[0]] >= FEWEST_ALIKE)
    }


def _as_note(finding: Finding) -> Finding:
    return finding.model_copy(update={"level": "note", "text": f"{finding.text} (as in most scans of its protocol)"})
