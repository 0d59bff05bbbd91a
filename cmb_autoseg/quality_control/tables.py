"""`qc.tsv`: one row a case, with its verdict, the reasons and the figures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cmb_autoseg.files import write_tsv
from cmb_autoseg.quality_control.case_quality import SequenceQuality
from cmb_autoseg.quality_control.findings import CohortCase, Verdict
from cmb_autoseg.records import Role

__all__ = ["QC_COLUMNS", "quality_rows", "write_quality_table"]

CASE_FIGURES = (
    *("brain_ml", "coverage", "cut_mm", "n_lesions", "largest_lesion_mm", "label_outside_brain", "lesion_contrast"),
)
QC_COLUMNS = ("case", "cohort", "subject", "verdict", "rules", "reasons", "reference", *CASE_FIGURES)
SEQUENCE_FIGURES = (
    *("shape", "spacing_mm", "orientation", "nonfinite", "empty_slices", "repeated_slices", "slice_jump"),
    *("slice_mismatch", "grey_levels", "clipped_high", "clipped_low", "median", "spread", "contrast", "snr", "noise"),
    *("snr_air", "ghost", "half_field", "spike", "ripple", "detail_skew", "sharpness"),
)
PAIR_FIGURES = ("overlap", "information", "match")


def quality_rows(cases: Sequence[CohortCase], verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """One dict a case, in the order of the cases; figures of a sequence are called like `swi_snr`."""
    judged = {verdict.case: verdict for verdict in verdicts}
    return [_row(case, judged[case.case]) for case in cases]


def write_quality_table(path: Path, cases: Sequence[CohortCase], verdicts: Sequence[Verdict]) -> None:
    """Write `qc.tsv`; what does not apply to a case is `n/a`."""
    roles = [role for role in Role if any(role in case.quality.sequences for case in cases)]
    paired = [role for role in roles if any(role in case.quality.pairs for case in cases)]
    columns = (
        *QC_COLUMNS,
        *(f"{role}_{name}" for role in roles for name in SEQUENCE_FIGURES),
        *(f"{role}_{name}" for role in paired for name in PAIR_FIGURES),
    )
    write_tsv(path, columns, quality_rows(cases, verdicts))


def _row(case: CohortCase, verdict: Verdict) -> dict[str, Any]:
    quality = case.quality
    row: dict[str, Any] = {
        "case": case.case,
        "cohort": case.cohort,
        "subject": case.subject,
        "verdict": verdict.verdict,
        "rules": ",".join(dict.fromkeys(finding.rule for finding in verdict.findings)) or None,
        "reasons": verdict.reasons or None,
        "reference": quality.reference,
    }
    if quality.brain is not None:
        worst = max(quality.brain.cut_mm.items(), key=lambda item: item[1])
        row |= {"brain_ml": quality.brain.volume_ml, "coverage": quality.brain.coverage, "cut_mm": worst[1]}
    if quality.label is not None:
        label = quality.label
        row |= {
            "n_lesions": len(label.lesions),
            "largest_lesion_mm": max((lesion.diameter_mm for lesion in label.lesions), default=None),
            "label_outside_brain": label.outside_brain,
            "lesion_contrast": label.contrast,
        }
    for role, sequence in quality.sequences.items():
        row |= {f"{role}_{name}": _figure(sequence, name) for name in SEQUENCE_FIGURES}
    for role, pair in quality.pairs.items():
        row |= {f"{role}_{name}": getattr(pair, name) for name in PAIR_FIGURES}
    return row


def _figure(sequence: SequenceQuality, name: str) -> Any:
    value = getattr(sequence, name)
    return "x".join(f"{part:g}" for part in value) if isinstance(value, tuple) else value
