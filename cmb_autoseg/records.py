"""Records: what one stage hands to the next. Data only; the JSON of a record is the object.

Distances are millimetres. Points and affines are RAS. Arrays that nnU-Net sees are ordered
(z, y, x), and so are `spacing_mm` and `*_shape` of plans; everything else is in file order (i, j, k).
"""

import json
import math
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError, model_validator

from cmb_autoseg.errors import InputError
from cmb_autoseg.files import read_json, text_digest, write_json

__all__ = [
    "DERIVED_ROLES",
    "SUSCEPTIBILITY_ROLES",
    "Affine",
    "BrainMaskSource",
    "BrainNetworkSettings",
    "Case",
    "CaseFingerprint",
    "Fingerprint",
    "FoldModel",
    "ImageSource",
    "IntensityRange",
    "LabelSource",
    "Lesion",
    "LesionSize",
    "LesionTable",
    "Model",
    "OperatingPoint",
    "Plan",
    "PrepSettings",
    "Reason",
    "Record",
    "RegistrationBounds",
    "Role",
    "StepRecord",
    "TableRows",
    "Topology",
    "TrainingRange",
    "Triple",
]

T = TypeVar("T")
Triple = tuple[T, T, T]
Count = Annotated[int, Field(ge=1)]
Probability = Annotated[float, Field(ge=0, le=1)]


class Role(StrEnum):
    """What a sequence is, whatever its cohort calls it."""

    SWI = "swi"
    GRE_MAG = "gre_mag"
    GRE_PHASE = "gre_phase"
    QSM = "qsm"
    T1 = "t1"
    T2 = "t2"
    FLAIR = "flair"
    FRST = "frst"
    LOCAL_PHASE = "local_phase"
    QSM_SIGN = "qsm_sign"


SUSCEPTIBILITY_ROLES = (Role.SWI, Role.GRE_MAG, Role.QSM)
"""Roles in which a microbleed is visible, in the order in which one is chosen as reference grid."""

DERIVED_ROLES = (Role.FRST, Role.LOCAL_PHASE, Role.QSM_SIGN)
"""Channels that preparation makes of other sequences; no file has such a role."""


class Record(BaseModel):
    """Base of all records: immutable, strict about its fields, written as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True)

    def write(self, path: Path) -> None:
        """Write as JSON under a temporary name, then rename."""
        write_json(path, self.model_dump(mode="json"))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read back what `write` wrote.

        Raises:
            InputError: the file is missing, is no JSON, or is no such record; names the field.
        """
        return cls.parse(read_json(path), str(path))

    @classmethod
    def parse(cls, content: Any, where: str) -> Self:
        """A record from JSON content that another file holds.

        Args:
            content: what the JSON says.
            where: the file, and the key in it, for messages.

        Raises:
            InputError: it is no such record; names the field.
        """
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise InputError(
                f"{where}: {f'field {field}: ' if field else ''}{first['msg'].removeprefix('Value error, ')}; "
                "made by another version? run its stage again"
            ) from None

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON; equal records have equal digests."""
        return text_digest(json.dumps(self.model_dump(mode="json"), sort_keys=True))


Row = tuple[float, float, float, float]
Affine = tuple[Row, Row, Row, Row]
"""Voxel indices (i, j, k, 1) to RAS millimetres, row by row."""


class ImageSource(Record):
    """One sequence of one case: its file or files, and which volume of them."""

    path: str
    """A file; `ARCHIVE!/MEMBER`; of several files the folder that messages name."""
    kind: Literal["volume", "dicom", "pictures"] = "volume"
    """One volume file; the files of a DICOM series; 2D pictures, one a slice."""
    files: tuple[str, ...] = ()
    """Of a DICOM series or of pictures, these in the order of slices; "" where a slice is absent."""
    echo: int | None = None
    part: Literal["magnitude", "phase"] | None = None
    """Of a DICOM series that holds both."""
    variable: str | None = None
    """Of a .mat file: the array's name; None where it holds one volume."""
    affine: Affine | None = None
    """The geometry of formats that hold none (.mat, pictures)."""
    copy_geometry_from: Role | None = None
    """Take the affine of this sequence instead of the file's own (same shape needed)."""


class LabelSource(Record):
    """Where the microbleeds of one case are marked."""

    kind: Literal["mask", "points", "boxes", "reviewed"]
    """`reviewed`: somebody looked and found no microbleed; there is nothing to read."""
    path: str
    """As in `ImageSource`; of `reviewed` the file that says so, or what else does."""
    raters: dict[str, str] = Field(default_factory=dict)
    """Further readings: rater to path; `path` is then the first of them."""
    combine: Literal["union", "majority"] = "union"
    """A voxel counts when one reader marked it, or more than half of them."""
    reviewed: bool = False
    """The card also says that somebody looked and found none; lesions contradict that."""
    files: tuple[str, ...] = ()
    """Boxes in pictures: the file of each slice of the reference, in its order; "" where a slice has none."""
    pictures: tuple[str, ...] = ()
    """Boxes in pictures: the picture of each slice, by which COCO finds its boxes."""
    values: dict[str, int | str] = Field(default_factory=dict)
    """Mask: name of each label to its integer; boxes: to its class's number or name; `cmb` is what counts."""
    variable: str | None = None
    """Of a .mat file: the array of points, or of the mask."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Points: names of the columns that hold x, y, z and, if there is one, radius_mm."""
    sheet: str | None = None
    """Of an .xlsx file; None for the first."""
    rows: "TableRows | None" = None
    """Of a table of many cases: which rows are this case's."""
    space: Literal["ras_mm", "lps_mm", "voxel0", "voxel1"] = "ras_mm"
    radius_mm: float = 1.5
    format: Literal["yolo", "voc", "coco", "table"] | None = None
    """Of boxes."""
    grid: Role | None = None
    """The sequence on whose grid the mask, voxels or boxes are; None for the reference."""
    resample: Literal["refuse", "nearest"] = "refuse"
    """What to do with a mask whose grid is not its image's."""


class TableRows(Record):
    """The rows of one case in a table of many."""

    column: str
    equals: str
    wide: bool = False
    """One row a case: x, y, z of one point after the other follow in its cells; else a row a point."""


class BrainMaskSource(Record):
    """A brain mask that comes with the cohort."""

    source: ImageSource
    grid: Role | None = None
    """The sequence on whose grid it is; None for the reference."""


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


class Case(Record):
    """One subject-session: its sequences, its label if it has one, and what the card says of it."""

    name: str
    cohort: str
    subject: str
    session: str | None = None
    images: dict[Role, ImageSource]
    label: LabelSource | None = None
    brain_mask: BrainMaskSource | None = None
    split: Literal["train", "test"] = "train"
    prep: PrepSettings = PrepSettings()
    meta: dict[str, str] = Field(default_factory=dict)
    """Further columns of cases.tsv (site, field_strength_t, free columns of the card)."""
    notes: dict[Role, str] = Field(default_factory=dict)
    """What was assumed, chosen or left out of a sequence when the files were sorted; warnings for the user."""
    disguise: Callable[[str], str] | None = Field(default=None, exclude=True, repr=False)
    """Of predictions with privacy.hash_ids: takes identifiers and folders out of a text. Never written."""

    def shown(self, text: str) -> str:
        """A text as it may be written and logged."""
        return text if self.disguise is None else self.disguise(text)

    def shown_file(self, role: Role) -> str:
        """What records call the file of a sequence: its name, of an archive with the member's place in it.

        Where people have pseudonyms it is the role alone, since names of files hold more than identifiers.
        """
        if self.disguise is not None:
            return role.value
        archive, separator, member = self.images[role].path.partition("!/")
        return f"{Path(archive).name}{separator}{member}"

    @property
    def reference_role(self) -> Role:
        """The sequence whose grid the case lives on: the card's, else the first susceptibility role it has."""
        if self.prep.reference in self.images:
            return self.prep.reference
        return next((role for role in SUSCEPTIBILITY_ROLES if role in self.images), next(iter(self.images)))


class Lesion(Record):
    """One 26-connected component."""

    lesion: int
    """Number of the component, from 1, by falling volume."""
    x_mm: float
    y_mm: float
    z_mm: float
    """Centre of mass in RAS millimetres."""
    i: int
    j: int
    k: int
    """The voxel nearest to the centre of mass, on the input's grid, from 0."""
    volume_mm3: float
    diameter_mm: float
    """Of the sphere of equal volume."""
    prob_max: Probability
    prob_mean: Probability
    region: Literal["lobar", "deep", "infratentorial", "unknown"] = "unknown"


class LesionTable(Record):
    """The lesions of one case, predicted or marked by a reader."""

    case: str
    lesions: tuple[Lesion, ...] = ()
    parents: tuple[str, ...] = ()

    def rows(self) -> list[dict[str, Any]]:
        """One dict a lesion, for a table; the key `case` comes first."""
        return [{"case": self.case, **lesion.model_dump()} for lesion in self.lesions]


class OperatingPoint(Record):
    """A threshold on the probability map, with the reason for it."""

    name: str
    threshold: Annotated[float, Field(gt=0, lt=1)]
    min_volume_mm3: float = 0.0
    rule: str
    sensitivity: float | None = None
    precision: float | None = None
    f1: float | None = None
    fp_per_scan: float | None = None


class IntensityRange(Record):
    """Grey values of one sequence inside the brain, and inside the lesions where there are any."""

    mean: float
    std: float
    p01: float
    p99: float
    lesion_mean: float | None = None


class LesionSize(Record):
    """One marked lesion of a prepared case: its number, place and size."""

    lesion: int
    """As `label_components` numbers the mask in file order: by falling volume, from 1."""
    x_mm: float
    y_mm: float
    z_mm: float
    """Centre of mass in RAS millimetres."""
    voxels: int
    slices: int
    """Along the case's axis of thickest slices."""
    volume_mm3: float
    diameter_mm: float
    """Of the sphere of equal volume."""


class CaseFingerprint(Record):
    """What the planner needs to know of one prepared case; axes (z, y, x) of the canonical grid."""

    case: str
    cohort: str
    subject: str
    labelled: bool
    sequences: tuple[Role, ...]
    shape: Triple[int]
    spacing_mm: Triple[float]
    box_start: Triple[int]
    box_stop: Triple[int]
    """The box of non-zero voxels, stop excluded: what nnU-Net crops to."""
    brain_volume_ml: float
    field_strength_t: float | None = None
    intensity: dict[Role, IntensityRange]
    lesions: tuple[LesionSize, ...] = ()


class Fingerprint(Record):
    """The training part of one dataset in numbers, case by case."""

    dataset: str
    roles: tuple[Role, ...]
    """Of the raw dataset's channels, in their order."""
    cases: tuple[CaseFingerprint, ...]
    prep: PrepSettings = PrepSettings()
    """How the scans were prepared; of several ways the one of most cases."""
    parents: tuple[str, ...] = ()


class Topology(Record):
    """Levels of the network, finest first; kernels and strides are (z, y, x)."""

    features_per_stage: tuple[Count, ...]
    kernel_sizes: tuple[Triple[Count], ...]
    strides: tuple[Triple[Count], ...]
    n_blocks_per_stage: tuple[Count, ...]

    @model_validator(mode="after")
    def _levels_agree(self) -> Self:
        lengths = [len(values) for values in (self.features_per_stage, self.kernel_sizes, self.n_blocks_per_stage)]
        if lengths != [len(self.strides)] * 3:
            raise ValueError(f"{len(self.strides)} levels by strides, but features, kernels and blocks have {lengths}")
        return self

    def with_features(self, features: Sequence[int]) -> "Topology":
        """The same levels with other numbers of features; fewer numbers make fewer levels."""
        levels = min(len(features), len(self.strides))
        return Topology(
            features_per_stage=tuple(features[:levels]),
            kernel_sizes=self.kernel_sizes[:levels],
            strides=self.strides[:levels],
            n_blocks_per_stage=self.n_blocks_per_stage[:levels],
        )


class TrainingRange(Record):
    """What a model has seen; a scan outside it is predicted with a warning. Axes (z, y, x)."""

    sequences: tuple[Role, ...]
    spacing_mm_min: Triple[float]
    spacing_mm_max: Triple[float]
    brain_volume_ml: tuple[float, float]
    field_strength_t: tuple[float, ...] = ()


class Reason(Record):
    """One choice of the planner in plain words, with what led to it."""

    topic: Literal["channels", "grid", "lesions", "patch", "network", "memory"]
    text: str
    """What was chosen and why, with numbers and units."""
    rule: str
    """The rule that was followed, and where it comes from."""


class Plan(Record):
    """How one dataset is trained: channels, grid, patch and network.

    Arrays are (z, y, x) after `transpose_forward`, which puts the axis of the thickest slices first.
    """

    dataset: str
    preset: Literal["adaptive", "s0"]
    channels: tuple[Role, ...]
    transpose_forward: Triple[int]
    spacing_mm: Triple[float]
    median_shape: Triple[int]
    patch_shape: Triple[Count]
    batch_size: Count
    topology: Topology
    preserve_lesions: bool
    """Masks are resampled lesion by lesion, so that none vanishes; else by plain trilinear weights."""
    lesions_before: int
    lesions_after: int
    lost_lesions: tuple[str, ...] = ()
    """`case#number` of lesions that vanish or merge at this spacing; empty unless the user allowed it."""
    device: Literal["cuda", "cpu"]
    memory_target_gb: float
    """What the user asked for; `memory_gb` stays below."""
    memory_gb: float
    """Estimated accelerator memory of training."""
    reasons: tuple[Reason, ...]
    """Why this channel set, spacing, patch and network."""
    warnings: tuple[str, ...] = ()
    """What is legal but costs more than it need: thin slices of a few cases, cases that grow a lot."""
    training_range: TrainingRange
    prep: PrepSettings = PrepSettings()
    """How the scans were prepared; one that is predicted gets the same grey values."""
    parents: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _patch_can_be_pooled(self) -> Self:
        """Every level must halve without a rest, else the decoder's maps do not fit the encoder's."""
        for axis, side, *steps in zip("zyx", self.patch_shape, *self.topology.strides, strict=True):
            divisor = math.prod(steps)
            if side % divisor:
                raise ValueError(
                    f"patch_shape has {side} voxels along {axis}, which the network's strides need as a multiple of "
                    f"{divisor}"
                )
        return self


class Encoder(Record):
    """A pretrained encoder: what it fits and whom it has seen. Part of `encoder.pt`, and beside it for people."""

    name: str
    """Of the recipe that made it: its folder below `encoders/`."""
    method: Literal["barlow_twins", "masked_autoencoding", "imagenet"]
    datasets: tuple[str, ...]
    """The first one's plan gave channels, grid and network."""
    fold: int | None
    """The fold of the first dataset whose training subjects it saw too; None for unlabelled cases alone."""
    seed: int
    steps: int
    """Optimizer steps."""
    channels: tuple[Role, ...]
    """Of the input stem, in its order."""
    topology: Topology
    patch_shape: Triple[Count]
    subjects: tuple[str, ...]
    """`cohort/subject` of everyone that the weights have learned from, sorted."""
    n_cases: int
    weights: str
    """Digest of the weights."""
    parents: tuple[str, ...]
    """Digests of the plan and of the recipe; for `imagenet` of the weights' file too."""
    spacing_mm: Triple[float] | None = None
    """Of the plan's grid, in the order of its axes; None in files of earlier versions, as with what follows."""
    identity: str | None = None
    """Digest of plan, seed, datasets and recipe: what the encoders of one model's folds share."""
    recipe: dict[str, Any] | None = None
    """The part of the recipe that pretraining looks at, but for what changes memory and time alone."""


class FoldModel(Record):
    """One trained fold: what it learned from and what it must be judged on."""

    dataset: str
    recipe: str
    fold: int
    seed: int
    epochs: int
    steps_per_epoch: int
    training_cases: tuple[str, ...]
    validation_cases: tuple[str, ...]
    training_subjects: tuple[str, ...]
    """`cohort/subject` of everyone the weights have learned from, in pretraining and of unlabelled cases too."""
    unlabelled_cases: tuple[str, ...] = ()
    """Of semi-supervised training."""
    encoder: Encoder | None = None
    """What its encoder was before the first step; None for random weights."""
    budget: float = 1.0
    """Share of the fold's labelled training subjects that it was given."""
    validation_subjects: tuple[str, ...]
    checkpoint: str
    """SHA-256 of `checkpoint_final.pth`."""
    parents: tuple[str, ...]
    """Digests of the plan and of the recipe, and of the encoder's weights where there was one."""


class Model(Record):
    """The finished folds of one recipe on one dataset: the model card, in `model.json`."""

    dataset: str
    recipe: str
    channels: tuple[Role, ...]
    folds: dict[int, str]
    """Digest of each fold's checkpoint."""
    seed: int
    n_cases: int
    n_subjects: int
    n_lesions: int
    training_range: TrainingRange
    intended_use: str = "Research use. Not a medical device; not for diagnosis or treatment decisions."
    parents: tuple[str, ...]
    """Digests of the plan and of the recipe."""
