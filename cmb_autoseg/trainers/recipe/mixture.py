"""Parts of a recipe that joins the models of other recipes."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cmb_autoseg.trainers.recipe.settings import Settings

__all__ = ["Combine", "MixtureSettings"]

Combine = Literal["mean", "vote"]
"""Weighted mean of the probability maps, or weighted votes of the members for each lesion."""
MemberName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$")]


class MixtureSettings(Settings):
    """An ensemble across recipes, all trained on the same folds."""

    members: Annotated[tuple[MemberName, ...], Field(min_length=2)]
    """Names of the recipes, of any kind."""
    combine: Combine = "mean"
    """Weighted mean of the probability maps, or weighted votes of the members for each lesion."""
    weights: Literal["out_of_fold", "equal"] = "out_of_fold"
    """Learned on cases that no member has seen in training, or the same for all."""

    @model_validator(mode="after")
    def _members_differ(self) -> "MixtureSettings":
        if len({*self.members}) < len(self.members):
            raise ValueError(f"members: found {', '.join(self.members)}; a member is named twice; name each once")
        return self
