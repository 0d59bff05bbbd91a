"""Recipes: everything that defines a training run, as data."""

from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from cmb_autoseg.errors import InputError
from cmb_autoseg.records import Record

__all__ = ["Recipe", "list_recipes", "read_recipe"]

Share = Annotated[float, Field(ge=0, le=1)]
Plane = Literal["axial", "coronal", "sagittal"]


class NetworkSettings(Record):
    """What the recipe changes in the planned network."""

    features: tuple[PositiveInt, ...] | None = None
    """Features of each level, finest first; None: what the plan says."""


class OptimizerSettings(Record):
    """Adam with a polynomially falling learning rate."""

    learning_rate: PositiveFloat = 3e-4
    weight_decay: Annotated[float, Field(ge=0)] = 1e-5
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Steps over which the learning rate rises linearly to its full value."""


class LossSettings(Record):
    """Dice plus binary cross-entropy at every decoder level."""

    dice_weight: Annotated[float, Field(ge=0)] = 1.0
    bce_weight: Annotated[float, Field(ge=0)] = 1.0
    foreground_weight: PositiveFloat = 5.0


class SamplingSettings(Record):
    """Shares of patches around a lesion, around a brain voxel, anywhere."""

    lesion: Share = 0.60
    brain: Share = 0.25
    anywhere: Share = 0.15

    @model_validator(mode="after")
    def _sum_to_one(self) -> "SamplingSettings":
        if abs(self.lesion + self.brain + self.anywhere - 1) > 1e-6:
            raise ValueError("lesion, brain and anywhere must sum to 1")
        return self


class AugmentationSettings(Record):
    """Of Janardanan et al. 2026; probabilities are ours."""

    warp_probability: Share = 0.3
    rotation_degrees: Annotated[float, Field(ge=0, le=180)] = 15.0
    scaling: tuple[PositiveFloat, PositiveFloat] = (0.9, 1.1)
    elastic_mm: Annotated[float, Field(ge=0)] = 1.0
    flip: tuple[Plane, ...] = ("sagittal", "coronal")
    intensity_probability: Share = 0.5
    noise_sigma: tuple[Annotated[float, Field(ge=0)], PositiveFloat] = (0.01, 0.05)
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0.2
    channel_dropout: Share = 0.3


class InferenceSettings(Record):
    """Test-time flips and the overlap of sliding windows."""

    mirror: tuple[Plane, ...] = ("sagittal", "coronal")
    tile_step: Annotated[float, Field(gt=0, le=1)] = 0.5


class Recipe(Record):
    """One training run: schedule, network, optimiser, loss, sampling, augmentation, inference."""

    schema_: Annotated[Literal[1], Field(alias="schema")] = 1
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$")]
    """Part of a folder's name, in which two underscores in a row separate."""
    description: str
    epochs: PositiveInt
    steps_per_epoch: PositiveInt
    validation_steps: PositiveInt = 10
    batch_size: PositiveInt | None = None
    """None: what the plan says."""
    network: NetworkSettings = NetworkSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    loss: LossSettings = LossSettings()
    sampling: SamplingSettings = SamplingSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    inference: InferenceSettings = InferenceSettings()


def list_recipes() -> dict[str, Path]:
    """Shipped recipes by name, sorted."""
    folder = Path(str(resources.files("cmb_autoseg.trainers") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def read_recipe(wanted: str) -> Recipe:
    """A shipped recipe by name, or a YAML file.

    Raises:
        InputError: no such recipe, or a field that is unknown or out of range.
    """
    shipped = list_recipes()
    path = shipped.get(wanted, Path(wanted))
    if not path.is_file():
        raise InputError(f"-r {wanted}: no such recipe; choose {', '.join(shipped)} or give the path of a YAML file")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Recipe.model_validate(content)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable as YAML ({' '.join(str(error).split())})") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(f"{path}: {field}: {first['msg']} (found {first['input']!r})") from None
