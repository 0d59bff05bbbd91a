"""Recipes: everything that defines a training run, as data."""

import difflib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from cmb_autoseg.errors import InputError
from cmb_autoseg.records import Plan, Record, Role

__all__ = ["Recipe", "list_recipes", "read_recipe"]

Share = Annotated[float, Field(ge=0, le=1)]
Plane = Literal["axial", "coronal", "sagittal"]


class Settings(Record):
    """A part of a recipe; the text under a field is its description in the schema and in the reference."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class NetworkSettings(Settings):
    """What the recipe changes in the planned network."""

    features: tuple[PositiveInt, ...] | None = None
    """Features of each level, finest first; fewer numbers make fewer levels. Without it: what the plan says."""


class OptimizerSettings(Settings):
    """Adam with a polynomially falling learning rate."""

    learning_rate: PositiveFloat = 3e-4
    """At its height."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-5
    """Of Adam."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Steps over which the learning rate rises linearly to its full value."""


class LossSettings(Settings):
    """Dice plus binary cross-entropy at every decoder level."""

    dice_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the Dice term."""
    bce_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the cross-entropy term."""
    foreground_weight: PositiveFloat = 5.0
    """How much more a microbleed's voxel counts in the cross-entropy than another."""


class SamplingSettings(Settings):
    """Shares of patches around a lesion, around a brain voxel, anywhere."""

    lesion: Share = 0.60
    """Patches around a voxel of a lesion; every lesion has the same chance, whatever its size."""
    brain: Share = 0.25
    """Patches around a voxel of the brain."""
    anywhere: Share = 0.15
    """Patches anywhere in the volume."""

    @model_validator(mode="after")
    def _sum_to_one(self) -> "SamplingSettings":
        if abs(self.lesion + self.brain + self.anywhere - 1) > 1e-6:
            raise ValueError("lesion, brain and anywhere must sum to 1")
        return self


class AugmentationSettings(Settings):
    """Of Janardanan et al. 2026; probabilities are ours."""

    warp_probability: Share = 0.3
    """Share of patches that are rotated, scaled and bent."""
    rotation_degrees: Annotated[float, Field(ge=0, le=180)] = 15.0
    """Largest rotation about each axis; slices over 3 times thicker than the voxels in-plane turn in-plane only."""
    scaling: tuple[PositiveFloat, PositiveFloat] = (0.9, 1.1)
    """Smallest and largest factor of size."""
    elastic_mm: Annotated[float, Field(ge=0)] = 1.0
    """Largest shift by bending, in millimetres; 0 for none."""
    flip: tuple[Plane, ...] = ("sagittal", "coronal")
    """Planes across which a patch is mirrored, each with a chance of one half."""
    intensity_probability: Share = 0.5
    """Chance of each sequence to change in contrast, and, drawn by itself, to get noise."""
    noise_sigma: tuple[Annotated[float, Field(ge=0)], PositiveFloat] = (0.01, 0.05)
    """Smallest and largest standard deviation of added noise; the brain's own is 1."""
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Grey values are multiplied by at least 1 - this and at most 1 + this."""
    channel_dropout: Share = 0.3
    """Chance of each sequence to be blanked; one in which microbleeds show always stays."""


class BarlowTwinsSettings(Settings):
    """Barlow Twins (Zbontar et al. 2021): two views of one place are to correlate feature by feature."""

    projector: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (2048, 2048, 2048)
    """Width of each layer between the encoder and the loss; the last is the number of features that are correlated."""
    redundancy_weight: PositiveFloat = 0.005
    """Weight of the off-diagonal part of the cross-correlation, lambda in the paper. A narrow projector has fewer such
    entries for each one on the diagonal and needs more: about 10 divided by the width."""
    places: Literal["patch", "voxels", "both"] = "patch"
    """What is one sample: the mean of the deepest level over the patch, or single places of `voxel_level`, which
    teaches the levels up to that one only; `both` adds the two losses, each with a projector of its own."""
    voxel_level: Annotated[int, Field(ge=0)] = 1
    """With places, the encoder's level whose feature vectors are compared, 0 for the finest."""
    voxels_per_patch: PositiveInt = 16
    """With places, how many of a patch are compared, drawn anew for every patch."""


class MaskingSettings(Settings):
    """Masked autoencoding: blocks of the patch are blanked and have to be filled in."""

    ratio: Annotated[float, Field(gt=0, lt=1)] = 0.6
    """Share of blocks that are blanked, each sequence by itself."""
    block: PositiveInt = 8
    """Voxels along each side of a block; fewer along axes of fewer voxels."""


class PretrainingSettings(Settings):
    """How `cmb_pretrain` makes the recipe's encoder."""

    method: Literal["barlow_twins", "masked_autoencoding", "imagenet"]
    """What it learns from; `imagenet` learns nothing but inflates the 2D ResNet-18 weights of `--weights`."""
    epochs: PositiveInt = 100
    """Epochs; the learning rate falls to 0 at the last."""
    steps_per_epoch: PositiveInt = 250
    """Batches of an epoch."""
    batch_size: Annotated[int, Field(ge=2)] = 64
    """Patches, or pairs of views, of a step; over all processes."""
    micro_batch_size: PositiveInt | None = None
    """Patches that go through the encoder at a time; fewer take less memory and give the same. Without it: all."""
    learning_rate: PositiveFloat = 5e-4
    """At its height; Adam with a cosine decay."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-5
    """Of Adam."""
    warmup_steps: Annotated[int, Field(ge=0)] = 500
    """Steps over which the learning rate rises linearly to its full value."""
    brain: Share = 0.9
    """Share of patches around a voxel of the brain; the others lie anywhere."""
    channel_dropout: Share = 0.3
    """Chance of each sequence to be left out of a view; one in which microbleeds show always stays."""
    barlow_twins: BarlowTwinsSettings = BarlowTwinsSettings()
    masking: MaskingSettings = MaskingSettings()

    def what_decides(self) -> dict[str, Any]:
        """As plain types, without what changes memory and time but not what is learned."""
        return self.model_dump(mode="json", exclude={"micro_batch_size"})


class TransferSettings(Settings):
    """Where the encoder's first weights come from, and how gently they are changed."""

    encoder: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$")] | None = None
    """Recipe whose `cmb_pretrain` made the encoder. Without it: random weights, or what `cmb_train --encoder` names."""
    learning_rate_factor: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Learning rate of a pretrained encoder as a share of the rest's."""
    frozen_steps: Annotated[int, Field(ge=0)] = 0
    """First steps in which a pretrained encoder does not change."""


class SemiSupervisedSettings(Settings):
    """Learning from unlabelled cases while training: what the network says of an easy view teaches a hard one."""

    method: Literal["fixmatch", "mean_teacher"]
    """Who teaches: the network itself (Sohn et al. 2020) or its moving average (Tarvainen and Valpola 2017)."""
    unlabelled_ratio: PositiveFloat = 1.0
    """Unlabelled patches of a step for each labelled one, rounded up."""
    weight: Annotated[float, Field(ge=0)] = 1.0
    """Of the unlabelled loss at its full."""
    ramp_up_steps: Annotated[int, Field(ge=0)] = 500
    """Steps over which the weight rises linearly from 0."""
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.9
    """A voxel teaches microbleed from this probability on, and background from 1 minus this down."""
    background_ratio: PositiveFloat = 10.0
    """Background voxels that teach for each voxel of microbleed, the least certain of the confident first."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Of the mean teacher's weights, a step."""
    noise_sigma: tuple[Annotated[float, Field(ge=0)], PositiveFloat] = (0.05, 0.2)
    """Noise of the hard view; the brain's own standard deviation is 1."""
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0.4
    """Contrast of the hard view changes by at most this."""
    channel_dropout: Share = 0.5
    """Chance of each sequence to be blanked in the hard view; one in which microbleeds show always stays."""


class InferenceSettings(Settings):
    """Test-time flips and the overlap of sliding windows."""

    mirror: tuple[Plane, ...] = ("sagittal", "coronal")
    """Planes across which a scan is mirrored and predicted again; each doubles the time."""
    tile_step: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Step between sliding windows as a share of the patch; smaller is slower and smoother."""


class Recipe(Settings):
    """One training run: schedule, network, optimiser, loss, sampling, augmentation, inference."""

    schema_: Annotated[Literal[1], Field(alias="schema")] = 1
    """Version of this list of keys."""
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$")]
    """Part of a folder's name, in which two underscores in a row separate: small letters, digits, single `_`."""
    description: str
    """One line for people."""
    epochs: PositiveInt
    """Epochs; the learning rate falls to 0 at the last."""
    steps_per_epoch: PositiveInt
    """Batches of an epoch."""
    validation_steps: PositiveInt = 10
    """Batches of validation cases after each epoch, for the curves alone."""
    batch_size: PositiveInt | None = None
    """Patches of a step. Without it: what the plan says."""
    network: NetworkSettings = NetworkSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    loss: LossSettings = LossSettings()
    sampling: SamplingSettings = SamplingSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    inference: InferenceSettings = InferenceSettings()
    sequences: tuple[Role, ...] | None = None
    """The only sequences to train on; the others are left blank. Without it: all that the plan has."""
    pretraining: PretrainingSettings | None = None
    """How `cmb_pretrain -r` makes an encoder of this recipe's name. Without it: it makes none."""
    transfer: TransferSettings = TransferSettings()
    semi_supervised: SemiSupervisedSettings | None = None
    """Learning from unlabelled cases. Without it: they are not looked at in training."""
    _given: str | None = PrivateAttr(default=None)

    @property
    def given(self) -> str | None:
        """What `read_recipe` found it by, for messages that say what to type; None of one that was not read."""
        return self._given

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and self.model_dump() == other.model_dump()  # wherever they were read

    def applied_to(self, plan: Plan) -> Plan:
        """The plan with the batch size and the features that the recipe insists on."""
        topology = plan.topology
        if self.network.features is not None:
            topology = topology.with_features(self.network.features)
        return plan.model_copy(update={"topology": topology, "batch_size": self.batch_size or plan.batch_size})


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
        near = difflib.get_close_matches(wanted, shipped, n=1)
        hint = f"did you mean {near[0]}? Else " if near else ""
        raise InputError(
            f"-r {wanted}: no such recipe; {hint}choose {', '.join(shipped)} or give the path of a YAML file"
        )
    content = _read_yaml(path)
    try:
        recipe = Recipe.model_validate(content)
    except (ValidationError, RecursionError) as error:
        raise InputError(f"{path}: {_explain(error)}") from None
    recipe._given = wanted
    return recipe


def _read_yaml(path: Path) -> dict[Any, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a UTF-8 text; a recipe is a YAML text file: save it as UTF-8") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: not readable as YAML ({reason}); correct that place") from None
    if not isinstance(content, dict):
        found = "nothing" if content is None else repr(content)[:40]
        needed = ", ".join(name for name, field in Recipe.model_fields.items() if field.is_required())
        raise InputError(f"{path}: found {found}, expected keys and values; a recipe has at least {needed}")
    return content


def _explain(error: ValidationError | RecursionError) -> str:
    """The first mistake of a recipe in words that name the key and the cure."""
    if isinstance(error, RecursionError):
        return "an anchor refers to itself; write the values out"
    first = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    field = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        legal = _legal_keys([str(part) for part in first["loc"][:-1]])
        near = difflib.get_close_matches(str(first["loc"][-1]), legal, n=1)
        return f"{field}: unknown key{f'; did you mean {near[0]}?' if near else ''} (legal keys: {', '.join(legal)})"
    if first["type"] == "missing":
        return f"{field}: missing; add it"
    return f"{field}: found {repr(first['input'])[:60]}; {first['msg'].removeprefix('Value error, ')}; correct it"


def _legal_keys(location: Sequence[str]) -> list[str]:
    model: type[BaseModel] = Recipe
    for part in location:
        inner = model.model_fields[part].annotation
        # An optional part is a union with None.
        model = next(
            kind for kind in (inner, *get_args(inner)) if isinstance(kind, type) and issubclass(kind, BaseModel)
        )
    return [field.alias or name for name, field in model.model_fields.items()]
