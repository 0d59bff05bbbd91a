"""One training run as data: the recipe and the parts that its kind of system has."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, PrivateAttr, field_validator, model_validator

from cmb_autoseg.records import Plan, Role, Topology, pooled_patch
from cmb_autoseg.trainers.recipe.boxes import BoxSettings
from cmb_autoseg.trainers.recipe.mixture import MixtureSettings
from cmb_autoseg.trainers.recipe.optimization import OptimizerSettings, ScheduleSettings
from cmb_autoseg.trainers.recipe.patches import (
    AugmentationSettings,
    InferenceSettings,
    LossSettings,
    NetworkSettings,
    SamplingSettings,
    SemiSupervisedSettings,
    TransferSettings,
)
from cmb_autoseg.trainers.recipe.pretraining import PretrainingSettings
from cmb_autoseg.trainers.recipe.settings import Settings
from cmb_autoseg.trainers.recipe.slices import SliceSettings
from cmb_autoseg.trainers.recipe.two_stage import TwoStageSettings
from cmb_autoseg.workspace import PRESETS

__all__ = ["Family", "Recipe"]

Family = Literal["patches", "slices", "boxes", "two_stage", "mixture"]
"""Kinds of systems; each is trained and predicts in its own way, between the same files."""
KINDS: tuple[Family, ...] = ("slices", "boxes", "two_stage", "mixture")
"""Those that a part of the same name makes."""
OWN_PARTS: Mapping[Family, frozenset[str]] = {
    "patches": frozenset(
        {"network", "loss", "sampling", "augmentation", "inference", "pretraining", "transfer", "semi_supervised"}
    ),
    "slices": frozenset({"slices", "schedule"}),
    "boxes": frozenset({"boxes", "schedule"}),
    "two_stage": frozenset({"two_stage", "schedule"}),
    "mixture": frozenset({"mixture"}),
}
"""Parts of a recipe that have a meaning for one kind only, or for some."""
NOT_TRAINED = {"epochs": 1, "steps_per_epoch": 1}
"""Schedule of a mixture, which has none."""
KEYS_OF_MIXTURES = ("schema_", "name", "description", "mixture", "sequences")
"""All that a mixture has: how its members learn, their own recipes say. `sequences` is for comparisons of models that
were trained on one sequence each; files of recipes may not have it."""


class Recipe(Settings):
    """One training run: schedule, network, optimiser, loss, sampling, augmentation, inference.

    Without `slices`, `boxes`, `two_stage` and `mixture` it is of a network that sees 3D patches.
    """

    schema_: Annotated[Literal[1], Field(alias="schema")] = 1
    """Version of this list of keys."""
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$")]
    """Part of a folder's name, in which two underscores in a row separate: small letters, digits, single `_`. At its
    end stands no preset of plans (`_s0`), since folders of models trained by that preset have it there."""
    description: str
    """One line for people."""
    epochs: PositiveInt
    """Epochs; the learning rate falls to 0 at the last."""
    steps_per_epoch: PositiveInt
    """Batches of an epoch."""
    validation_steps: PositiveInt = 10
    """Batches of validation cases after each epoch, for the curves alone."""
    batch_size: PositiveInt | None = None
    """Patches, slices or candidates of a step. Without it, of patches alone: what the plan says."""
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
    schedule: ScheduleSettings = ScheduleSettings()
    slices: SliceSettings | None = None
    """A network that segments axial slices."""
    boxes: BoxSettings | None = None
    """A detector of boxes in axial slices."""
    two_stage: TwoStageSettings | None = None
    """A second look at what another recipe's model proposes."""
    mixture: MixtureSettings | None = None
    """An ensemble of other recipes' models."""
    _given: str | None = PrivateAttr(default=None)

    @field_validator("name")
    @classmethod
    def _names_no_preset(cls, name: str) -> str:
        for preset in PRESETS:
            if name.endswith(f"_{preset}"):
                raise ValueError(f"so end the models trained by plans of preset {preset}")
        return name

    @model_validator(mode="before")
    @classmethod
    def _complete_mixture(cls, content: Any) -> Any:
        is_mixture = isinstance(content, dict) and content.get("mixture") is not None
        return {**NOT_TRAINED, **content} if is_mixture else content

    @model_validator(mode="after")
    def _parts_fit_the_family(self) -> "Recipe":
        kinds = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(kinds) > 1:
            raise ValueError(f"{', '.join(kinds)}: found together; they exclude each other: a recipe has one of them")
        foreign = frozenset[str]().union(*OWN_PARTS.values()) - OWN_PARTS[self.family]
        if self.family == "mixture":
            foreign = frozenset(type(self).model_fields) - frozenset(KEYS_OF_MIXTURES)
        for name in sorted(foreign):
            if getattr(self, name) != NOT_TRAINED.get(name, type(self).model_fields[name].default):
                raise ValueError(f"{name}: has no meaning for a recipe of {self.family}; leave it out")
        if self.family in ("slices", "boxes", "two_stage") and self.batch_size is None:
            raise ValueError(f"batch_size: missing; a recipe of {self.family} needs it")
        if self.inference.fewer_sequences and not self.augmentation.channel_dropout:
            raise ValueError(
                "inference.fewer_sequences: found true while augmentation.channel_dropout is 0, which is what teaches "
                "it; give that a share or leave this out"
            )
        if self.name in self.members:
            part = "two_stage.first" if self.two_stage is not None else "mixture.members"
            raise ValueError(f"{part}: found {self.name}; a recipe cannot be built on itself; name another one")
        return self

    @property
    def family(self) -> Family:
        """Which kind of system it is."""
        return self.family_of({kind: getattr(self, kind) for kind in KINDS})

    @staticmethod
    def family_of(content: Mapping[str, Any]) -> Family:
        """Which kind of system a recipe is, as a file or `plans.json` holds it."""
        return next((kind for kind in KINDS if content.get(kind) is not None), "patches")

    @property
    def members(self) -> tuple[str, ...]:
        """Recipes whose models it is built on: the first stage, or the parts of a mixture."""
        if self.two_stage is not None:
            return (self.two_stage.first,)
        return self.mixture.members if self.mixture is not None else ()

    @property
    def given(self) -> str | None:
        """What `read_recipe` found it by, for messages that say what to type; None of one that was not read."""
        return self._given

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and self.model_dump() == other.model_dump()  # wherever they were read

    def applied_to(self, plan: Plan) -> Plan:
        """The plan with the batch size and the network's levels that the recipe insists on."""
        topology = self.network.topology or plan.topology
        if self.network.features is not None:
            topology = topology.with_features(self.network.features)
        changes = {
            "topology": topology,
            "patch_shape": pooled_patch(plan.patch_shape, topology.divisors),
            "batch_size": self.batch_size or plan.batch_size,
        }
        return plan.model_copy(update=changes)

    def beginning_with(self, topology: Topology) -> "Recipe":
        """The recipe with the levels of a trained network, whose weights it is to begin with."""
        network = self.network.model_copy(update={"topology": topology, "features": None})
        return self.model_copy(update={"network": network})
