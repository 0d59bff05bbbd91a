"""From a raw dataset to a plan: fingerprint, channels, grid, patch, topology and folds."""

from cmb_autoseg.planners.fingerprint import fingerprint
from cmb_autoseg.planners.planner import PlanSettings, plan_dataset
from cmb_autoseg.planners.splits import N_FOLDS, split_folds

__all__ = ["N_FOLDS", "PlanSettings", "fingerprint", "plan_dataset", "split_folds"]
