"""The stages in a row: what the commands run, each skipping what is there already."""

from cmb_autoseg.pipeline.finalizing import finalize
from cmb_autoseg.pipeline.planning import plan_preprocess
from cmb_autoseg.pipeline.pretraining import PretrainSettings, pretrain
from cmb_autoseg.pipeline.stored import read_plan
from cmb_autoseg.pipeline.training import TrainSettings, train

__all__ = ["PretrainSettings", "TrainSettings", "finalize", "plan_preprocess", "pretrain", "read_plan", "train"]
