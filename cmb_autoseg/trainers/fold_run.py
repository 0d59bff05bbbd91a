"""All that one fold is trained from, whatever kind of system it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cmb_autoseg.raw_dataset import RawDataset
from cmb_autoseg.records import Plan
from cmb_autoseg.trainers.fold_cases import FoldCases
from cmb_autoseg.trainers.fold_settings import FoldSettings
from cmb_autoseg.trainers.members import Member
from cmb_autoseg.trainers.pretrained_encoder import PretrainedEncoder
from cmb_autoseg.trainers.recipe import Recipe

__all__ = ["FoldRun"]


@dataclass(frozen=True)
class FoldRun:
    """One fold that is to be trained.

    Attributes:
        raw: the dataset.
        plan: its plan.
        recipe: what is trained, and how.
        model: folder of the model, in which its folds lie.
        fold: from 0.
        cases: to learn from and to watch.
        settings: device, seed and what else was chosen.
        shared: what the folds of a model share; stored as `cmb_autoseg` in its `plans.json`.
        encoder: pretrained, that it begins with; None for random weights.
        members: models that it is built on, in the order of `recipe.members`.
    """

    raw: RawDataset
    plan: Plan
    recipe: Recipe
    model: Path
    fold: int
    cases: FoldCases
    settings: FoldSettings
    shared: Mapping[str, object]
    encoder: PretrainedEncoder | None = None
    members: tuple[Member, ...] = ()

    @property
    def folder(self) -> Path:
        """Of this fold; the process that trains owns it."""
        return self.model / f"fold_{self.fold}"
