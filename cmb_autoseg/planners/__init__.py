"""From a raw dataset to a plan: fingerprint, channels, grid, patch, topology and folds."""

from cmb_autoseg.planners.explain import explain
from cmb_autoseg.planners.fingerprint import fingerprint
from cmb_autoseg.planners.planner import PlanSettings, plan_dataset
from cmb_autoseg.planners.splits import N_FOLDS, split_folds
from cmb_autoseg.planners.stored import current_fingerprint, fingerprint_path, stored_explanation

__all__ = [
    "N_FOLDS",
    "PlanSettings",
    "current_fingerprint",
    "explain",
    "fingerprint",
    "fingerprint_path",
    "plan_dataset",
    "split_folds",
    "stored_explanation",
]
