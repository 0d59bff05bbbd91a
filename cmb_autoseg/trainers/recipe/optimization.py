"""How the weights of every kind of network are changed: part of a recipe."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from cmb_autoseg.trainers.recipe.settings import Settings, Share

__all__ = ["OptimizerSettings", "ScheduleSettings"]


class OptimizerSettings(Settings):
    """Adam; of 3D patches the learning rate falls polynomially, else as `schedule` says."""

    learning_rate: PositiveFloat = 3e-4
    """At its height."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-5
    """Of Adam."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Steps over which the learning rate rises linearly to its full value."""


class ScheduleSettings(Settings):
    """When the learning rate falls, when training ends early, and which weights stay; not of 3D patches."""

    decay: Literal["constant", "plateau", "steps"] = "constant"
    """`plateau`: when the validation figure has not risen for a while; `steps`: at given shares of all steps."""
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """By which the learning rate is multiplied at each fall."""
    patience_epochs: PositiveInt = 30
    """Of `plateau`: epochs without a better validation figure."""
    falls_at: tuple[Share, ...] = ()
    """Of `steps`: shares of all steps at which it falls."""
    stop_after_epochs: PositiveInt | None = None
    """Epochs without a better validation figure after which training ends; None: never before the last epoch."""
    keep: Literal["last", "best"] = "last"
    """Weights that stay: of the last epoch, or of the one with the best validation figure."""

    @model_validator(mode="after")
    def _falls_go_with_steps(self) -> "ScheduleSettings":
        if bool(self.falls_at) != (self.decay == "steps"):
            raise ValueError(
                f"falls_at: found {list(self.falls_at)}, decay {self.decay}; falls_at belongs to decay: steps, which "
                "needs it"
            )
        return self
