"""How scans are prepared: settings that cards hold and models keep, and what was done."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat

from cmb_autoseg.records.record import Probability, Record
from cmb_autoseg.records.roles import Role

__all__ = ["BrainNetworkSettings", "PrepSettings", "RegistrationBounds", "StepRecord"]


class BrainNetworkSettings(Record):
    """Where the weights of HD-BET's network are."""

    folder: str
    """With dataset.json, plans.json and fold_all/checkpoint_final.pth."""
    sha256: str | None = None
    """Of the checkpoint; None takes whatever is there and writes its digest down."""
    device: Literal["cuda", "cpu"] | None = None
    """Where it runs, which like the folder is no part of what a mask depends on; None for cuda where there is one."""


class RegistrationBounds(Record):
    """What a co-registration of two sequences of one person may come to; more is refused."""

    max_translation_mm: Annotated[float, Field(gt=0)] = 40.0
    max_rotation_deg: Annotated[float, Field(gt=0)] = 30.0
    max_scale: Annotated[float, Field(gt=1)] = 1.1
    min_overlap: Probability = 0.7
    min_information: Annotated[float, Field(ge=0)] = 0.02
    """Nats, inside the brain."""
    min_detail: Probability = 0.5
    """Share of that information which is lost when the sequence is displaced by 6 mm. What lies true loses most of
    it, another person's head, which fits in the large only, about a quarter, a mirrored one less than half."""
    on_failure: Literal["refuse", "leave_out"] = "refuse"
    """What becomes of a case whose sequence cannot be registered: it is refused, or goes on without that sequence."""


class PrepSettings(Record):
    """How `prepare_case` treats a scan; part of a card under `prep`, stored with the model."""

    nan: Literal["repair", "refuse"] = "repair"
    distortion: str | None = None
    """Name of an installed correction of susceptibility distortion; None for none."""
    brain: Literal["auto", "given", "already_masked", "hd_bet", "classical", "none"] = "auto"
    """`auto`: a given mask, else the zero background of a stripped scan, else HD-BET where its weights are named,
    else the classical mask."""
    skull: Annotated[Literal["any", "on"], Field(exclude_if=lambda skull: skull == "any")] = "any"
    """`on`: a model that expects whole heads, warned of a scan that shows the brain alone, and not of the classical
    mask. Left out of digests where it is `any`: it changes no voxel."""
    hd_bet: BrainNetworkSettings | None = None
    reference: Role | None = None
    """The sequence whose grid the case lives on; None for the first susceptibility sequence."""
    coregister: Literal["affine", "rigid", "header", "refuse"] = "affine"
    """How sequences come to the reference's grid: co-registered, by their headers alone, or not at all."""
    coregister_when: Literal["other_grid", "always"] = "other_grid"
    """`always` co-registers sequences that share the reference's grid, too."""
    registration: RegistrationBounds = RegistrationBounds()
    bias: Literal["none", "n4"] = "none"
    derived: tuple[Literal[Role.FRST, Role.LOCAL_PHASE, Role.QSM_SIGN], ...] = ()
    """Further channels that are made of the sequences."""
    frst_radii_mm: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (1.0, 1.5, 2.0, 2.5, 3.0)
    normalize: Literal["none", "zscore"] = "none"
    """Per sequence inside the brain; the network's input is normalized in any case."""


class StepRecord(Record):
    """What one step of `prepare_case` did."""

    step: str
    decision: str
    """In plain words."""
    figures: dict[str, float] = Field(default_factory=dict)
