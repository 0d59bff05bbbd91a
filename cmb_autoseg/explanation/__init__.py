"""Where a network looked when it called something a microbleed, and which sequence mattered."""

from cmb_autoseg.explanation.files import ExplainedCase, ExplanationFiles
from cmb_autoseg.explanation.findings import Finding, find_findings
from cmb_autoseg.explanation.grad_cam import grad_cam, level_modules, mean_logit_difference
from cmb_autoseg.explanation.places import Explanation

__all__ = [
    "ExplainedCase",
    "Explanation",
    "ExplanationFiles",
    "Finding",
    "find_findings",
    "grad_cam",
    "level_modules",
    "mean_logit_difference",
]
