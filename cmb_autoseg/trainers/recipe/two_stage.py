"""Parts of a recipe that confirms or vetoes what another recipe's model proposes."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from cmb_autoseg.trainers.recipe.settings import Settings, Share
from cmb_autoseg.trainers.recipe.slices import SliceAugmentationSettings

__all__ = ["TwoStageSettings"]

SLICES = 5


class TwoStageSettings(Settings):
    """A second look at the candidates of a first stage, learned from its out-of-fold predictions."""

    first: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$")] = "supervised"
    """Recipe of the first stage, trained on the same folds; of any kind."""
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Probability from which the first stage proposes; low, so that little is missed."""
    candidates_per_case: PositiveInt = 60
    """Most that are looked at, those of the highest probability first."""
    random_places: Annotated[int, Field(ge=0)] = 10
    """Places of the brain, drawn at random in each training case, that are learned from beside the candidates."""
    second: Literal["yolo", "classifier3d"] = "yolo"
    """A single-stage detector on neighboring slices, or a 3D classifier of a cube."""
    window_mm: Annotated[float, Field(ge=4, le=200)] = 32.0
    """Side of the neighborhood that is looked at."""
    window_pixels: Annotated[int, Field(ge=1, le=512)] = 64
    """Rows and columns of the neighborhood; of the cube half as many along each axis."""
    slices: Annotated[int, Field(ge=1, le=31)] = SLICES
    """Of `yolo` alone: neighboring slices seen at once, an odd number."""
    features: Annotated[tuple[PositiveInt, ...], Field(min_length=2)] = (16, 32, 64)
    """Filters of each level, finest first; each level halves rows and columns."""
    near_mm: PositiveFloat = 2.0
    """A candidate is right where its peak lies in a microbleed or at most this far from one; of `yolo`, a box speaks
    for a candidate where it holds its peak, or lies at most this far from it."""
    positive_share: Share = 0.5
    """Share of a batch that holds a microbleed in its middle."""
    augmentation: SliceAugmentationSettings = SliceAugmentationSettings()
    fusion: Literal["product", "geometric_mean", "second"] = "geometric_mean"
    """How the two stages' probabilities become one."""

    @model_validator(mode="after")
    def _levels_fit(self) -> "TwoStageSettings":
        if self.slices % 2 == 0:
            raise ValueError(f"slices: found {self.slices}; an odd number is needed, so that one is in the middle")
        if self.second == "classifier3d" and self.slices != SLICES:
            raise ValueError(f"slices: found {self.slices}, but second: classifier3d sees a cube; leave it out")
        side = self.window_pixels if self.second == "yolo" else self.window_pixels // 2
        step = 2 ** len(self.features)
        if side % step or side < 2 * step or (self.second == "classifier3d" and self.window_pixels % 2):
            unit = step if self.second == "yolo" else 2 * step
            raise ValueError(
                f"window_pixels: found {self.window_pixels}, but {len(self.features)} levels of features halve the "
                f"neighborhood {len(self.features)} times; take a multiple of {unit}, {2 * unit} or more"
            )
        return self
